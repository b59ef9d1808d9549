"""A paused webhook: nothing reaches it, nothing is lost, nobody else notices; resumed it gets everything (contract 5)."""

from __future__ import annotations

import pytest

from tests.component.rig import Rig, Worker, pass_time, rig, text_of, until, webhook
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_transport import Answers, Hangs
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, WebhookId
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.webhook_states import DisabledReason

pytestmark = pytest.mark.anyio

CRM = WebhookId("crm")
KNOWN_WITHIN_S = 3.0


async def pause(it: Rig, worker: Worker) -> None:
    await it.store.webhook_states.pause(CRM)
    await until(lambda: CRM in worker.engine.standing.paused, within_s=KNOWN_WITHIN_S, what=f"{worker.name} knows it paused")


async def resume(it: Rig, worker: Worker) -> None:
    await it.store.webhook_states.resume(CRM)
    await until(lambda: CRM not in worker.engine.standing.paused, within_s=KNOWN_WITHIN_S, what=f"{worker.name} knows it resumed")


def away_for_states(faults: StoreFaults) -> None:
    async def refuse(call: str) -> None:
        if call == "all_states":
            raise StoreUnavailable("all_states: the store is away")

    faults.before = refuse


def parked(it: Rig) -> int:
    return sum(len(it.store.checkpoints._shards[Shard(n)].deliveries) for n in range(it.shards))  # noqa: SLF001 -- a verdict from outside


async def test_a_paused_webhook_gets_nothing_and_everything_once_it_is_resumed() -> None:
    async with rig(webhook("crm"), webhook("erp")) as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 1_000)
        await it.all_delivered("erp")
        a.faults.calls.clear()
        await pass_time(60)
        assert it.attempts("crm") == []
        assert "claim" not in a.faults.calls
        assert parked(it) == 1_000
        assert a.engine.buffer.deliveries == 0
        await resume(it, a)
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert it.duplicates() == 0
        assert await it.dead_letters() == []


async def test_others_get_their_events_as_if_it_were_not_there() -> None:
    async with rig(webhook("crm"), webhook("erp")) as it:
        a = await it.owning()
        await pause(it, a)
        a.faults.calls.clear()
        for _ in range(200):
            await it.push(a)
            await pass_time(0.01)
            assert not it.missing("erp")
        assert a.faults.calls.count("due") < 20, "parking for a paused webhook makes nobody look for what may be claimed"


async def test_what_waits_in_its_lane_when_it_is_paused_is_put_aside_and_an_attempt_under_way_ends() -> None:
    async with rig(webhook("crm", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=5.0))
        await it.push(a, 50)
        await until(lambda: len(it.attempts("crm")) == 1, within_s=1, what="one is under way")
        await it.store.webhook_states.pause(CRM)
        await a.engine.standing.look()
        await pass_time(1)
        assert a.engine.buffer.deliveries == 1
        await pass_time(30)
        assert len(it.attempts("crm")) == 1
        assert sum(it.deliveries("crm").values()) == 1
        it.answer("crm")
        await resume(it, a)
        await it.all_delivered(within_s=30)
        assert it.duplicates() == 0


async def test_an_attempt_that_fails_after_the_pause_is_put_aside_with_the_attempt_counted() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500, after_s=2.0))
        await it.push(a)
        await until(lambda: len(it.attempts("crm")) == 1, within_s=1, what="one is under way")
        await pause(it, a)
        await pass_time(120)
        assert len(it.attempts("crm")) == 1
        it.answer("crm")
        await resume(it, a)
        await it.all_delivered(within_s=10)
        assert [request.headers["x-delivery-attempt"] for request in it.attempts("crm")] == ["1", "2"]


async def test_being_paused_costs_no_attempts() -> None:
    async with rig() as it:
        a = await it.owning()
        for _ in range(5):
            await pause(it, a)
            await it.push(a, 3)
            await pass_time(20)
            await resume(it, a)
            await it.all_delivered(within_s=10)
        assert {request.headers["x-delivery-attempt"] for request in it.attempts("crm")} == {"1"}


async def test_each_chat_keeps_its_order_over_a_pause() -> None:
    async with rig(webhook("crm", ordering="chat"), instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=0.2))
        for n in range(60):
            if n == 20:
                await pause(it, a)
            if n == 40:
                await resume(it, a)
            await it.push(a, 1, chat_id=f"551190000000{n % 3}@s.whatsapp.net")
        await it.all_delivered(within_s=60)
        texts = [int(text_of(request)[1:]) for request in it.attempts("crm")]
        for chat in range(3):
            mine = [n for n in texts if (n - 1) % 3 == chat]
            assert mine == sorted(mine)
        assert len(texts) == 60


async def test_time_paused_is_not_counted_in_an_events_age() -> None:
    patience_s = 300.0
    policy = RetryPolicy(schedule_s=(20.0,) * 200, max_age_s=patience_s)
    async with rig(webhook("crm"), webhook("erp"), retry=policy, disable_after_s=0.0) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        it.answer("erp", Answers(status=500))
        await it.push(a)
        await pass_time(patience_s / 3)
        await pause(it, a)
        await pass_time(2 * patience_s)
        assert {(letter.webhook_id, letter.reason) for letter in await it.dead_letters()} == {("erp", DeadReason.TOO_OLD)}
        await resume(it, a)
        await pass_time(patience_s / 2)
        assert len(await it.dead_letters()) == 1
        await pass_time(patience_s)
        assert {(letter.webhook_id, letter.reason) for letter in await it.dead_letters()} == {
            ("erp", DeadReason.TOO_OLD),
            ("crm", DeadReason.TOO_OLD),
        }


async def test_a_webhook_is_not_disabled_for_not_answering_while_it_was_paused() -> None:
    async with rig(disable_after_s=300.0) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a)
        await pass_time(10)
        await pause(it, a)
        await pass_time(1_000)
        await resume(it, a)
        await pass_time(100)
        assert a.engine.standing.disabled == {}


async def test_it_stays_paused_when_its_shards_change_hands() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 40)
        await pass_time(2)
        await a.kill()
        b = await it.owning("b")
        await it.push(b, 40)
        await pass_time(30)
        assert it.attempts("crm") == []
        await resume(it, b)
        await it.all_delivered(within_s=30)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_resumed_while_nobody_was_there_it_gets_everything_from_the_next_owner() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 40)
        await it.shut_down(a)
        await it.store.webhook_states.resume(CRM)
        await it.owning("b")
        await it.all_delivered(within_s=30)


async def test_a_resume_that_the_owner_cannot_read_yet_comes_as_soon_as_the_store_is_back() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 20)
        await pass_time(1)
        a.faults.away = True
        await it.store.webhook_states.resume(CRM)
        await pass_time(5)
        assert it.attempts("crm") == []
        a.faults.away = False
        await it.all_delivered(within_s=60)


async def test_a_worker_that_has_not_read_who_is_paused_claims_nothing() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 20)
        await it.shut_down(a)
        b = await it.owning("b", prepare=away_for_states)
        await pass_time(20)
        assert it.attempts("crm") == []
        b.faults.before = None
        await resume(it, b)
        await it.all_delivered(within_s=30)


async def test_what_waits_for_a_paused_webhook_that_is_disabled_becomes_dead_letters() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 10)
        await pass_time(1)
        await it.store.webhook_states.disable(CRM, DisabledReason.BY_HAND)
        await it.nothing_waits(within_s=60)
        letters = await it.dead_letters()
        assert {(letter.reason, letter.error) for letter in letters} == {(DeadReason.WEBHOOK_DISABLED, "somebody disabled it")}
        assert len(letters) == 10


async def test_a_drain_leaves_what_is_paused_in_the_store() -> None:
    async with rig(webhook("crm"), webhook("hung", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("hung", Hangs())
        await pause(it, a)
        await it.push(a, 20)
        shutdown = await it.shut_down(a)
        assert shutdown.unconfirmed == 0
        assert it.attempts("crm") == []
        b = await it.owning("b")
        await resume(it, b)
        await it.all_delivered("crm", within_s=30)


async def test_what_is_held_back_shows_in_depth_and_age() -> None:
    async with rig() as it:
        a = await it.owning()
        await pause(it, a)
        await it.push(a, 20)
        await pass_time(100)
        assert a.engine.retry_pump.depth == 20
        ages = a.engine.metrics.webhook_oldest_undelivered_age.read()
        assert ages == {("acme", "crm"): pytest.approx(100, abs=1)}
        assert a.engine.retry_pump.oldest_due_age_s() == 0, "nobody is late with what is not due"
        await resume(it, a)
        await it.all_delivered(within_s=10)
        await pass_time(3)
        assert a.engine.retry_pump.depth == 0
        assert a.engine.metrics.webhook_oldest_undelivered_age.read() == {}
