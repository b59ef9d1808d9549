"""A real Redis server as a child of the worker: started, watched, started again, stopped last.

In a session of its own (a terminal's Ctrl-C is for the worker, which still needs its store to drain), tied to the worker's life
(`tethered.py`), every write fsynced before it is answered, on a directory that nobody else uses (`data_dir.py`). This file speaks to
it only to learn whether it serves; data goes through `adapters/redis*.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import BinaryIO

import anyio
import anyio.abc
import structlog
from anyio import to_thread

from worker.adapters.data_dir import SOCKET_FOLDER_PREFIX, held_data_dir, remember_server, stop_former_server
from worker.adapters.redis_binary import RedisBinary, find_redis_binary
from worker.domain.backoff import doubled_s
from worker.domain.errors import ConfigurationError, DependencyUnreachable, WorkerError

ANSWER_DEADLINE_S = 15.0
"""From the start to the first answer, be it "still loading"."""
LOAD_DEADLINE_S = 300.0
STOP_DEADLINE_S = 10.0
LOG_BYTES = 1 << 20
_LOG_KEPT_BYTES = 1 << 18
_LOG_LOOK_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_STEADY_S = 30.0
_LOOK_EVERY_S = 0.01
_PING_TIMEOUT_S = 2.0
_SOCKET_PATH_BYTES = 103
"""What every system allows (Linux 107, macOS 103)."""
_TAIL_LINES = 5

log = structlog.get_logger("worker.embedded_redis")


@asynccontextmanager
async def embedded_redis(data_dir: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server that answers, on `data_dir`; at the end it is stopped, also when cancelled, within `STOP_DEADLINE_S`.

    Enter from the main thread (the server is tied to the thread that starts it). Raises `ConfigurationError` (directory held or not
    writable, no server to start, a newer server's data) and `DependencyUnreachable` (it does not come up; with its last words).
    """
    async with prepared_redis(data_dir) as server:
        await server.start()
        yield server


@asynccontextmanager
async def prepared_redis(data_dir: Path) -> AsyncIterator[EmbeddedRedis]:
    """The same, but not started yet: the directory is held and the address known, for who wants to wait for the server elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        msg = "start the embedded Redis from the main thread: it would die with this one"
        raise RuntimeError(msg)
    held = ExitStack()
    server = None
    try:
        server = await to_thread.run_sync(_prepared, data_dir, held)
        yield server
    finally:
        with anyio.CancelScope(shield=True):  # bounded inside
            if server is not None:
                await server.stop()
            await to_thread.run_sync(held.close)


def _prepared(data_dir: Path, held: ExitStack) -> EmbeddedRedis:
    """Everything before the start; `held` gives it back. Blocks."""
    folder = held.enter_context(held_data_dir(data_dir))
    binary = find_redis_binary()
    _refuse_newer_data(folder, binary)
    if (former := stop_former_server(folder)) is not None:
        log.warning("stopped the Redis server of a former run", pid=former)
    socket_folder = _short_folder()
    held.callback(shutil.rmtree, socket_folder, ignore_errors=True)
    return EmbeddedRedis(binary, folder, socket_folder / "s")


class EmbeddedRedis:
    """One data directory's server. `start` and `stop` are the context manager's; `supervise` is for a task group."""

    alone = True
    """The directory's lock is ours: no other process can hold a lease on this store."""

    def __init__(self, binary: RedisBinary, folder: Path, socket: Path) -> None:
        self.socket = socket
        self._binary = binary
        self._folder = folder
        self._log = folder / "redis.log"
        self._process: anyio.abc.Process | None = None
        self._stopping = False
        self._restarts = 0

    def __repr__(self) -> str:
        return f"<EmbeddedRedis pid={self.pid} restarts={self._restarts}>"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def statistics(self) -> dict[str, object]:
        return {"pid": self.pid, "restarts": self._restarts, "version": ".".join(map(str, self._binary.version))}

    async def start(self) -> None:
        """Starts and waits until it serves. Raises `DependencyUnreachable`; a server that did not come up is not left behind."""
        try:
            self._process = process = await self._launched()
            await to_thread.run_sync(remember_server, self._folder, process.pid, str(self.socket))
            await self._until_it_serves(process)
        except BaseException as exc:
            with anyio.CancelScope(shield=True):  # bounded inside
                await self._end()
            if isinstance(exc, OSError):
                msg = f"the embedded Redis server cannot be started in {self._folder}: {exc.strerror}"
                raise DependencyUnreachable(msg) from exc
            raise

    async def _launched(self) -> anyio.abc.Process:
        shim = Path(__file__).with_name("tethered.py")
        command = [sys.executable, "-I", "-S", str(shim), str(os.getpid()), str(self._binary.path), *self._arguments()]
        with await to_thread.run_sync(_opened, self._log) as words:
            return await anyio.open_process(command, stdin=DEVNULL, stdout=words, stderr=words, start_new_session=True)

    async def supervise(self) -> None:
        """Starts the server again whenever it dies alone, after 0.1 s doubling to 5 s. Runs until cancelled; never raises by itself."""
        failures = 0
        while True:
            up_at_s = anyio.current_time()
            code = await self._until_it_dies()
            if self._stopping:
                return
            failures = 0 if anyio.current_time() - up_at_s > _STEADY_S else failures + 1
            log.error("the embedded Redis server died; starting it again", exit_code=code, last_words=await self._last_words())
            await anyio.sleep(doubled_s(_FIRST_PAUSE_S, failures, _LONGEST_PAUSE_S))
            try:
                await self.start()
            except WorkerError as exc:
                log.error("the embedded Redis server does not come up", error=str(exc))  # noqa: TRY400 - the cause is in it
            else:
                self._restarts += 1
                log.info("the embedded Redis server is back", pid=self.pid, restarts=self._restarts)

    async def stop(self) -> None:
        """Ends it: gently, then by SIGKILL. Idempotent; at most `STOP_DEADLINE_S`."""
        self._stopping = True
        await self._end()

    async def _until_it_dies(self) -> int | None:
        while (process := self._process) is not None:
            with anyio.move_on_after(_LOG_LOOK_S):
                return await process.wait()
            await to_thread.run_sync(_keep_tail, self._log)
        return None

    async def _until_it_serves(self, process: anyio.abc.Process) -> None:
        """Looks again and again: a unix socket that does not exist yet gives nothing to wait on."""
        begun_s = anyio.current_time()
        deadline, patience_s = "embedded Redis first answer", ANSWER_DEADLINE_S
        while anyio.current_time() - begun_s < patience_s:
            if process.returncode is not None:
                msg = f"the embedded Redis server ended with {process.returncode} at its start: {await self._last_words()}"
                raise DependencyUnreachable(msg)
            answer = await _ping(self.socket)
            if answer.startswith(b"+PONG"):
                return
            if answer:
                deadline, patience_s = "embedded Redis load", LOAD_DEADLINE_S
            await anyio.sleep(_LOOK_EVERY_S)
        msg = f"deadline '{deadline}' ({patience_s:g} s) passed: {await self._last_words()}"
        raise DependencyUnreachable(msg)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        with anyio.move_on_after(STOP_DEADLINE_S / 2):
            await process.wait()
            return
        process.kill()
        with anyio.move_on_after(STOP_DEADLINE_S / 2):
            await process.wait()

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "logfile": str(self._log),
            "loglevel": "notice",
            "daemonize": "no",
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": "always",  # group commit makes it cheap
            "aof-load-truncated": "yes",  # a SIGKILL in the middle of a write leaves half of what nobody was told
            "save": "",
            "maxmemory-policy": "noeviction",  # an evicted lease is two owners
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    async def _last_words(self) -> str:
        return await to_thread.run_sync(_tail, self._log)


async def _ping(socket: Path) -> bytes:
    """What the server says: `+PONG…`, `-LOADING…`; empty when it does not listen or does not answer in 2 s."""
    with anyio.move_on_after(_PING_TIMEOUT_S):
        try:
            async with await anyio.connect_unix(socket) as stream:
                await stream.send(b"PING\r\n")
                return await stream.receive(256)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return b""
    return b""


def _refuse_newer_data(folder: Path, binary: RedisBinary) -> None:
    # A 6.2 would start beside a 7's files, see none of them, and serve an empty store.
    if binary.version < (7, 0) and (folder / "appendonlydir").exists():
        why = (
            f"data_dir (WORKER_DATA_DIR): {folder}: written by Redis 7 or newer, which {binary.path} "
            f"({binary.version[0]}.{binary.version[1]}) cannot read; put that server on PATH again"
        )
        raise ConfigurationError([why])


def _short_folder() -> Path:
    for base in (None, "/tmp"):  # noqa: S108 - mkdtemp makes it private
        try:
            folder = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=base))
        except OSError as exc:
            raise ConfigurationError([f"TMPDIR: {exc.strerror}; the embedded Redis needs a place for its socket"]) from exc
        if len(os.fsencode(folder / "s")) <= _SOCKET_PATH_BYTES:
            return folder
        folder.rmdir()
    msg = f"TMPDIR: too long for a unix socket ({_SOCKET_PATH_BYTES} bytes); name a shorter one"
    raise ConfigurationError([msg])


def _opened(path: Path) -> BinaryIO:
    _keep_tail(path)
    return path.open("ab")


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as exc:
        return f"(no log: {exc.strerror})"
    return " / ".join(line.strip() for line in lines[-_TAIL_LINES:] if line.strip()) or "(it said nothing)"


def _keep_tail(path: Path) -> None:
    """Bounds the server's log. It opens the file anew for each line, so the file may be rewritten under it."""
    try:
        if path.stat().st_size <= LOG_BYTES:
            return
        with path.open("rb") as old:
            old.seek(-_LOG_KEPT_BYTES, os.SEEK_END)
            tail = old.read()
        path.write_bytes(tail.partition(b"\n")[2])
    except FileNotFoundError:
        return
