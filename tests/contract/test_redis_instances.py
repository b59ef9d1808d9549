"""What is only true of the instances' tables on Redis: they end by themselves, and a full server ends what was begun."""

from __future__ import annotations

import anyio
import pytest

from tests.contract.samples import LONG_S, TENANT
from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_store import RedisStore
from worker.domain.errors import StoreFull
from worker.domain.ids import InstanceId
from worker.instances import idempotency, snapshots
from worker.instances.broker import InstanceStatus
from worker.instances.idempotency import Finished, Holder, Repeatable
from worker.instances.snapshots import Sighting

pytestmark = pytest.mark.anyio

CALL = Repeatable(TENANT, "a key with spaces and ünicode", "a" * 64)
ONE = Holder("one")
SALES = InstanceId("acme-sales")
RECORD, SNAPSHOT = redis_keys.once(TENANT, CALL.key), redis_keys.snapshot(TENANT)


async def ttl_s(hand: RedisClient, key: str) -> float:
    return int(await hand.call("PTTL", key)) / 1000


async def test_a_record_ends_a_day_after_its_first_call_whatever_comes_later(redis: RedisStore, hand: RedisClient) -> None:
    await redis.idempotency.begin(CALL, ONE, b"plan", lease_s=LONG_S)
    assert await ttl_s(hand, RECORD) == pytest.approx(idempotency.KEPT_S, abs=10)
    await hand.call("PEXPIRE", RECORD, 60_000)
    await redis.idempotency.finish(CALL, ONE, b"answer")
    assert await ttl_s(hand, RECORD) == pytest.approx(60, abs=10)


async def test_a_snapshot_ends_a_month_after_it_was_last_saved(redis: RedisStore, hand: RedisClient) -> None:
    await redis.snapshots.save(TENANT, {SALES: Sighting(status=InstanceStatus.CONNECTED)}, whole=False)
    assert await ttl_s(hand, SNAPSHOT) == pytest.approx(snapshots.KEPT_S, abs=10)
    field, value = await hand.call("HGETALL", SNAPSHOT)
    assert field == b"i:acme-sales"
    assert value.split(b" ", 1)[1] == b'["connected",null,null,null]'


async def test_what_another_version_wrote_is_as_if_it_had_not_been_seen(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("HSET", SNAPSHOT, "i:acme-sales", '1 ["hibernating",null,null,null]')
    snapshot = await redis.snapshots.load(TENANT, [SALES])
    assert (snapshot.seen, snapshot.is_empty) == ({}, False)


async def test_a_full_server_begins_nothing_and_ends_what_was_begun(redis: RedisStore, hand: RedisClient) -> None:
    await redis.idempotency.begin(CALL, ONE, b"plan", lease_s=LONG_S)
    await hand.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            await redis.idempotency.begin(CALL._replace(key="another"), ONE, b"plan", lease_s=LONG_S)
        with pytest.raises(StoreFull):
            await redis.snapshots.save(TENANT, {SALES: Sighting(status=InstanceStatus.CONNECTED)}, whole=True)
        assert await redis.idempotency.finish(CALL, ONE, b"answer")
        assert await redis.idempotency.begin(CALL, Holder("two"), b"plan", lease_s=LONG_S) == Finished(b"answer")
    finally:
        with anyio.move_on_after(2, shield=True):
            await hand.call("CONFIG", "SET", "maxmemory", "0")
