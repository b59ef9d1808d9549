"""Calls counted in sliding windows, for all workers alike. Windows of a second: the library goes by real time."""

from __future__ import annotations

import time

import anyio
import pytest

from tests.contract.samples import Store
from tests.real_redis import RealRedis
from worker.adapters.redis_call_counts import RedisCallCounts
from worker.domain.errors import StoreUnavailable

pytestmark = pytest.mark.anyio

LONG_S = 3_600


async def test_so_many_calls_are_let_through_and_no_more(store: Store) -> None:
    waits = [await store.call_counts.count("acme", "read", calls=5, window_s=LONG_S) for _ in range(8)]
    assert waits[:5] == [0.0] * 5
    assert all(0 < wait_s <= LONG_S for wait_s in waits[5:])


async def test_tenants_and_kinds_are_counted_apart(store: Store) -> None:
    assert await store.call_counts.count("acme", "read", calls=1, window_s=LONG_S) == 0
    assert await store.call_counts.count("acme", "read", calls=1, window_s=LONG_S) > 0
    assert await store.call_counts.count("acme", "sync", calls=1, window_s=LONG_S) == 0
    assert await store.call_counts.count("acme/read", "", calls=1, window_s=LONG_S) == 0
    assert await store.call_counts.count("other", "read", calls=1, window_s=LONG_S) == 0


async def test_whoever_waits_as_told_gets_through(store: Store) -> None:
    while (wait_s := await store.call_counts.count("acme", "read", calls=2, window_s=1)) == 0:
        pass
    began_s = time.monotonic()
    while wait_s > 0:
        assert wait_s <= 2
        assert time.monotonic() - began_s < 5
        await anyio.sleep(wait_s)  # noqa: TID251 -- what a caller does with Retry-After
        wait_s = await store.call_counts.count("acme", "read", calls=2, window_s=1)


async def test_calls_at_the_same_moment_are_not_more_than_the_limit(store: Store) -> None:
    let_through = []

    async def call() -> None:
        let_through.append(await store.call_counts.count("acme", "create", calls=10, window_s=LONG_S) == 0)

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(call)
    assert sum(let_through) == 10


async def test_two_workers_count_together(redis_server: RealRedis) -> None:
    one, other = RedisCallCounts(redis_server.url), RedisCallCounts(redis_server.url)
    try:
        waits = [await counts.count("two-workers", "read", calls=4, window_s=LONG_S) for counts in (one, other) * 4]
    finally:
        await one.close()  # noqa: ASYNC102 -- bounded inside
        await other.close()  # noqa: ASYNC102 -- bounded inside
    assert [wait_s == 0 for wait_s in waits] == [True] * 4 + [False] * 4


async def test_a_store_that_is_away_is_said_in_our_words_and_soon(redis_server: RealRedis) -> None:
    counts = RedisCallCounts(f"unix://{redis_server.directory}/nobody")
    try:
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await counts.count("acme", "read", calls=4, window_s=LONG_S)
        assert time.monotonic() - began_s < 10
    finally:
        await counts.close()  # noqa: ASYNC102 -- bounded inside
