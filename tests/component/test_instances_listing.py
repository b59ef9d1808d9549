"""Lists and refreshes: what is asked, what is shown, what is said when brokers fail (design 6)."""

from __future__ import annotations

import asyncio
import tracemalloc

import anyio
import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.instances_rig import ACME, OTHER, SHARDS, Worker, declared, later
from worker.adapters.memory_store import MemoryStore
from worker.domain.catalog import Instance
from worker.domain.ids import InstanceId
from worker.instances.broker import BrokerCause, BrokerFailure, InstanceStatus
from worker.instances.failures import CircuitOpen
from worker.instances.listing import Listed, Mode, Wish
from worker.instances.snapshots import Sighting

pytestmark = pytest.mark.anyio

LOOK = Wish(tenant_id=ACME)
REFRESH = Wish(tenant_id=ACME, refresh=True)
SYNC = Wish(tenant_id=ACME, mode=Mode.SYNC)


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=SHARDS, clock=asyncio.get_running_loop().time)


@pytest.fixture
async def broker() -> BrokerTwin:
    return BrokerTwin()


class CountedRows(dict[InstanceId, Instance]):
    """How many rows were looked at."""

    touched = 0

    def __getitem__(self, key: InstanceId) -> Instance:
        self.touched += 1
        return super().__getitem__(key)


def statuses(listed: Listed) -> dict[str, str | None]:
    return {one.instance.id: one.seen.sighting.status.value if one.seen else None for one in listed.entries}


async def test_what_was_never_seen_is_listed_as_stale_and_unknown_and_nobody_is_asked(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    listed = await worker.parts.listing.page(LOOK)
    assert (statuses(listed), listed.is_stale, listed.age_s) == ({"sales": None}, True, None)
    assert not broker.asked


async def test_a_refresh_asks_for_health_first_and_then_once_for_all(store: MemoryStore, broker: BrokerTwin) -> None:
    broker.have("sales", "desk", "somebody-elses")
    worker = Worker(store, [broker], declared("sales"), declared("desk"))
    listed = await worker.parts.listing.page(REFRESH)
    assert statuses(listed) == {"desk": "connected", "sales": "connected"}
    assert list(broker.asked.items()) == [("health", 1), ("instances", 1)]
    assert (listed.is_stale, listed.failure, listed.mode) == (False, None, Mode.SYNC)


async def test_a_broker_that_is_not_well_is_not_asked_for_its_list(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    await store.snapshots.save(ACME, {InstanceId("sales"): Sighting(status=InstanceStatus.CONNECTED)}, whole=True)
    broker.fails = lambda call: failure() if call == "health" else None
    listed = await worker.parts.listing.page(REFRESH)
    assert (statuses(listed), listed.is_stale) == ({"sales": "connected"}, True)
    assert broker.asked["instances"] == 0
    assert listed.failure is not None
    assert (listed.failure.attempts, listed.failure.status) == (4, 503)


async def test_a_broker_that_hangs_is_given_up_at_the_deadline(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    await store.snapshots.save(ACME, {}, whole=True)

    async def hang(_call: str) -> None:
        await anyio.sleep_forever()

    broker.before = hang
    begun_s = anyio.current_time()
    listed = await worker.parts.listing.page(REFRESH)
    assert anyio.current_time() - begun_s == pytest.approx(10, abs=0.1)
    assert listed.failure is not None
    assert listed.failure.cause is BrokerCause.TIMEOUT


async def test_many_refreshes_of_a_tenant_at_once_are_one(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    broker.have("sales")
    seen: list[Listed] = []

    async def ask() -> None:
        seen.append(await worker.parts.listing.page(REFRESH))

    async with anyio.create_task_group() as askers:
        for _ in range(20):
            askers.start_soon(ask)
    assert broker.asked["instances"] == 1
    assert [statuses(one) for one in seen] == [{"sales": "connected"}] * 20


async def test_a_refresh_whose_first_caller_goes_away_is_done_by_the_next(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    broker.have("sales")
    is_asked, go_on = anyio.Event(), anyio.Event()

    async def wait(call: str) -> None:
        if not is_asked.is_set():
            is_asked.set()
            await go_on.wait()

    broker.before = wait
    seen: list[Listed] = []

    async def ask_too() -> None:
        seen.append(await worker.parts.listing.page(REFRESH))

    async with anyio.create_task_group() as all_of_them:
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(worker.parts.listing.page, REFRESH)
            await is_asked.wait()
            all_of_them.start_soon(ask_too)
            await anyio.wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
    assert statuses(seen[0]) == {"sales": "connected"}


async def test_nothing_ever_seen_and_a_broker_that_fails_is_an_error_with_its_cause(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    broker.fails = lambda _call: failure()
    with pytest.raises(BrokerFailure) as told:
        await worker.parts.listing.page(REFRESH)
    assert told.value.status == 503
    listed = await worker.parts.listing.page(LOOK)
    assert statuses(listed) == {"sales": None}, "without a refresh the directory still answers"


async def test_a_tenant_without_instances_hears_of_the_failure_beside_its_empty_list(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker])
    broker.fails = lambda _call: failure()
    listed = await worker.parts.listing.page(REFRESH)
    assert (statuses(listed), listed.is_stale) == ({}, True)
    assert listed.failure is not None
    assert broker.asked["instances"] == 0


async def test_a_broker_that_is_not_configured_is_never_hidden_by_a_snapshot(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"), declared("desk", broker="gone"))
    broker.have("sales")
    await store.snapshots.save(ACME, {InstanceId("desk"): Sighting(status=InstanceStatus.CONNECTED)}, whole=True)
    with pytest.raises(BrokerFailure) as told:
        await worker.parts.listing.page(REFRESH)
    assert (told.value.cause, told.value.missing) == (BrokerCause.NOT_CONFIGURED, ("brokers[gone]",))


async def test_an_adapter_that_lacks_a_setting_is_asked_once(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    await store.snapshots.save(ACME, {}, whole=True)
    broker.fails = lambda _call: BrokerFailure(BrokerCause.NOT_CONFIGURED, "no key", missing=("brokers[main].api_key",))
    with pytest.raises(BrokerFailure):
        await worker.parts.listing.page(REFRESH)
    assert broker.asked == {"health": 1}


async def test_of_two_brokers_one_fails_and_the_other_is_shown_as_it_is_now(store: MemoryStore, broker: BrokerTwin) -> None:
    second = BrokerTwin("second")
    broker.have("sales")
    second.have("desk")
    worker = Worker(store, [broker, second], declared("sales"), declared("desk", broker="second"))
    await worker.parts.listing.page(REFRESH)
    broker.have("sales", status=InstanceStatus.FAILED)
    second.have("desk", status=InstanceStatus.QR_REQUIRED)
    broker.fails = lambda _call: failure(status=502)
    await later(60)
    listed = await worker.parts.listing.page(REFRESH)
    assert statuses(listed) == {"sales": "connected", "desk": "qr_required"}
    assert (listed.is_stale, listed.failure and listed.failure.status) == (True, 502)
    assert listed.age_s == pytest.approx(60, abs=3), "of the last time that all of it was seen"


async def test_an_instance_that_its_broker_does_not_have_is_unknown_with_a_warning(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    listed = await worker.parts.listing.page(REFRESH)
    assert statuses(listed) == {"sales": "unknown"}
    assert "not at their broker" in listed.warnings[0]


async def test_another_tenants_instances_are_neither_listed_nor_saved_as_ours(store: MemoryStore, broker: BrokerTwin) -> None:
    broker.have("sales", "theirs")
    worker = Worker(store, [broker], declared("sales"), declared("theirs", tenant=OTHER))
    assert statuses(await worker.parts.listing.page(REFRESH)) == {"sales": "connected"}
    assert (await store.snapshots.load(OTHER, [InstanceId("theirs")])).is_empty
    assert not (await store.snapshots.load(ACME, [InstanceId("theirs")])).seen


async def test_sync_asks_again_after_its_cooldown_and_refresh_at_once(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    asked = []
    for wish, later_s in ((SYNC, 0.0), (SYNC, 29.0), (SYNC, 1.1), (REFRESH, 0.0)):
        await later(later_s)
        await worker.parts.listing.page(wish)
        asked.append(broker.asked["instances"])
    assert asked == [1, 1, 2, 3]


async def test_what_was_seen_long_ago_is_told_as_stale(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    broker.have("sales")
    await worker.parts.listing.page(REFRESH)
    ages = []
    for later_s in (299.0, 2.0):
        await later(later_s)
        listed = await worker.parts.listing.page(LOOK)
        ages.append((round(listed.age_s or 0), listed.is_stale))
    assert ages == [(299, False), (301, True)]


async def test_a_broker_that_fails_five_calls_in_a_row_is_left_alone_for_thirty_seconds(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    await store.snapshots.save(ACME, {}, whole=True)
    broker.fails = lambda _call: failure(status=502)
    for _ in range(5):
        await worker.parts.listing.page(REFRESH)
    asked = broker.asked["health"]
    listed = await worker.parts.listing.page(REFRESH)
    assert isinstance(listed.failure, CircuitOpen)
    assert (listed.failure.cause, listed.failure.status) == (BrokerCause.SERVICE_UNAVAILABLE, 502), "the cause is still told"
    assert broker.asked["health"] == asked
    broker.fails = lambda _call: None
    await later(30.1)
    assert (await worker.parts.listing.page(REFRESH)).failure is None
    assert worker.parts.roster.health() == {("waha",): 1.0}


async def test_stages_are_measured_by_tenant_and_outcome(store: MemoryStore, broker: BrokerTwin) -> None:
    worker = Worker(store, [broker], declared("sales"))
    await worker.parts.listing.page(REFRESH)
    broker.fails = lambda _call: failure()
    await worker.parts.listing.page(REFRESH)
    counted = {labels: sum(spread.counts) for labels, spread in worker.metrics.instances_operation_duration.cells.items()}
    assert counted == {("acme", "refresh", "ok"): 1, ("acme", "refresh", "failed"): 1}


async def test_a_page_of_ten_thousand_instances_costs_what_a_page_of_a_hundred_costs(store: MemoryStore, broker: BrokerTwin) -> None:
    """Counted, not timed: rows touched, calls to the store, bytes taken at most."""
    costs: list[tuple[int, int]] = []
    for size in (100, 10_000):
        instances = [declared(f"i{number:05}") for number in range(size)]
        worker = Worker(store, [broker], *instances)
        await store.snapshots.save(ACME, {i.id: Sighting(status=InstanceStatus.CONNECTED) for i in instances}, whole=True)
        rows = worker.catalog.instances = CountedRows(worker.catalog.instances)
        await worker.parts.listing.page(LOOK)  # whatever is made once
        rows.touched = 0
        tracemalloc.start()
        listed = await worker.parts.listing.page(LOOK)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(listed.entries), listed.next_after) == (50, "i00049")
        costs.append((rows.touched, peak))
    (few_rows, few_bytes), (many_rows, many_bytes) = costs
    assert many_rows == few_rows == 51, "the page, and whether another follows"
    assert many_bytes <= 1.5 * few_bytes
