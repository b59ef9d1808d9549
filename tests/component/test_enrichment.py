"""Contacts at delivery, through a whole engine in virtual time: who is told, who waits and for how long, and that nobody else does."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from tests.component.broker_twin import BrokerTwin, failure
from tests.component.contacts_world import ANA, URL, hang, owning_contacts, person
from tests.component.rig import Rig, now_s, pass_time, rig, until, webhook
from worker.adapters.memory_transport import Answers, Hangs
from worker.contact_metadata_cache.port import Kept
from worker.domain.contact import Contact, ContactKey
from worker.domain.deadline import Deadline
from worker.domain.record import Record
from worker.engine import Engine
from worker.event_integration.enrichment import AGAIN_WITHIN_S, ENRICH_WITHIN_S
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.transport import Request, Stage

pytestmark = pytest.mark.anyio

CRM, PLAIN = webhook("crm", enrich_contact=True), webhook("plain")
QUICK = RetryPolicy(schedule_s=(5, 30), max_age_s=259_200)


@pytest.fixture
async def broker() -> BrokerTwin:
    twin = BrokerTwin()
    twin.pictures = {ANA: URL}
    return twin


def body(request: Request) -> dict[str, Any]:
    return dict(orjson.loads(request.body))


def contacts(it: Rig, name: str = "crm") -> list[Any]:
    """As told by each attempt, in their order."""
    return [body(request)["contact"] for request in it.attempts(name)]


async def test_who_wants_it_is_told_and_nobody_else(broker: BrokerTwin) -> None:
    async with rig(CRM, PLAIN, webhook("raw", enrich_contact=True, format="raw")) as it:
        a = await owning_contacts(it, broker)
        await it.push(a, sender_id=ANA, push_name="Ana")
        await it.all_delivered("crm", "plain", within_s=5)
        assert contacts(it) == [{"name": "Ana", "picture_url": URL}]
        crm, plain, raw = (it.attempts(name)[0] for name in ("crm", "plain", "raw"))
        assert "contact" not in body(plain)
        assert body(crm) == {**body(plain), "contact": {"name": "Ana", "picture_url": URL}}
        assert "contact" not in body(raw)


async def test_of_whom_nothing_is_known_and_of_nobody_null_is_told(broker: BrokerTwin) -> None:
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        await it.push(a, sender_id=person(2))
        await it.push(a, type="connection", connection={"state": "open"})
        await it.all_delivered(within_s=5)
        assert contacts(it) == [None, None]


async def test_without_anybody_who_knows_contacts_null_is_told_at_once() -> None:
    async with rig(CRM) as it:
        a = await it.owning()
        await it.push(a, sender_id=ANA, push_name="Ana")
        await it.all_delivered(within_s=5)
        assert contacts(it) == [None]


async def test_a_large_body_is_told_it_too(broker: BrokerTwin) -> None:
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        await it.push(a, sender_id=ANA, raw="x" * 200_000)
        await until(lambda: len(it.attempts("crm")) == 1, within_s=5, what="it is delivered")
        assert contacts(it) == [{"name": None, "picture_url": URL}]


async def test_a_picture_endpoint_that_never_answers_delays_an_event_by_its_own_patience_and_no_other_webhooks_at_all(
    broker: BrokerTwin,
) -> None:
    async def latencies(*, is_hung: bool) -> tuple[list[float], list[float]]:
        async with rig(CRM, PLAIN) as it:
            a = await owning_contacts(it, broker)
            if is_hung:
                hang(broker)
            pushed: dict[str, float] = {}
            for number in range(40):
                pushed[f"e{it.number + 1}"] = now_s()
                await it.push(a, sender_id=person(number))
                await pass_time(0.02)
            await it.all_delivered(within_s=30)
            crm, plain = ({text: at_s - pushed[text] for text, at_s in it.latencies_s(n).items()} for n in ("crm", "plain"))
            return sorted(crm.values()), sorted(plain.values())

    (_, plain_before), (crm, plain) = await latencies(is_hung=False), await latencies(is_hung=True)
    assert plain == pytest.approx(plain_before, abs=0.001)
    assert crm[0] >= ENRICH_WITHIN_S - 0.03
    assert crm[-1] <= ENRICH_WITHIN_S + 0.03


async def test_a_burst_of_strangers_waits_once_and_not_one_behind_the_other(broker: BrokerTwin) -> None:
    hang(broker)
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        began_s = now_s()
        for number in range(200):
            await it.push(a, sender_id=person(number))
        assert now_s() - began_s < 0.1, "the door knows nothing of contacts"
        await it.all_delivered(within_s=5)
        assert max(it.latencies_s("crm").values()) - began_s < ENRICH_WITHIN_S + 0.2


async def test_what_was_found_while_an_event_waited_in_its_lane_costs_nothing(broker: BrokerTwin) -> None:
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        it.answer("crm", Answers(after_s=1.0), Answers())

        async def slowly(_call: str) -> None:
            await pass_time(0.5)

        broker.before = slowly
        await it.push(a, sender_id=person(1))
        await it.push(a, sender_id=ANA)
        await it.all_delivered(within_s=5)
        assert contacts(it) == [None, {"name": None, "picture_url": URL}]
        assert 'contact_metadata_cache_lookups_total{result="hit"} 1' in a.engine.metrics.text()


async def test_a_later_attempt_has_what_the_first_one_went_without(broker: BrokerTwin) -> None:
    hung = hang(broker)
    async with rig(CRM, retry=QUICK) as it:
        a = await owning_contacts(it, broker)
        it.answer("crm", Answers(status=500), Answers())
        await it.push(a, sender_id=ANA)
        await pass_time(1)
        hung.set()
        await it.all_delivered(within_s=20)
        assert contacts(it) == [None, {"name": None, "picture_url": URL}]
        assert len({request.headers["webhook-id"] for request in it.attempts("crm")}) == 1


async def test_what_comes_back_out_of_the_retry_queue_waits_for_the_store_only(broker: BrokerTwin) -> None:
    """Its budget was spent when it was read: a handover parks many at once, and each would wait in one of few slots."""
    hang(broker)
    async with rig(CRM, retry=QUICK) as it:
        a = await owning_contacts(it, broker)
        it.answer("crm", Answers(status=500), Answers())
        await it.push(a, sender_id=person(7))
        await it.all_delivered(within_s=20)
        await pass_time(3)
        last, first = await it.store.attempts_log.attempts_of(CRM.id)
        assert first.phases_s[Stage.ENRICH] == pytest.approx(ENRICH_WITHIN_S, abs=0.05)
        assert last.phases_s[Stage.ENRICH] == pytest.approx(AGAIN_WITHIN_S, abs=0.005)


async def test_the_wait_is_part_of_the_attempts_deadline_and_is_told_as_its_stage(broker: BrokerTwin) -> None:
    hang(broker)
    hook = webhook("crm", enrich_contact=True, deadline_s=1.0)
    async with rig(hook) as it:
        a = await owning_contacts(it, broker)
        it.answer("crm", Hangs())
        await it.push(a, sender_id=ANA)
        await pass_time(3)
        entry = (await it.store.attempts_log.attempts_of(hook.id))[-1]
        assert entry.duration_s == pytest.approx(1.0, abs=0.05)
        assert {stage.value: s for stage, s in entry.phases_s.items()} == pytest.approx({"enrich": 0.25, "first_byte": 0.75}, abs=0.05)
        assert 'webhook_attempt_phase_duration_seconds_count{webhook="crm",phase="enrich"} 1' in a.engine.metrics.text()


async def test_no_attempt_waits_beyond_its_own_deadline(broker: BrokerTwin) -> None:
    hang(broker)
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        a.engine.pipeline.cutoff_s = now_s() + 0.1
        await it.push(a, sender_id=ANA)
        await pass_time(0.15)
        assert a.engine.pipeline.in_flight == 0
        a.engine.pipeline.cutoff_s = None


class Broken:
    """`Enrichment`, with a fault of ours in it."""

    def expect(self, record: Record) -> None:
        raise RuntimeError(f"quotes {record.data!r}")

    async def contact(self, record: Record, deadline: Deadline) -> Contact | None:
        raise RuntimeError(f"quotes {record.data!r}")

    async def run(self) -> None:
        await anyio.sleep_forever()

    def statistics(self) -> dict[str, object]:
        return {}


async def test_a_fault_of_ours_costs_the_contact_and_never_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    async with rig(CRM, PLAIN) as it:

        def equip(engine: Engine) -> None:
            engine.contacts = Broken()

        a = await it.owning(equip=equip)
        await it.push(a, 5, sender_id=ANA)
        await it.all_delivered(within_s=5)
        assert contacts(it) == [None] * 5
        said = capsys.readouterr().out
        assert "contact_not_told" in said
        assert "5511900000001" not in said


async def test_a_drain_in_the_middle_of_lookups_loses_and_repeats_nothing(broker: BrokerTwin) -> None:
    hang(broker)
    async with rig(CRM, PLAIN) as it:
        a = await owning_contacts(it, broker)
        for number in range(100):
            await it.push(a, sender_id=person(number))
        shutdown = await it.shut_down(a)
        assert shutdown.left_nothing
        b = await owning_contacts(it, broker, "b")
        await it.push(b, sender_id=person(1))
        await it.all_delivered(within_s=60)
        assert it.duplicates() == 0


async def test_with_order_wanted_a_chats_events_stay_in_order_while_some_wait_for_contacts(broker: BrokerTwin) -> None:
    async with rig(webhook("crm", enrich_contact=True, ordering="chat")) as it:
        a = await owning_contacts(it, broker)

        async def sometimes(_call: str) -> None:
            await pass_time(0.1 * (broker.asked["picture"] % 4))

        broker.before = sometimes
        for number in range(60):
            await it.push(a, instance="i0", chat_id="120363000000000001@g.us", is_group=True, sender_id=person(number))
        await it.all_delivered(within_s=60)
        assert [str(body(request)["text"]) for request in it.attempts("crm")] == it.accepted


async def test_webhooks_that_want_none_ask_nobody(broker: BrokerTwin) -> None:
    async with rig(PLAIN, webhook("raw", enrich_contact=True, format="raw")) as it:
        a = await owning_contacts(it, broker)
        await it.push(a, 5, sender_id=ANA, push_name="Ana")
        await it.all_delivered("plain", within_s=5)
        await pass_time(1)
        assert not broker.asked
        kept = [await it.store.contacts.load(ContactKey(instance_id, ANA)) for instance_id in it.catalog.instances]
        assert kept == [Kept()] * len(kept)


async def test_what_it_does_is_shown_on_the_status_page(broker: BrokerTwin) -> None:
    broker.fails = lambda _call: failure()
    async with rig(CRM) as it:
        a = await owning_contacts(it, broker)
        await it.push(a, 3, sender_id=ANA)
        await it.all_delivered(within_s=5)
        assert a.engine.statistics()["contacts"] == {"in_memory": 3, "looked_for": 0, "asking": 0, "instances_resting": 0}
