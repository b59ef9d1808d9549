"""Every test of the store's contract runs on the in-memory twin and on a real Redis: what one says the other must say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.contract.samples import SHARDS, OpenStore, Store, empty
from tests.real_redis import RealRedis, real_redis
from worker.adapters.memory_store import MemoryStore
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_store import RedisStore, open_redis_store


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RealRedis]:
    """One server for the whole run; `empty` between tests."""
    with real_redis(appendonly="no") as server:
        yield server


@asynccontextmanager
async def opened_twin(*, dedupe_window_s: float = 3_600, dedupe_max_keys: int = 1_000_000) -> AsyncIterator[Store]:
    yield MemoryStore(shards=SHARDS, clock=time.monotonic, dedupe_window_s=dedupe_window_s, dedupe_max_keys=dedupe_max_keys)


@pytest.fixture(params=["twin", "redis"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    if request.param == "twin":
        return opened_twin
    server: RealRedis = request.getfixturevalue("redis_server")

    @asynccontextmanager
    async def opened_redis(*, dedupe_window_s: float = 3_600, dedupe_max_keys: int = 1_000_000) -> AsyncIterator[Store]:
        empty(server)
        async with open_redis_store(server.url, shards=SHARDS, dedupe_window_s=dedupe_window_s, dedupe_max_keys=dedupe_max_keys) as store:
            yield store

    return opened_redis


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """An empty store."""
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def redis(redis_server: RealRedis) -> AsyncIterator[RedisStore]:
    """An empty store on the real server, for what only a server can show."""
    empty(redis_server)
    async with open_redis_store(redis_server.url, shards=SHARDS) as opened:
        yield opened


@pytest.fixture
async def hand(redis_server: RealRedis) -> AsyncIterator[RedisClient]:
    """An operator's own line to the server."""
    client = RedisClient(redis_server.url, name="hand", timeout_s=2, max_connections=1)
    yield client
    await client.close()
