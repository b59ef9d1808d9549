"""What is told of a contact, and for how long that is believed: pictures and names, over restarts and workers."""

from __future__ import annotations

import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.contacts_world import ANA, BOB, PATIENCE_S, URL, event, hang, world
from tests.component.rig import now_s, pass_time
from worker.adapters.memory_store import MemoryStore
from worker.contact_metadata_cache.port import FAILED_S, FRESH_S, KEPT_S
from worker.domain.contact import Contact
from worker.instances.broker import BrokerCause

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=1, clock=now_s)


@pytest.fixture
async def broker() -> BrokerTwin:
    twin = BrokerTwin()
    twin.pictures = {ANA: URL}
    return twin


# -- what is told, and when it is asked for -------------------------------------------------------------------------------------------


async def test_what_a_broker_answers_within_the_patience_is_told_at_once(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        assert await it.contact(event(name="Ana")) == Contact(name="Ana", picture_url=URL)
        assert now_s() < PATIENCE_S
        assert it.lookups == {"hit": 1}


async def test_an_expected_event_finds_its_contact_there(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        it.cache.expect(event(name="Ana"))
        await pass_time(1)
        assert await it.contact(within_s=0) == Contact(name="Ana", picture_url=URL)
        assert broker.asked_about == {ANA: 1}


async def test_a_picture_is_believed_for_a_day_then_told_stale_while_it_is_looked_for_anew(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        await it.contact()
        await pass_time(FRESH_S - 60)
        await it.contact()
        assert broker.asked_about[ANA] == 1
        await pass_time(120)
        broker.pictures[ANA] = URL + "?new"
        hung = hang(broker)
        began_s = now_s()
        assert await it.contact() == Contact(picture_url=URL)
        assert now_s() == began_s, "nobody waits for what is told stale"
        hung.set()
        await pass_time(1)
        assert await it.contact() == Contact(picture_url=URL + "?new")
        assert it.lookups == {"hit": 3, "stale": 1}


async def test_a_stale_picture_that_is_not_to_be_had_anew_is_told_for_a_day(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        await it.contact()
        broker.fails = lambda _call: failure(BrokerCause.TIMEOUT)
        await pass_time(FRESH_S + 1)
        for _ in range(10):
            assert await it.contact() == Contact(picture_url=URL)
            await pass_time(1)
        assert broker.asked_about[ANA] == 2, "a failure is not repeated for each event"
        await pass_time(KEPT_S - FRESH_S)
        assert await it.contact() is None


async def test_that_there_is_no_picture_is_believed_for_a_day(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        assert await it.contact(event(BOB)) is None
        await pass_time(FRESH_S - 60)
        assert await it.contact(event(BOB)) is None
        assert broker.asked_about[BOB] == 1
        assert it.lookups == {"negative": 2}
        await pass_time(120)
        await it.contact(event(BOB))
        await pass_time(1)
        assert broker.asked_about[BOB] == 2


async def test_a_failure_is_believed_for_a_minute(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        broker.fails = lambda _call: failure()
        assert await it.contact() is None
        await pass_time(FAILED_S - 1)
        assert await it.contact() is None
        assert broker.asked_about[ANA] == 1
        broker.fails = lambda _call: None
        await pass_time(2)
        assert await it.contact() == Contact(picture_url=URL)


@pytest.mark.parametrize("url", ["", "data:image/png;base64,AAAA", "https://pps.example.com/" + "a" * 2_048])
async def test_what_is_no_url_that_anybody_could_use_is_no_picture(store: MemoryStore, broker: BrokerTwin, url: str) -> None:
    broker.pictures[ANA] = url
    async with world(store, broker) as it:
        assert await it.contact() is None


# -- names ----------------------------------------------------------------------------------------------------------------------------


async def test_a_name_is_remembered_for_events_that_do_not_say_it_also_without_any_broker(store: MemoryStore) -> None:
    async with world(store) as it:
        assert await it.contact(event(instance="silent", name="Ana")) == Contact(name="Ana")
        began_s = now_s()
        assert await it.contact(event(instance="silent")) == Contact(name="Ana")
        assert await it.contact(event(instance="lost", name="Ana")) == Contact(name="Ana")
        assert now_s() == began_s
        assert it.lookups == {}, "where nobody can be asked, nothing is looked up"


async def test_a_name_is_known_to_other_workers_and_after_a_restart(store: MemoryStore) -> None:
    async with world(store) as one:
        await one.contact(event(instance="silent", name="Ana"))
        await pass_time(0.1)
    async with world(store) as another:
        assert await another.contact(event(instance="silent")) == Contact(name="Ana")
        assert await another.contact(event(instance="sales")) is None, "another instance's"


async def test_a_name_that_changes_is_told_as_it_is_now(store: MemoryStore) -> None:
    async with world(store) as one, world(store) as another:
        await one.contact(event(instance="silent", name="Ana"))
        await pass_time(0.1)
        assert await another.contact(event(instance="silent")) == Contact(name="Ana")
        assert await another.contact(event(instance="silent", name="Ana M.")) == Contact(name="Ana M.")
        assert await another.contact(event(instance="silent")) == Contact(name="Ana M.")


async def test_a_name_that_is_said_again_and_again_is_written_once_a_day(store: MemoryStore) -> None:
    async with world(store) as it:
        for _ in range(30):
            await it.contact(event(instance="silent", name="Ana"))
            await pass_time(3_600)
        assert store.faults.calls.count("contact_keep_name") == 2


async def test_what_we_send_is_about_whom_it_is_sent_to_and_says_nothing_of_their_name(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        ours = event("5511955555555@s.whatsapp.net", chat=ANA, from_me=True, name="Loja")
        assert await it.contact(ours) == Contact(picture_url=URL)


async def test_an_event_about_nobody_has_no_contact_and_asks_nobody(store: MemoryStore, broker: BrokerTwin) -> None:
    async with world(store, broker) as it:
        for nobody in (event(None), event("120363000000000001@g.us"), event(None, chat="status@broadcast")):
            it.cache.expect(nobody)
            assert await it.contact(nobody) is None
        assert broker.asked == {}
