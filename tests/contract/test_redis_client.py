"""What is only true of a connection: deadlines against a silent server, cancelled calls, forgotten scripts, a server that restarts."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from redis.exceptions import ResponseError

from tests.conftest import ASYNCIO, UVLOOP
from tests.real_redis import RealRedis, real_redis
from worker.adapters.redis_client import RedisClient, Script
from worker.domain.errors import StoreUnavailable

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])]

RENEW = Script("renew")
PATIENCE_S = 0.2


@pytest.fixture(scope="module")
def server() -> Iterator[RealRedis]:
    with real_redis() as redis:
        yield redis


@pytest.fixture
def own_server() -> Iterator[RealRedis]:
    """One to be stopped and killed."""
    with real_redis() as redis:
        yield redis


@pytest.fixture
async def client(server: RealRedis) -> AsyncIterator[RedisClient]:
    client = RedisClient(server.url, name="test", timeout_s=2, max_connections=2, scripts=[RENEW])
    await client.call("FLUSHALL")
    yield client
    await client.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts (the kernel does) and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_call_to_a_silent_server_ends_at_its_deadline_and_names_its_client(silent_port: int) -> None:
    client = RedisClient(f"redis://127.0.0.1:{silent_port}", name="lease", timeout_s=PATIENCE_S, max_connections=1)
    started_s = anyio.current_time()
    with pytest.raises(StoreUnavailable, match=r"lease.*0\.2 s"):
        await client.call("GET", "x")
    assert PATIENCE_S <= anyio.current_time() - started_s < 10 * PATIENCE_S
    await client.close()


async def test_logging_in_to_a_silent_server_is_inside_the_same_deadline(silent_port: int) -> None:
    client = RedisClient(f"redis://:secret@127.0.0.1:{silent_port}/3", name="lease", timeout_s=PATIENCE_S, max_connections=1)
    started_s = anyio.current_time()
    with pytest.raises(StoreUnavailable) as refused:
        await client.call("GET", "x")
    assert anyio.current_time() - started_s < 10 * PATIENCE_S
    assert "secret" not in str(refused.value) + repr(client)
    await client.close()


async def test_a_refused_connection_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = RedisClient(f"redis://127.0.0.1:{port}", name="data", timeout_s=5, max_connections=1)
    started_s = anyio.current_time()
    with pytest.raises(StoreUnavailable, match=r"ConnectionError.*nothing was sent") as refused:
        await client.call("GET", "x")
    assert anyio.current_time() - started_s < 4  # its deadline is 5
    assert "may or may not" not in str(refused.value)
    await client.close()


async def test_waiting_for_a_connection_is_inside_the_deadline_too(server: RealRedis) -> None:
    client = RedisClient(server.url, name="data", timeout_s=PATIENCE_S, max_connections=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.call("BLPOP", "nothing", 1, block_s=2))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StoreUnavailable):
            await client.call("GET", "x")
    await client.close()


async def test_more_calls_than_connections_take_turns(client: RedisClient) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(lambda: client.call("INCR", "n"))
    assert await client.call("GET", "n") == b"50"


async def test_a_cancelled_call_leaves_no_answer_for_the_next_one(client: RedisClient) -> None:
    """Its connection goes: the late reply of a cancelled call would else be taken for the next call's."""
    for n in range(5):
        with anyio.move_on_after(0.01) as scope:
            await client.call("BLPOP", f"q{n}", 5, block_s=5)
        assert scope.cancelled_caught
        await client.call("RPUSH", f"q{n}", "late")
        assert await client.call("ECHO", f"mine {n}") == f"mine {n}".encode()


async def test_a_call_cancelled_between_two_replies_leaves_no_answer_either(client: RedisClient) -> None:
    with anyio.move_on_after(0.05) as scope:
        await client.exchange([("ECHO", "first"), ("BLPOP", "q", 5), ("ECHO", "third")], block_s=5)
    assert scope.cancelled_caught
    assert await client.exchange([("ECHO", "a"), ("ECHO", "b")]) == [b"a", b"b"]


async def test_an_error_among_replies_leaves_the_line_in_step(client: RedisClient) -> None:
    await client.call("SET", "text", "x")
    with pytest.raises(ResponseError):
        await client.exchange([("ECHO", "before"), ("INCR", "text"), ("ECHO", "after")])
    assert await client.call("ECHO", "next") == b"next"


async def test_a_script_that_the_server_forgot_is_loaded_and_run_once_in_its_place(client: RedisClient) -> None:
    await client.call("HSET", "lease", "owner", "me", "token", 7)
    await client.call("SCRIPT", "FLUSH")
    call = RENEW.call(["lease"], ["me", 7, 60_000])
    assert await client.exchange([("INCR", "n"), call, ("INCR", "n")]) == [1, 1, 3], "what follows it follows it again"
    assert await client.exchange([call, call]) == [1, 1]


async def test_after_a_restart_of_the_server_the_second_call_works(own_server: RealRedis) -> None:
    """The first finds a dead line, and says that it does not know; all other idle lines go with it."""
    client = RedisClient(own_server.url, name="data", timeout_s=2, max_connections=4, scripts=[RENEW])
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lambda: client.call("BLPOP", "nothing", 0.05))
    await client.call("HSET", "lease", "owner", "me", "token", 7)
    await anyio.to_thread.run_sync(own_server.restart)
    with pytest.raises(StoreUnavailable):
        await client.call("GET", "x")
    assert await client.call(*RENEW.call(["lease"], ["me", 7, 60_000])) == 1, "data and scripts are there"
    await client.close()


async def test_a_server_that_stays_away_is_told_each_time(own_server: RealRedis) -> None:
    client = RedisClient(own_server.url, name="data", timeout_s=2, max_connections=1)
    await client.call("PING")
    await anyio.to_thread.run_sync(own_server.kill)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await client.call("PING")
    await anyio.to_thread.run_sync(own_server.start)
    assert await client.call("PING") == b"PONG"
    await client.close()


async def test_a_closed_client_says_so(client: RedisClient) -> None:
    await client.call("PING")
    await client.close()
    await client.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await client.call("PING")
