"""Every attempt is told in its webhook's log: status or error with its stage, attempt, times; and nothing waits for that."""

from __future__ import annotations

import orjson
import pytest

from tests.component.rig import WALL_AT_ZERO_S, now_s, pass_time, rig, webhook
from worker.adapters.memory_transport import Answers, Fails
from worker.domain.ids import WebhookId
from worker.event_integration.attempts_log import KEPT
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.transport import Cause, Stage

pytestmark = pytest.mark.anyio

CRM = WebhookId("crm")


async def test_an_attempt_is_told_within_seconds() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=0.5))
        before_s = now_s()
        await it.push(a)
        await pass_time(2)
        [entry] = await it.store.attempts_log.attempts_of(CRM)
        [request] = it.attempts("crm")
        assert (entry.event_key, entry.delivery_id) == (orjson.loads(request.body)["event_key"], request.headers["webhook-id"])
        assert (entry.attempt, entry.status, entry.outcome, entry.error, entry.stage) == (1, 200, "delivered", None, None)
        assert entry.duration_s == pytest.approx(0.5, abs=0.1)
        assert before_s + 0.4 < entry.at_s - WALL_AT_ZERO_S <= now_s()


async def test_a_failure_is_told_with_cause_and_stage_and_the_retry_after_it() -> None:
    async with rig(retry=RetryPolicy(schedule_s=(5.0,) * 3, max_age_s=600)) as it:
        a = await it.owning()
        it.answer("crm", Fails(cause=Cause.REFUSED, stage=Stage.CONNECT), Answers(status=500), Answers(status=410))
        await it.push(a)
        await pass_time(60)
        told = [(e.attempt, e.outcome, e.status, e.error, e.stage) for e in await it.store.attempts_log.attempts_of(CRM)]
        assert told == [
            (3, "dead", 410, None, None),
            (2, "retry", 500, None, None),
            (1, "retry", None, "refused: scripted", Stage.CONNECT),
        ]


async def test_what_a_drain_delivers_in_its_last_moment_is_told_too() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 3)
        await a.engine.shutdown(signal_at_s=now_s(), budget_s=30, spill_asked=lambda: False).run()
        a.scope.cancel()
        await pass_time(0.1)
        await it.leave(a)
        assert len(await it.store.attempts_log.attempts_of(CRM)) == 3


async def test_of_many_attempts_the_newest_are_told() -> None:
    async with rig(webhook("crm", max_in_flight=50), webhook("erp")) as it:
        a = await it.owning()
        await it.push(a, 3 * KEPT)
        await it.all_delivered()
        await pass_time(2)
        for hook in it.catalog.webhooks:
            assert len(await it.store.attempts_log.attempts_of(hook)) == KEPT


async def test_where_the_store_does_not_take_the_log_deliveries_go_on_and_it_is_counted() -> None:
    async with rig() as it:
        a = await it.owning()
        a.faults.away = True
        await pass_time(0.1)
        a.faults.away = False
        await it.push(a, 5)
        a.faults.away = True
        await pass_time(3)
        a.faults.away = False
        await it.all_delivered()
        assert a.engine.attempts.dropped == 5
        assert await it.store.attempts_log.attempts_of(CRM) == []
