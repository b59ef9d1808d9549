"""One instance and its broker, when something is missing or the store fails in between; and what has no room."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.instances_rig import ACME, SHARDS, Worker, declared, order
from worker.adapters.memory_store import MemoryStore
from worker.directory.port import Revision
from worker.domain.catalog import Instance
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId
from worker.instances import creating
from worker.instances.broker import AlreadyExists, BrokerCause, BrokerFailure, InstanceStatus, NoSuchInstance
from worker.instances.creating import Refused
from worker.instances.flights import Flights
from worker.instances.listing import Wish
from worker.instances.single import NotAtItsBroker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=SHARDS, clock=asyncio.get_running_loop().time)


@pytest.fixture
async def broker() -> BrokerTwin:
    return BrokerTwin()


@pytest.fixture
async def worker(store: MemoryStore, broker: BrokerTwin) -> Worker:
    return Worker(store, [broker], declared("sales"), declared("desk", broker="gone"))


def row(worker: Worker, name: str) -> Instance:
    return worker.catalog.instances[InstanceId(name)]


async def test_whatever_is_asked_of_a_broker_that_is_not_configured_any_more_names_it(worker: Worker, broker: BrokerTwin) -> None:
    single, desk = worker.parts.single, row(worker, "desk")
    for ask in (single.look, single.qr, single.disconnect):
        with pytest.raises(BrokerFailure) as told:
            await ask(desk)
        assert (told.value.cause, told.value.missing) == (BrokerCause.NOT_CONFIGURED, ("brokers[gone]",))
    assert not broker.asked


async def test_what_its_broker_does_not_have_is_told_as_that(worker: Worker, broker: BrokerTwin) -> None:
    class Forgetful(BrokerTwin):
        async def qr(self, name: str, *, timeout_s: float | None = None) -> None:
            raise NoSuchInstance

        async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
            raise NoSuchInstance

        async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
            raise NoSuchInstance

    single = Worker(MemoryStore(shards=SHARDS, clock=asyncio.get_running_loop().time), [Forgetful()]).parts.single
    sales = row(worker, "sales")
    for ask in (single.look, single.qr, single.disconnect):
        with pytest.raises(NotAtItsBroker):
            await ask(sales)
    await single.delete(sales)


async def test_what_was_seen_is_told_also_where_it_cannot_be_kept(store: MemoryStore, worker: Worker, broker: BrokerTwin) -> None:
    broker.have("sales")
    store.faults.fail_next(1)
    assert (await worker.parts.single.look(row(worker, "sales"))).status is InstanceStatus.CONNECTED
    assert (await store.snapshots.load(ACME, [InstanceId("sales")])).is_empty


async def test_an_instance_is_made_also_where_its_first_status_cannot_be_kept(store: MemoryStore, worker: Worker) -> None:
    async def only_the_snapshot(script: str) -> None:
        if script == "snapshot_save":
            raise StoreUnavailable(script)

    store.faults.before = only_the_snapshot
    assert (await worker.create(order())).is_made


async def test_a_deleted_instance_is_gone_also_where_its_snapshot_stays(store: MemoryStore, worker: Worker) -> None:
    made = await worker.create(order())

    async def only_the_snapshot(script: str) -> None:
        if script == "snapshot_forget":
            raise StoreUnavailable(script)

    store.faults.before = only_the_snapshot
    await worker.parts.single.delete(made)
    assert made.id not in worker.catalog.instances


async def test_a_list_without_its_owners_is_still_a_list(store: MemoryStore, broker: BrokerTwin) -> None:
    class Away(Worker):
        async def holders(self, shards: object) -> dict[object, object]:  # type: ignore[override]
            raise StoreUnavailable("away")

    listed = await Away(store, [broker], declared("sales")).parts.listing.page(Wish(tenant_id=ACME))
    assert [(one.instance.id, one.owner) for one in listed.entries] == [("sales", None)]


async def test_a_broker_that_contradicts_itself_is_told_as_that(worker: Worker, broker: BrokerTwin) -> None:
    class Contradicting(BrokerTwin):
        async def create(self, name: str, push: object, *, timeout_s: float | None = None) -> None:  # type: ignore[override]
            raise AlreadyExists

    other = Worker(MemoryStore(shards=SHARDS, clock=asyncio.get_running_loop().time), [Contradicting()])
    with pytest.raises(BrokerFailure) as told:
        await other.create(order())
    assert (told.value.cause, told.value.is_certain) == (BrokerCause.PROTOCOL, False)


async def test_a_plan_whose_broker_is_not_configured_any_more_waits_for_it(store: MemoryStore, worker: Worker, broker: BrokerTwin) -> None:
    plan = worker.plan(order())
    without = Worker(store, [])
    with pytest.raises(BrokerFailure) as told:
        await without.create(order(), plan)
    assert told.value.cause is BrokerCause.NOT_CONFIGURED
    assert (await worker.create(order(), plan)).is_made


async def test_there_is_nothing_to_attach_where_there_is_no_broker(store: MemoryStore) -> None:
    with pytest.raises(Refused) as refused:
        Worker(store, []).plan(order(attach="somebody-elses"))
    assert refused.value.code == "BROKER_UNKNOWN"


async def test_a_tenant_has_a_limit_of_instances(worker: Worker, monkeypatch: pytest.MonkeyPatch, broker: BrokerTwin) -> None:
    monkeypatch.setattr(creating, "MAX_INSTANCES", 3)
    await worker.create(order())
    with pytest.raises(Refused) as refused:
        await worker.create(order())
    assert refused.value.code == "LIMIT_REACHED"
    assert broker.asked == {"create": 1}


async def test_looking_for_what_is_to_be_attached_leaves_nothing_in_doubt(worker: Worker, broker: BrokerTwin) -> None:
    broker.fails = lambda _call: failure(BrokerCause.TIMEOUT, is_certain=False)
    with pytest.raises(BrokerFailure) as told:
        await worker.create(order(attach="old"))
    assert told.value.is_certain


async def test_what_another_worker_registered_a_moment_ago_is_found(store: MemoryStore, worker: Worker) -> None:
    there = Instance(id=InstanceId("fresh"), tenant_id=ACME, gateway="gowa", gateway_instance="fresh")
    await store.directory.put(there, expected=Revision(0))
    assert await worker.parts.single.find(ACME, "fresh") == there


async def test_one_flight_is_shared_and_the_next_is_a_new_one() -> None:
    flights: Flights[str, int] = Flights()
    landed: list[int] = []
    go = anyio.Event()

    async def fly() -> int:
        await go.wait()
        return len(landed)

    async def board() -> None:
        landed.append(await flights.share("there", fly))

    async with anyio.create_task_group() as passengers:
        for _ in range(3):
            passengers.start_soon(board)
        await anyio.wait_all_tasks_blocked()
        assert len(flights) == 1
        go.set()
    assert landed == [0, 0, 0]
    assert await flights.share("there", fly) == 3
    assert len(flights) == 0
