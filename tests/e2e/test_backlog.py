"""A backlog that waits in the journal at the start, three times what the buffer holds: the healthy get it from there, unparked."""

from __future__ import annotations

import orjson
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, declared, generic_event, until
from worker.adapters.redis_store import open_redis_store
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.ids import EventKey, InstanceId, TenantId
from worker.gateways import GATEWAYS
from worker.gateways.port import Push
from worker.ingest.preparation import Preparation, Prepared, Stamps
from worker.journal.port import NewEvent

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 1200))]

SHARDS = 16
BUFFER_EVENTS = scaled(2_000, 10_000)
EVENTS = scaled(6_000, 100_000)
PARKED_BY_A_BUSY_MACHINE = scaled(EVENTS // 10, 0)
"""A machine that halves its speed at once for everybody is taken for endpoints that fall behind; beside other tests it may."""
PER_SEGMENT = 20
INSTANCES = tuple(f"i{n}" for n in range(10))


async def prefill(url: str, count: int) -> None:
    """Puts events into the journal through its port: decoded and encoded as ingest does, in turn over the instances."""
    tenant = TenantId("t")
    instances = [Instance(id=InstanceId(name), tenant_id=tenant, gateway="generic", gateway_instance=name) for name in INSTANCES]
    catalog = Catalog([Tenant(id=tenant)], instances, [])
    stamps = Stamps(received_at=lambda: "2026-01-01T00:00:00.000Z", fresh_key=lambda: EventKey("ulid:none"))
    preparation = Preparation(catalog=catalog, shards=SHARDS, stamps=stamps)
    async with open_redis_store(url, shards=SHARDS) as store:
        for first in range(0, count, PER_SEGMENT):
            instance = instances[first // PER_SEGMENT % len(instances)]
            body = orjson.dumps([generic_event(f"E{number:07d}") for number in range(first, first + PER_SEGMENT)])
            prepared = preparation.prepare(GATEWAYS["generic"], instance, Push(headers={}, body=body))
            assert isinstance(prepared, Prepared)
            events: list[NewEvent] = [event for _, event in prepared.items]
            await store.journal.append(prepared.items[0][0], events)


@pytest.mark.parametrize("hung", [0, 1], ids=["all healthy", "one of ten hung"])
async def test_a_backlog_is_delivered_from_the_journal_and_only_who_hangs_is_parked(rig: Rig, hung: int) -> None:
    redis = await rig.redis(appendfsync="everysec")
    await prefill(redis.url, EVENTS)
    hooks = [Hook(name, rig.sink.url(name, "hang" if n < hung else "slow-100"), (name,)) for n, name in enumerate(INSTANCES)]
    worker = rig.worker(declared(hooks, INSTANCES), REDIS__URL=redis.url, BUFFER__MAX_EVENTS=str(BUFFER_EVENTS))
    await worker.start()
    own = EVENTS // len(INSTANCES)
    healthy = INSTANCES[hung:]
    took_s = await until(lambda: all(len(rig.sink.arrivals[name]) == own for name in healthy), scaled(100, 1000), "the healthy have all")
    settling = (await worker.status())["settling"]
    state(f"backlog, {hung} of ten hung", events=EVENTS, per_s=own * len(healthy) / took_s, parked=settling["parked"])
    assert settling["delivered"] >= own * len(healthy) - 8 * len(healthy)
    assert settling["parked"] <= own * hung + PARKED_BY_A_BUSY_MACHINE
    assert not any(rig.sink.repeated(name) for name in healthy)
    assert all(arrived.attempt == 1 for name in healthy for [arrived] in rig.sink.arrivals[name].values()), (
        "nobody's were parked but its own"
    )
    code, _ = await worker.stop()
    assert code == 0
    assert worker.report()["balances"]
