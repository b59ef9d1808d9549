"""Where streams go on: one id an instance, which nothing needs to be there for, and which ends by itself."""

from __future__ import annotations

import pytest

from tests.contract.samples import SHARDS, Store
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_resume_points import MemoryResumePoints
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_store import RedisStore
from worker.domain.ids import InstanceId, shard_of
from worker.websocket.resume_points import KEPT_S

pytestmark = pytest.mark.anyio

SALES = InstanceId("acme-sales")
DESK = InstanceId("acme-desk")


async def test_of_a_stream_never_read_nothing_is_known(store: Store) -> None:
    assert await store.resume_points.load_point(SALES) is None


async def test_each_instance_has_its_own(store: Store) -> None:
    await store.resume_points.save_points({SALES: "e-1", DESK: "e-7"})
    assert (await store.resume_points.load_point(SALES), await store.resume_points.load_point(DESK)) == ("e-1", "e-7")


async def test_the_last_word_counts_also_where_it_is_an_older_id(store: Store) -> None:
    for event_id in ("e-1", "e-3", "e-2"):
        await store.resume_points.save_points({SALES: event_id})
    assert await store.resume_points.load_point(SALES) == "e-2"


async def test_reading_one_leaves_it(store: Store) -> None:
    await store.resume_points.save_points({SALES: "e-1"})
    assert [await store.resume_points.load_point(SALES) for _ in range(2)] == ["e-1"] * 2


async def test_very_many_are_saved_at_once_and_none_is_too_few(store: Store) -> None:
    await store.resume_points.save_points({})
    many = {InstanceId(f"i{number}"): f"e-{number}" for number in range(1_000)}
    await store.resume_points.save_points(many)
    assert {name: await store.resume_points.load_point(name) for name in many} == many


async def test_the_twin_forgets_what_nobody_saved_or_asked_for_in_all_that_time() -> None:
    now_s = [0.0]
    points = MemoryResumePoints(StoreFaults(), lambda: now_s[0])
    await points.save_points({SALES: "e-1"})
    now_s[0] = KEPT_S - 1
    assert await points.load_point(SALES) == "e-1"
    now_s[0] += KEPT_S - 1
    assert await points.load_point(SALES) == "e-1"
    now_s[0] += KEPT_S
    assert await points.load_point(SALES) is None


async def test_on_redis_each_stands_beside_its_journal_and_ends_by_itself(redis: RedisStore, hand: RedisClient) -> None:
    key = ShardKeys(shard_of(SALES, SHARDS)).resume(SALES)
    await redis.resume_points.save_points({SALES: "e-1"})
    assert await hand.call("PTTL", key) / 1000 == pytest.approx(KEPT_S, abs=60)
    await hand.call("PEXPIRE", key, 60_000)
    assert await redis.resume_points.load_point(SALES) == "e-1"
    assert await hand.call("PTTL", key) / 1000 == pytest.approx(KEPT_S, abs=60)
