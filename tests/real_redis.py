"""A real redis-server for tests: on a unix socket in a short temporary directory, append-only, ended by its pid."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.adapters.redis_binary import find_redis_binary

STARTS_WITHIN_S = 10.0


class RealRedis:
    """`url` stays the same over `restart`; `stop` keeps the data, `close` removes it. `settings` are lines of redis.conf."""

    def __init__(self, **settings: str) -> None:
        # Unix socket paths end at 107 bytes: pytest's own directories are too deep.
        self.directory = Path(tempfile.mkdtemp(prefix="rr-"))
        self.socket = self.directory / "s"
        self.url = f"unix://{self.socket}"
        self.port = _free_port()
        """For replication, which knows no unix socket."""
        self._settings = {"appendonly": "yes", "appendfsync": "everysec", "save": "", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Returns when the server answers and has loaded its data."""
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        binary = find_redis_binary().path
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "--port", str(self.port), "--unixsocket", self.socket, "--dir", self.directory, "--loglevel", "warning", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ends_at_s = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends_at_s:
                raise RuntimeError(f"redis-server did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)  # noqa: TID251 (a child process sends no event when it is ready)

    def stop(self) -> None:
        """SIGTERM: the server writes what it has and goes."""
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(kill=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self._end(kill=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            (process.kill if kill else process.terminate)()
            process.wait(STARTS_WITHIN_S)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def real_redis(**settings: str) -> Iterator[RealRedis]:
    """One server for the length of a `with`."""
    with RealRedis(**settings) as server:
        yield server
