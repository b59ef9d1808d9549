"""Creating so that it may be tried again: one row, one instance at the broker, whatever is lost in between (design 6)."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.instances_rig import ACME, OTHER, SHARDS, Worker, declared, later, order
from worker.adapters.memory_store import MemoryStore
from worker.domain.catalog import Instance
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId
from worker.instances.broker import BrokerCause, BrokerFailure, InstanceStatus
from worker.instances.creating import Plan, Refused

pytestmark = pytest.mark.anyio


def away() -> BrokerFailure:
    return failure(BrokerCause.CONNECT, status=None)


def lost() -> BrokerFailure:
    return failure(BrokerCause.CONNECT, status=None, is_certain=False)


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=SHARDS, clock=asyncio.get_running_loop().time)


@pytest.fixture
async def broker() -> BrokerTwin:
    return BrokerTwin()


@pytest.fixture
async def worker(store: MemoryStore, broker: BrokerTwin) -> Worker:
    return Worker(store, [broker])


def rows(worker: Worker) -> list[Instance]:
    return list(worker.catalog.instances.values())


async def test_the_row_is_there_before_the_broker_is_asked(worker: Worker, broker: BrokerTwin) -> None:
    seen: list[Instance] = []

    async def look(call: str) -> None:
        seen.extend(rows(worker) if call == "create" else ())

    broker.before = look
    made = await worker.create(order())
    assert [(row.id, row.is_made, row.gateway_instance) for row in seen] == [(made.id, False, made.gateway_instance)]
    assert made.is_made
    assert rows(worker) == [made]


async def test_the_name_at_the_broker_is_the_tenants_and_random(worker: Worker, broker: BrokerTwin) -> None:
    plan = worker.plan(order("Vendas São Paulo"))
    assert plan.gateway_instance.startswith("acme-vendas-sao-paulo-")
    assert len(plan.gateway_instance.rpartition("-")[2]) == 8
    assert plan.gateway_instance != worker.plan(order("Vendas São Paulo")).gateway_instance


async def test_a_broker_that_is_back_within_the_call_is_asked_again(worker: Worker, broker: BrokerTwin) -> None:
    broker.fails = lambda call: away() if broker.asked[call] <= 2 and call == "create" else None
    made = await worker.create(order())
    assert list(broker.there) == [made.gateway_instance]
    assert broker.asked == {"create": 3, "status": 2}, "a create is never repeated blindly"


async def test_an_answer_that_was_lost_is_made_up_for(worker: Worker, broker: BrokerTwin) -> None:
    broker.loses = lambda call: lost() if call == "create" else None
    made = await worker.create(order())
    assert made.is_made
    assert broker.asked == {"create": 1, "status": 1}


async def test_a_failed_call_leaves_its_row_and_the_same_plan_goes_on_with_it(worker: Worker, broker: BrokerTwin) -> None:
    plan = worker.plan(order())
    broker.fails = lambda _call: away()
    with pytest.raises(BrokerFailure):
        await worker.create(order(), plan)
    [half] = rows(worker)
    assert not half.is_made
    broker.fails = lambda _call: None
    assert (await worker.create(order(), plan)).id == half.id
    assert (len(rows(worker)), list(broker.there)) == (1, [half.gateway_instance])


async def test_a_wrong_key_at_the_broker_is_told_at_once(worker: Worker, broker: BrokerTwin) -> None:
    broker.fails = lambda _call: failure(BrokerCause.AUTH, status=401)
    with pytest.raises(BrokerFailure) as told:
        await worker.create(order())
    assert (told.value.cause, told.value.attempts, broker.asked["create"]) == (BrokerCause.AUTH, 1, 1)


async def test_whether_the_broker_may_have_made_it_is_said_of_all_tries_together(worker: Worker, broker: BrokerTwin) -> None:
    """The first try may have arrived; the second surely did not: all in all nobody knows."""
    broker.fails = lambda call: away() if call == "status" else None
    broker.loses = lambda call: lost() if call == "create" else None
    with pytest.raises(BrokerFailure) as told:
        await worker.create(order())
    assert (told.value.is_certain, told.value.attempts) == (False, 4)
    broker.fails = lambda _call: away()
    with pytest.raises(BrokerFailure) as told:
        await worker.create(order())
    assert told.value.is_certain


async def test_a_plan_that_was_carried_out_is_only_looked_up(worker: Worker, broker: BrokerTwin) -> None:
    plan = worker.plan(order())
    made = await worker.create(order(), plan)
    broker.asked.clear()
    assert await worker.create(order(), plan) == made
    assert not broker.asked


async def test_an_answer_of_the_store_that_was_lost_changes_nothing(store: MemoryStore, worker: Worker, broker: BrokerTwin) -> None:
    """Whichever of the store's answers: the same plan ends in one row and one instance."""
    for nth_lost in range(1, 6):
        plan = worker.plan(order(f"n{nth_lost}"))
        calls = 0

        async def lose(script: str, nth: int = nth_lost) -> None:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise StoreUnavailable(f"{script}: the answer was lost")

        store.faults.after = lose
        try:
            await worker.create(order(f"n{nth_lost}"), plan)
        except StoreUnavailable:
            store.faults.after = None
            await worker.create(order(f"n{nth_lost}"), plan)
        store.faults.after = None
        assert worker.catalog.instances[InstanceId(plan.instance_id)].is_made
    assert len(rows(worker)) == len(broker.there) == 5


async def test_the_same_id_at_once_is_one_instance_and_one_refusal(worker: Worker, broker: BrokerTwin) -> None:
    outcomes: list[object] = []

    async def ask() -> None:
        try:
            outcomes.append(await worker.create(order(id=InstanceId("sales"))))
        except Refused as exc:
            outcomes.append(exc.code)

    async with anyio.create_task_group() as askers:
        for _ in range(10):
            askers.start_soon(ask)
    assert outcomes.count("INSTANCE_ALREADY_EXISTS") == 9
    assert len(broker.there) == 1


async def test_what_was_deleted_while_it_was_being_made_is_taken_from_the_broker_again(worker: Worker, broker: BrokerTwin) -> None:
    async def delete(call: str) -> None:
        if call == "create":
            [half] = rows(worker)
            await worker.registrar.remove(half)

    broker.before = delete
    with pytest.raises(Refused) as refused:
        await worker.create(order())
    assert refused.value.code == "INSTANCE_DELETED"
    assert not broker.there
    assert not rows(worker)


async def test_discarding_forgets_ones_own_half_made_row_and_no_other(worker: Worker, broker: BrokerTwin) -> None:
    broker.fails = lambda _call: away()
    plan = worker.plan(order(id=InstanceId("sales")))
    with pytest.raises(BrokerFailure):
        await worker.create(order(id=InstanceId("sales")), plan)
    stranger = worker.plan(order(id=InstanceId("sales")))
    await worker.parts.creating.discard(stranger)
    assert len(rows(worker)) == 1
    await worker.parts.creating.discard(plan)
    assert not rows(worker)
    broker.fails = lambda _call: None
    made_plan = worker.plan(order())
    await worker.create(order(), made_plan)
    await worker.parts.creating.discard(made_plan)
    assert len(rows(worker)) == 1


async def test_a_declared_name_at_the_broker_cannot_be_attached(store: MemoryStore, broker: BrokerTwin) -> None:
    broker.have("default")
    worker = Worker(store, [broker], declared("default", tenant=OTHER))
    with pytest.raises(Refused) as refused:
        await worker.create(order(attach="default"))
    assert refused.value.code == "INSTANCE_ATTACHED_ALREADY"


async def test_what_is_attached_is_asked_for_and_never_made(worker: Worker, broker: BrokerTwin) -> None:
    broker.have("old-sales")
    made = await worker.create(order(attach="old-sales"))
    assert (made.gateway_instance, made.is_made) == ("old-sales", True)
    assert broker.asked == {"status": 1}


async def test_a_plan_survives_being_written_down(worker: Worker) -> None:
    plan = worker.plan(order(ingest_secret="our own secret"))
    assert Plan.read(plan.written()) == plan
    assert "our own secret" not in repr(plan)


# -- repair ------------------------------------------------------------------------------------------------------------


async def half_made(worker: Worker, broker: BrokerTwin, *, is_there: bool) -> Instance:
    """A worker died between its row and the broker's answer."""
    broker.fails = lambda call: away() if call == "status" or not is_there else None
    broker.loses = lambda _call: lost()
    with pytest.raises(BrokerFailure):
        await worker.create(order())
    broker.fails = broker.loses = lambda _call: None
    broker.asked.clear()
    [row] = rows(worker)
    assert (row.gateway_instance in broker.there) is is_there
    return row


async def test_a_half_made_instance_that_the_broker_has_is_finished(worker: Worker, broker: BrokerTwin, store: MemoryStore) -> None:
    row = await half_made(worker, broker, is_there=True)
    await later(61)
    await worker.parts.repairing.look()
    assert worker.catalog.instances[row.id].is_made
    assert (await store.snapshots.load(ACME, [row.id])).seen[row.id].sighting.status is InstanceStatus.QR_REQUIRED


async def test_it_is_left_alone_while_its_call_may_still_be_running(worker: Worker, broker: BrokerTwin) -> None:
    await half_made(worker, broker, is_there=True)
    await later(30)
    await worker.parts.repairing.look()
    assert not broker.asked


async def test_only_the_owner_of_its_shard_looks(worker: Worker, broker: BrokerTwin) -> None:
    await half_made(worker, broker, is_there=True)
    worker.owned.clear()
    await later(3_600)
    await worker.parts.repairing.look()
    assert not broker.asked


async def test_one_that_the_broker_does_not_have_waits_for_its_key_and_is_forgotten_with_it(worker: Worker, broker: BrokerTwin) -> None:
    row = await half_made(worker, broker, is_there=False)
    worker.age_s = 86_399
    await later(61)
    await worker.parts.repairing.look()
    assert rows(worker) == [row]
    worker.age_s = 86_400
    await worker.parts.repairing.look()
    assert not rows(worker)
    assert broker.asked == {"status": 2}, "nothing is ever deleted at a broker"


async def test_a_broker_that_fails_leaves_it_as_it_is(worker: Worker, broker: BrokerTwin) -> None:
    row = await half_made(worker, broker, is_there=True)
    broker.fails = lambda _call: failure(BrokerCause.AUTH, status=401)
    worker.age_s = 1e9
    await later(61)
    await worker.parts.repairing.look()
    assert rows(worker) == [row]


async def test_a_store_that_is_away_leaves_it_for_the_next_look(store: MemoryStore, worker: Worker, broker: BrokerTwin) -> None:
    row = await half_made(worker, broker, is_there=True)
    await later(61)
    store.faults.away = True
    await worker.parts.repairing.look()
    store.faults.away = False
    await worker.parts.repairing.look()
    assert worker.catalog.instances[row.id].is_made


async def test_the_loop_finds_it_by_itself_also_after_a_restart(store: MemoryStore, worker: Worker, broker: BrokerTwin) -> None:
    row = await half_made(worker, broker, is_there=True)
    restarted = Worker(store, [broker], seed=2)
    restarted.catalog.put(row)
    async with anyio.create_task_group() as living:
        living.start_soon(restarted.parts.repairing.run)
        await later(90)
        living.cancel_scope.cancel()
    assert restarted.catalog.instances[row.id].is_made
