"""An event's way through a whole engine, in virtual time: delivered, retried, dead, parked; and nobody waits for a stranger."""

from __future__ import annotations

import anyio
import pytest
from orjson import dumps

from tests.component.rig import now_s, pass_time, rig, until, webhook
from tests.conftest import ASYNCIO
from worker.adapters.memory_transport import Answers, Fails, Hangs
from worker.domain.catalog import OWED_FOR_S
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Cause, Stage

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(schedule_s=(5, 30), max_age_s=259_200)


async def test_what_is_accepted_is_delivered_once_and_nothing_is_left() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 50)
        await it.all_delivered(within_s=5)
        await it.nothing_waits(within_s=2)
        assert it.duplicates() == 0
        assert len(it.accepted) == 50


async def test_the_same_event_twice_is_delivered_once() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push_one(a, "i0", "hello")
        await it.push_one(a, "i0", "hello")
        await it.all_delivered(within_s=5)
        await it.nothing_waits()
        assert it.deliveries("crm") == {"hello": 1}


async def test_every_webhook_that_wants_an_event_gets_it_and_nobody_else() -> None:
    hooks = (webhook("all"), webhook("messages", events=("message",)), webhook("receipts", events=("receipt/*",)))
    async with rig(*hooks) as it:
        a = await it.owning()
        await it.push(a, 10)
        await it.push(a, 5, type="receipt", subtype="read", status="read")
        await it.nothing_waits()
        assert [sum(it.deliveries(name).values()) for name in ("all", "messages", "receipts")] == [15, 10, 5]
        assert it.duplicates() == 0


async def test_an_event_that_nobody_wants_is_complete_at_once_and_counted() -> None:
    async with rig(webhook("receipts", events=("receipt",))) as it:
        a = await it.owning()
        await it.push(a, 7)
        await it.nothing_waits(within_s=1)
        assert it.attempts("receipts") == []
        assert a.engine.metrics.event_integration_unrouted.cells == {("acme",): 7}


async def test_a_500_is_tried_again_on_the_schedule_and_then_becomes_a_dead_letter() -> None:
    async with rig(retry=QUICK) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a)
        await until(lambda: len(it.attempts("crm")) == 3, within_s=60, what="three attempts")
        await until(lambda: a.engine.settling.dead_count == 1, within_s=1, what="a dead letter")
        began = [attempt.began_s for attempt in it.endpoints.attempts]
        assert 4 <= began[1] - began[0] <= 6.3
        assert 24 <= began[2] - began[1] <= 36.3
        await pass_time(100)
        [letter] = await it.dead_letters()
        assert (letter.reason, letter.attempts, letter.error) == (DeadReason.EXHAUSTED, 3, "HTTP 500")
        assert [request.headers["x-delivery-attempt"] for request in it.attempts("crm")] == ["1", "2", "3"]
        assert len({request.headers["webhook-id"] for request in it.attempts("crm")}) == 1
        await it.nothing_waits()


async def test_a_webhook_as_busy_as_it_can_be_still_gets_what_is_tried_again() -> None:
    async with rig(webhook("crm", max_in_flight=4), retry=RetryPolicy(schedule_s=(1,), max_age_s=259_200)) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers(), Answers(after_s=0.1))
        await it.push_one(a, "i0", "tried again")
        await until(lambda: a.engine.settling.failed_count == 1, within_s=5, what="its first attempt has failed")
        await it.push_one(a, "i0", "another")
        await until(lambda: it.deliveries("crm")["another"] == 1, within_s=5, what="the endpoint is well again")
        await it.push(a, 1_000)
        await until(lambda: it.deliveries("crm")["tried again"] == 1, within_s=5, what="it is delivered while others wait")
        assert a.engine.buffer.waiting > 500
        await it.all_delivered(within_s=60)
        assert it.duplicates() == 0


async def test_a_refused_connection_is_retried_and_not_dead() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Fails(stage=Stage.CONNECT, cause=Cause.REFUSED), Answers())
        await it.push(a)
        await it.all_delivered(within_s=10)
        await it.nothing_waits()
        assert await it.dead_letters() == []


async def test_410_disables_the_webhook_and_what_comes_later_is_not_routed_to_it() -> None:
    async with rig(webhook("gone"), webhook("crm")) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=410))
        await it.push(a)
        await until(lambda: a.engine.settling.dead_count == 1, within_s=1, what="a dead letter")
        await pass_time(OWED_FOR_S + 1)
        await it.push(a, 5)
        await it.all_delivered("crm", within_s=5)
        await it.nothing_waits()
        assert len(it.attempts("gone")) == 1
        assert [letter.reason for letter in await it.dead_letters()] == [DeadReason.WEBHOOK_DISABLED]


async def test_what_waits_for_a_webhook_when_it_says_410_becomes_dead_letters() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=410, after_s=1))
        await it.push(a, 20)
        await it.nothing_waits(within_s=30)
        assert len(it.attempts("gone")) == 1
        assert len(await it.dead_letters()) == 20


async def test_retry_after_is_kept() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(status=503, retry_after="120"), Answers())
        await it.push(a)
        await it.all_delivered(within_s=130)
        first, second = (attempt.began_s for attempt in it.endpoints.attempts)
        assert 120 <= second - first <= 121


async def test_five_failures_open_the_circuit_and_one_probe_closes_it() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", *[Answers(status=500)] * 5, Answers())
        await it.push(a, 30)
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        began = sorted(attempt.began_s for attempt in it.endpoints.attempts)
        opened_s = began[4]
        after = [at for at in began if at > opened_s]
        assert after[0] - opened_s >= 4, "nothing is attempted while it is open"
        assert len(it.endpoints.attempts) == 5 + 30
        assert it.duplicates() == 0


async def test_a_probe_that_fails_keeps_the_circuit_open_for_longer() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", *[Answers(status=500)] * 7, Answers())
        await it.push(a, 10)
        await it.all_delivered(within_s=200)
        began = sorted(attempt.began_s for attempt in it.endpoints.attempts)
        assert began[5] - began[4] >= 4
        assert began[6] - began[5] >= 8


async def test_a_webhook_that_hangs_delays_nobody_else() -> None:
    hooks = [webhook("crm"), *[webhook(f"hangs-{n}") for n in range(12)]]
    async with rig(*hooks, max_in_flight=16) as it:
        a = await it.owning()
        for n in range(12):
            it.answer(f"hangs-{n}", Hangs())
        slowest_s = 0.0
        for _ in range(100):
            pushed_s = now_s()
            [reply] = await it.push(a)
            assert reply.status == 202
            text = it.accepted[-1]
            await until(lambda text=text: it.deliveries("crm")[text] == 1, within_s=2, what="the healthy webhook has it")  # type: ignore[misc]
            slowest_s = max(slowest_s, it.latencies_s("crm")[text] - pushed_s)
            await pass_time(0.3)
        assert slowest_s < 0.05
        for n in range(12):
            it.answer(f"hangs-{n}")
        await it.all_delivered(within_s=40_000)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_suspect_without_a_place_is_parked_and_no_attempt_counted() -> None:
    async with rig(webhook("hangs")) as it:
        a = await it.owning()
        it.answer("hangs", Hangs(), Answers())
        await it.push(a)
        await pass_time(2.5)
        await it.push(a, 3)
        await until(lambda: a.engine.settling.parked_count == 3, within_s=1, what="three are parked")
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert sorted(request.headers["x-delivery-attempt"] for request in it.attempts("hangs")) == ["1", "1", "1", "1", "2"]


async def test_a_lane_spills_beyond_its_pace_only_when_the_buffer_is_more_than_half_full() -> None:
    async with rig(webhook("slow"), buffer_max_events=400, buffer_min_lane_events=20) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=1.9))
        await it.push(a, 45)
        await pass_time(0.5)
        assert a.engine.settling.parked_count == 0
        await it.push(a, 30)
        await until(lambda: a.engine.settling.parked_count > 0, within_s=3, what="the newest spill")
        assert len(a.engine.buffer.lane(it.catalog.webhooks[next(iter(it.catalog.webhooks))].id).waiting) <= 50
        it.answer("slow")
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_full_buffer_stops_the_reader_and_it_goes_on_when_there_is_room() -> None:
    hooks = [webhook(f"w{n}", deadline_s=30.0) for n in range(8)]
    async with rig(*hooks, buffer_max_events=80, buffer_min_lane_events=64) as it:
        a = await it.owning()
        for hook in hooks:
            it.endpoints.script(hook.url, Answers(after_s=1.5))
        most = 0
        for _ in range(20):
            await it.push(a, 5)
            most = max(most, a.engine.buffer.deliveries)
        await pass_time(1)
        assert a.engine.reader.events_read < 100
        for hook in hooks:
            it.endpoints.script(hook.url, Answers())
        await it.all_delivered(within_s=300)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_gap_of_five_thousand_is_closed_while_one_event_hangs() -> None:
    hooks = (webhook("crm", events=("message",)), webhook("hangs", events=("call",), deadline_s=30.0))
    async with rig(*hooks, instances=1, shards=1) as it:
        a = await it.owning()
        it.answer("hangs", Hangs())
        await it.push(a, type="call")
        body = [{"type": "message", "event_key": f"m{n}", "text": f"m{n}"} for n in range(5_500)]
        for start in range(0, len(body), 500):
            reply = await a.engine.ingest.accept("generic", "i0", {"content-type": "application/json"}, dumps(body[start : start + 500]))
            assert reply.status == 202
        await until(lambda: sum(it.deliveries("crm").values()) == 5_500, within_s=25, what="the others are delivered")
        [tenure] = a.engine.registry.active()
        await until(lambda: tenure.completion.gap < 5_000, within_s=2, what="the gap is closed")
        assert a.engine.under_way, "the attempt that held the prefix back goes on, as a claim"
        it.answer("hangs")
        await until(lambda: it.deliveries("hangs") == {"e1": 1}, within_s=60, what="the hanging one is delivered")
        await it.nothing_waits()


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
async def test_a_large_body_is_delivered_whole_and_built_off_the_loop() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push_one(a, "i0", "big", push_name="x" * 300_000)
        await it.all_delivered(within_s=5)  # of real time: a thread knows no other
        [request] = it.attempts("crm")
        assert len(request.body) > 300_000
        await it.nothing_waits()


async def test_what_is_parked_while_the_pump_asks_what_is_due_is_not_forgotten_until_its_next_look() -> None:
    async with rig(shards=1, instances=1, retry=RetryPolicy(schedule_s=(1.0,), max_age_s=3_600)) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers())
        is_asking = anyio.Event()

        async def answer_late(script: str) -> None:
            if script == "due":
                is_asking.set()
                await pass_time(0.3)

        a.faults.after = answer_late
        await is_asking.wait()
        await it.push(a, 1)
        await pass_time(0.4)
        a.faults.after = None
        await it.all_delivered(within_s=1.5)
