"""Looking for contacts: who waits for it and for how long, how much is asked at once, and when nobody is asked."""

from __future__ import annotations

import anyio
import orjson
import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.contacts_world import ANA, BOB, PATIENCE_S, URL, event, hang, person, world
from tests.component.rig import now_s, pass_time, until
from tests.component.sockets_world import forgets, sockets_world
from worker.adapters.memory_store import MemoryStore
from worker.contact_metadata_cache import asking, cache
from worker.contact_metadata_cache.asking import AT_ONCE, AT_ONCE_PER_BROKER, IN_LINE, NOT_CONNECTED_S, REST_S
from worker.domain.contact import Contact
from worker.domain.ids import InstanceId
from worker.instances.broker import BrokerCause, NotConnected
from worker.websocket.port import CloseReason, ConnectionClosed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=1, clock=now_s)


@pytest.fixture
async def broker() -> BrokerTwin:
    twin = BrokerTwin()
    twin.pictures = {ANA: URL}
    return twin


# -- who waits, and for how long ------------------------------------------------------------------------------------------------------


async def test_nobody_waits_longer_than_the_patience(store: MemoryStore, broker: BrokerTwin) -> None:
    hang(broker)
    async with world(store, broker) as it:
        began_s = now_s()
        assert await it.contact(event(name="Ana")) == Contact(name="Ana"), "what is known goes"
        assert now_s() - began_s == pytest.approx(PATIENCE_S)
        assert it.lookups == {"miss": 1}


async def test_a_lookup_is_given_ten_seconds_and_ends_as_a_timeout(store: MemoryStore, broker: BrokerTwin) -> None:
    hang(broker)
    async with world(store, broker) as it:
        it.cache.expect(event())
        await pass_time(9.9)
        assert broker.asking == 1
        await pass_time(0.2)
        assert broker.asking == 0
        assert it.lookups == {"timeout": 1}
        began_s = now_s()
        assert await it.contact() is None
        assert now_s() == began_s, "it is known that nobody will say"


async def test_many_who_ask_about_one_contact_are_one_question(store: MemoryStore, broker: BrokerTwin) -> None:
    hung = hang(broker)
    async with world(store, broker) as it:
        told: list[Contact | None] = []

        async def ask() -> None:
            told.append(await it.contact(within_s=5))

        async with anyio.create_task_group() as askers:
            for _ in range(50):
                askers.start_soon(ask)
                it.cache.expect(event())
            await pass_time(1)
            hung.set()
        assert told == [Contact(picture_url=URL)] * 50
        assert broker.asked_about == {ANA: 1}


async def test_what_another_worker_has_found_out_is_not_asked_again(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as one, world(store, broker) as another:
        await one.contact()
        await one.contact(event(BOB))
        await pass_time(0.1)
        assert await another.contact() == Contact(picture_url=URL)
        assert await another.contact(event(BOB)) is None
        assert broker.asked_about == {ANA: 1, BOB: 1}
        broker.fails = lambda _call: failure()
        await one.contact(event(person(3)))
        await pass_time(0.1)
        await another.contact(event(person(3)))
        assert broker.asked_about[person(3)] == 1


async def test_one_who_gives_up_waiting_ends_nobody_elses_question(store: MemoryStore, broker: BrokerTwin) -> None:
    hung = hang(broker)
    async with world(store, broker) as it:
        with anyio.move_on_after(0.1):
            await it.contact(within_s=5)
        hung.set()
        assert await it.contact() == Contact(picture_url=URL)
        assert broker.asked_about == {ANA: 1}


async def test_a_store_that_is_away_costs_nothing_but_what_it_knew(store: MemoryStore, broker: BrokerTwin) -> None:
    store.faults.away = True
    async with world(store, broker) as it:
        assert await it.contact(event(name="Ana")) == Contact(name="Ana", picture_url=URL)
        assert await it.contact() == Contact(name="Ana", picture_url=URL)
        assert broker.asked_about == {ANA: 1}


async def test_a_store_that_hangs_holds_nobody_for_longer_than_the_patience(store: MemoryStore, broker: BrokerTwin) -> None:
    store.faults.stall()
    async with world(store, broker) as it:
        began_s = now_s()
        assert await it.contact(event(name="Ana")) == Contact(name="Ana")
        assert now_s() - began_s == pytest.approx(PATIENCE_S)


async def test_nothing_is_kept_where_the_store_is_tight(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        it.cache.is_store_tight = lambda: True
        assert await it.contact(event(name="Ana")) == Contact(name="Ana", picture_url=URL)
        await pass_time(1)
        assert not [call for call in store.faults.calls if call.startswith("contact_keep")]


async def test_a_fault_of_ours_in_one_lookup_ends_no_other(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:

        async def crash(_call: str) -> None:
            raise RuntimeError(f"quotes {ANA}")

        broker.before = crash
        assert await it.contact() is None
        broker.before = None
        assert await it.contact() == Contact(picture_url=URL)


# -- how much is asked ----------------------------------------------------------------------------------------------------------------


async def test_at_most_four_are_asked_about_for_an_instance_and_sixteen_at_a_broker(store: MemoryStore, broker: BrokerTwin) -> None:
    hang(broker)
    async with world(store, broker) as it:
        for number in range(20):
            it.cache.expect(event(person(number)))
        await pass_time(1)
        assert broker.asking == AT_ONCE
        for number in range(20):
            it.cache.expect(event(person(number), instance=f"i{number}"))
        await pass_time(1)
        assert broker.asking == AT_ONCE_PER_BROKER


async def test_an_instance_whose_gateway_does_not_answer_takes_no_turn_of_another(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        hung = hang(broker)
        for number in range(40):
            it.cache.expect(event(person(number)))
        await pass_time(1)
        broker.before = None
        assert await it.contact(event(ANA, instance="desk")) == Contact(picture_url=URL)
        hung.set()


async def test_what_finds_the_line_full_is_not_asked_about_and_counted(store: MemoryStore, broker: BrokerTwin) -> None:
    hang(broker)
    async with world(store, broker) as it:
        for number in range(IN_LINE + 10):
            it.cache.expect(event(person(number)))
        await pass_time(1)
        assert it.lookups == {"limited": 10}


async def test_all_that_is_looked_for_has_a_bound(store: MemoryStore, broker: BrokerTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_FLIGHTS", 8)
    store.faults.stall()
    async with world(store, broker) as it:
        for number in range(20):
            it.cache.expect(event(person(number)))
        await pass_time(0.1)
        assert it.cache.statistics()["looked_for"] == 8
        assert it.lookups == {"limited": 12}
        began_s = now_s()
        assert await it.contact(event(person(19))) is None
        assert now_s() == began_s, "nobody waits for what nobody looks for"
        store.faults.resume()


async def test_memory_holds_so_many_and_the_store_knows_the_rest(
    store: MemoryStore, broker: BrokerTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "IN_MEMORY", 5)
    async with world(store, broker) as it:
        for number in range(50):
            await it.contact(event(person(number)))
        await pass_time(1)
        assert it.cache.statistics()["in_memory"] == 5
        for number in range(50):
            await it.contact(event(person(number)))
        assert broker.asked_about == {person(number): 1 for number in range(50)}


async def test_a_gateway_that_failed_five_times_in_a_row_is_left_alone_for_a_while(store: MemoryStore, broker: BrokerTwin) -> None:
    broker.fails = lambda _call: failure()
    async with world(store, broker) as it:
        for number in range(30):
            await it.contact(event(person(number)))
        assert broker.asked["picture"] == asking.FAILURES_TO_REST
        assert it.lookups["limited"] >= 25
        assert await it.contact(event(ANA, instance="desk")) is None
        assert broker.asked["picture"] == asking.FAILURES_TO_REST + 1, "another instance's are asked about"
        await pass_time(REST_S)
        await it.contact(event(person(40)))
        await it.contact(event(person(41)))
        assert broker.asked["picture"] == asking.FAILURES_TO_REST + 2, "one failure after a rest, and it rests again"
        await pass_time(REST_S)
        broker.fails = lambda _call: None
        assert await it.contact() == Contact(picture_url=URL)
        broker.fails = lambda _call: failure()
        await it.contact(event(person(42)))
        assert not it.asking.refusal(InstanceId("sales")), "one failure after an answer is one failure"


async def test_a_gateway_that_is_asked_too_much_is_left_alone_at_once(store: MemoryStore, broker: BrokerTwin) -> None:
    broker.fails = lambda _call: failure(BrokerCause.RATE_LIMITED, status=429)
    async with world(store, broker) as it:
        for number in range(5):
            await it.contact(event(person(number)))
        assert broker.asked["picture"] == 1


async def test_its_failures_do_not_close_the_brokers_circuit_and_an_open_one_is_respected(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        broker.fails = lambda _call: failure()
        for number in range(10):
            await it.contact(event(person(number)))
        assert it.callers[0].is_well
        for _ in range(5):
            it.callers[0].breaker.failed(failure(), now_s(), probe=False)
        began_s = now_s()
        assert await it.contact(event(ANA, instance="desk")) is None
        assert now_s() == began_s
        assert broker.asked["picture"] == asking.FAILURES_TO_REST


async def test_of_an_instance_that_is_not_connected_nobody_is_asked_about(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        broker.fails = lambda _call: NotConnected("made up")
        began_s = now_s()
        for number in range(10):
            await it.contact(event(person(number)))
        assert now_s() == began_s
        assert broker.asked["picture"] == 1
        assert it.lookups["not_connected"] >= 10
        broker.fails = lambda _call: None
        assert await it.contact() is None
        await pass_time(NOT_CONNECTED_S)
        assert await it.contact() == Contact(picture_url=URL), "not the contact's fault: it is asked about as soon as one may"


async def test_whoever_holds_the_socket_knows_whether_it_is_connected(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        is_connected: dict[str, bool] = {"sales": False, "desk": True}
        it.asking.is_connected = is_connected.get
        assert await it.contact() is None
        assert broker.asked == {}
        assert it.lookups["not_connected"] == 1
        assert await it.contact(event(ANA, instance="desk")) == Contact(picture_url=URL)
        assert await it.contact(event(ANA, instance="shop")) == Contact(picture_url=URL), "unknown: may be asked"
        is_connected["sales"] = True
        assert await it.contact() == Contact(picture_url=URL)


async def test_the_sessions_know_whether_an_instance_can_be_heard_once_its_stream_was_opened_or_lost() -> None:
    gateway, name = forgets(), InstanceId("i0")
    async with sockets_world(gateway) as it:
        is_connected = it.streams.sessions.is_connected
        assert is_connected(name) is None
        it.own()
        await it.reading()
        assert is_connected(name) is True
        gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "made up")
        gateway.drop()
        await until(lambda: is_connected(name) is False, within_s=30, what="it is not heard any more")
        gateway.troubles.refuse = None
        await it.reading()
        assert is_connected(name) is True


async def test_who_stood_in_line_when_it_was_lost_is_not_asked_about(store: MemoryStore, broker: BrokerTwin) -> None:
    hung = hang(broker)
    async with world(store, broker) as it:
        for number in range(20):
            it.cache.expect(event(person(number)))
        await pass_time(1)
        broker.fails = lambda _call: NotConnected("made up")
        hung.set()
        await until(lambda: not it.cache.statistics()["looked_for"], within_s=30, what="nothing is looked for")
        assert broker.asked["picture"] == AT_ONCE


async def test_after_all_that_nothing_is_remembered_of_an_instance_that_answers(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        for number in range(30):
            it.cache.expect(event(person(number), instance="i1"))
        await pass_time(1)
        assert repr(it.asking) == "<Asking 0 instances>"


async def test_nothing_that_is_shown_tells_who_it_is_about(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        told = await it.contact(event(name="Ana"))
        shown = f"{told!r} {it.cache!r} {it.asking!r} {it.cache.statistics()} {it.metrics.text()}"
        shown += repr([*it.cache._memory.items()])  # noqa: SLF001 -- what a traceback or a debugger would show
        assert not [secret for secret in ("5511900000001", "Ana", "pps.example.com") if secret in shown]
        assert orjson.dumps(dict(it.cache.statistics()))
