"""The embedded Redis with real processes: it dies with the worker, comes back when it dies alone, and loses nothing that was answered."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.conftest import ASYNCIO, UVLOOP
from worker.adapters.data_dir import held_data_dir, remember_server, stop_former_server
from worker.adapters.embedded_redis import LOG_BYTES, EmbeddedRedis, embedded_redis
from worker.adapters.redis_binary import find_redis_binary
from worker.domain.errors import ConfigurationError, DependencyUnreachable

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
BOTH_LOOPS = pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])


def ask(path: Path | str, *command: str) -> bytes:
    """One command to the server, its raw answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall((" ".join(command) + "\r\n").encode())
        return connection.recv(65_536)


async def asked(server: EmbeddedRedis, *command: str) -> bytes:
    return await to_thread.run_sync(lambda: ask(server.socket, *command))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(holds: Callable[[], bool], within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """Another process that holds the directory: the process, its server's process id and socket."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/e2e/redis_child.py", folder],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        pid, path = process.stdout.readline().split()
        try:
            yield process, int(pid), Path(path)
        finally:
            process.kill()
            shutil.rmtree(Path(path).parent, ignore_errors=True)
    finally:
        process.kill()
        process.communicate()


@BOTH_LOOPS
async def test_it_serves_on_a_private_socket_fsyncs_every_write_and_leaves_nothing_behind(tmp_path: Path, anyio_backend: object) -> None:
    async with embedded_redis(tmp_path / "data") as server:
        assert await asked(server, "PING") == b"+PONG\r\n"
        assert server.url == f"unix://{server.socket}"
        assert len(os.fsencode(server.socket)) <= 107
        assert b"always" in await asked(server, "CONFIG", "GET", "appendfsync")
        assert b"noeviction" in await asked(server, "CONFIG", "GET", "maxmemory-policy")
        assert server.socket.parent.stat().st_mode & 0o077 == 0
        pid = server.pid
    assert pid is not None
    assert not is_alive(pid)
    assert not server.socket.parent.exists()


async def test_it_runs_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_sigkill_of_the_worker_leaves_no_server_and_the_next_start_has_every_answered_write(tmp_path: Path) -> None:
    with holder(tmp_path) as (worker, pid, path):
        assert ask(path, "SET", "told", "yes") == b"+OK\r\n"
        worker.kill()
        assert until(lambda: not is_alive(pid), within_s=20)
    begun_s = time.monotonic()
    with holder(tmp_path) as (_, _, next_path):
        assert time.monotonic() - begun_s < 30
        assert ask(next_path, "GET", "told") == b"$3\r\nyes\r\n"
        assert not path.parent.exists()  # what the killed one left in the way


def test_a_half_written_command_at_the_end_of_the_file_does_not_stop_the_next_start(tmp_path: Path) -> None:
    with holder(tmp_path) as (worker, pid, path):
        ask(path, "SET", "told", "yes")
        worker.kill()
        assert until(lambda: not is_alive(pid), within_s=20)
    newest = max([*tmp_path.glob("*.aof"), *tmp_path.glob("appendonlydir/*.incr.aof")], key=lambda found: found.stat().st_mtime)
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    with holder(tmp_path) as (_, _, path):
        assert ask(path, "GET", "told") == b"$3\r\nyes\r\n"


async def test_a_second_worker_on_the_same_directory_is_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as (worker, pid, _):
        with pytest.raises(ConfigurationError) as told:
            async with embedded_redis(tmp_path):
                raise AssertionError("must not start")
        assert f"process id {worker.pid}" in str(told.value)
        assert is_alive(pid)


async def test_it_is_started_again_when_it_dies_alone_on_the_same_socket_with_its_data(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as server, anyio.create_task_group() as group:
        group.start_soon(server.supervise)
        first = server.pid
        assert first is not None
        await asked(server, "SET", "told", "yes")
        os.kill(first, signal.SIGKILL)
        with anyio.fail_after(10):
            await to_thread.run_sync(until, lambda: server.statistics()["restarts"] == 1, 10)
        assert server.pid not in {None, first}
        assert await asked(server, "GET", "told") == b"$3\r\nyes\r\n"
        group.cancel_scope.cancel()


def test_a_server_that_outlived_its_worker_is_stopped_even_when_it_is_frozen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    arguments = [str(find_redis_binary().path), "--port", "0", "--unixsocket", path.name, "--save", ""]
    left_over = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        assert until(path.exists, 20)
        left_over.send_signal(signal.SIGSTOP)
        assert until(lambda: Path(f"/proc/{left_over.pid}/stat").read_text().split()[2] == "T", 20)
        with held_data_dir(tmp_path) as folder:
            remember_server(folder, left_over.pid, str(tmp_path / "wa-redis-old" / "s"))
            assert stop_former_server(folder) == left_over.pid
            assert left_over.wait(20) == -signal.SIGKILL
            assert stop_former_server(folder) is None
    finally:
        left_over.kill()
        left_over.wait()


def test_a_stranger_with_the_same_process_id_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with held_data_dir(tmp_path) as folder:
            remember_server(folder, stranger.pid, str(tmp_path / "wa-redis-old" / "s"))
            record = (folder / "server.json").read_text()
            (folder / "server.json").write_text(record.replace('"born": "', '"born": "1'))
            assert stop_former_server(folder) is None
            assert is_alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.communicate()


async def test_a_directory_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"data_dir \(WORKER_DATA_DIR\): .*name a directory"):
        async with embedded_redis(tmp_path / "file" / "data"):
            raise AssertionError("must not start")


async def test_a_server_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"this is no append-only file\r\n")
    with pytest.raises(DependencyUnreachable, match="Bad file format"):
        async with embedded_redis(tmp_path):
            raise AssertionError("must not start")
    assert (tmp_path / "appendonly.aof").read_bytes() == b"this is no append-only file\r\n"


async def test_a_newer_servers_data_is_refused_rather_than_shadowed_by_an_empty_store(tmp_path: Path) -> None:
    if (await to_thread.run_sync(find_redis_binary)).version >= (7, 0):
        return  # this machine's server reads such data
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(ConfigurationError, match="Redis 7 or newer"):
        async with embedded_redis(tmp_path):
            raise AssertionError("must not start")


async def test_the_servers_log_stays_bounded(tmp_path: Path) -> None:
    (tmp_path / "redis.log").write_text("an old line\n" * (LOG_BYTES // 6))
    async with embedded_redis(tmp_path):
        assert (tmp_path / "redis.log").stat().st_size < LOG_BYTES


def test_without_a_server_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("worker.adapters.redis_binary._IN_WHEELS", ())
    with pytest.raises(ConfigurationError, match=r"apt install redis-server.*WORKER_REDIS__URL=redis://"):
        find_redis_binary()
