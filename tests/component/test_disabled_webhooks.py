"""A webhook that says 410, or answers nothing for too long, is disabled: for all workers, over restarts, until somebody undoes it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from tests.component.rig import Rig, Worker, pass_time, rig, until, webhook
from worker.adapters.memory_transport import Answers, Fails, Hangs
from worker.domain.ids import WebhookId
from worker.event_integration.ailing import Ailing
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Answer, Cause, Stage
from worker.event_integration.webhook_states import DisabledReason

pytestmark = pytest.mark.anyio

CRM, GONE = WebhookId("crm"), WebhookId("gone")
TOO_LONG_S = 300.0
PATIENT = RetryPolicy(schedule_s=(5.0,) * 100, max_age_s=86_400)


async def knows_disabled(worker: Worker, webhook_id: WebhookId, *, within_s: float = 3) -> None:
    await until(lambda: webhook_id in worker.engine.standing.disabled, within_s=within_s, what=f"{worker.name} knows {webhook_id} disabled")


async def said_410(it: Rig, worker: Worker) -> None:
    it.answer("gone", Answers(status=410))
    await it.push(worker)
    await knows_disabled(worker, GONE)
    await pass_time(2)


async def test_410_is_remembered_over_a_restart() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        await said_410(it, a)
        await it.shut_down(a)
        b = await it.owning("b")
        await it.push(b, 3)
        await it.nothing_waits()
        assert len(it.attempts("gone")) == 1
        assert b.engine.standing.disabled == {GONE: DisabledReason.GONE}


async def test_another_worker_knows_within_seconds() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        b = await it.start("b")
        await said_410(it, a)
        await knows_disabled(b, GONE)


async def test_what_waits_in_lanes_and_in_the_queue_when_it_is_disabled_elsewhere_becomes_dead_letters() -> None:
    async with rig(webhook("gone", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=500), Hangs())
        await it.push(a, 10)
        await pass_time(1)
        assert a.engine.buffer.deliveries + a.engine.retry_pump.depth > 0
        await it.store.webhook_states.disable(GONE, DisabledReason.GONE)
        await it.nothing_waits(within_s=120)
        letters = await it.dead_letters()
        assert {letter.reason for letter in letters} == {DeadReason.WEBHOOK_DISABLED}
        assert {letter.error for letter in letters if not letter.attempts} <= {"the endpoint answered 410"}
        assert len(letters) == 10


async def test_what_would_be_tried_again_in_hours_is_a_dead_letter_at_once_and_keeps_what_its_endpoint_said() -> None:
    async with rig(webhook("gone"), retry=RetryPolicy(schedule_s=(36_000.0,), max_age_s=86_400)) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=500))
        await it.push(a, 3)
        await until(lambda: a.engine.retry_pump.depth == 3, within_s=10, what="all three wait")
        await it.store.webhook_states.disable(GONE, DisabledReason.BY_HAND)
        await it.nothing_waits(within_s=5)
        assert [(letter.reason, letter.attempts, letter.error) for letter in await it.dead_letters()] == [
            (DeadReason.WEBHOOK_DISABLED, 1, "HTTP 500")
        ] * 3


async def test_a_webhook_that_answers_nothing_for_too_long_is_disabled() -> None:
    async with rig(retry=PATIENT, disable_after_s=TOO_LONG_S) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a)
        await pass_time(TOO_LONG_S - 20)
        assert a.engine.standing.disabled == {}
        await knows_disabled(a, CRM, within_s=90)
        assert a.engine.standing.disabled == {CRM: DisabledReason.UNANSWERED}
        await it.nothing_waits(within_s=120)
        assert [letter.reason for letter in await it.dead_letters()] == [DeadReason.WEBHOOK_DISABLED]


async def test_one_2xx_in_between_begins_the_time_anew() -> None:
    async with rig(retry=PATIENT, disable_after_s=TOO_LONG_S) as it:
        a = await it.owning()
        it.answer("crm", *[Answers(status=500)] * 10, Answers(), Answers(status=500))
        await it.push(a, 1)
        await it.all_delivered(within_s=TOO_LONG_S * 2)
        await it.push(a, 1)
        await pass_time(TOO_LONG_S / 2)
        assert a.engine.standing.disabled == {}
        it.answer("crm")
        await it.all_delivered(within_s=300)


async def test_a_webhook_that_has_nothing_to_answer_is_not_disabled() -> None:
    async with rig(disable_after_s=TOO_LONG_S) as it:
        a = await it.owning()
        await it.push(a)
        await pass_time(2 * TOO_LONG_S)
        await it.push(a)
        await it.all_delivered(within_s=5)
        assert a.engine.standing.disabled == {}


def told_of(logs: list[MutableMapping[str, Any]]) -> list[tuple[object, ...]]:
    return [(entry["event"], entry["webhook"], entry["cause"]) for entry in logs if entry["event"].startswith("webhook_")]


async def test_a_webhook_that_goes_bad_is_told_once_and_so_is_that_it_answers_again() -> None:
    async with rig(retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", *[Answers(status=500)] * 20)
        with structlog.testing.capture_logs() as logs:
            await it.push(a, 3)
            await pass_time(20)
        assert told_of(logs) == [("webhook_fails", "crm", "answered 500")]
        assert logs[-1]["next_step"] == "look at the endpoint; its events wait and are tried again"
        it.answer("crm")
        with structlog.testing.capture_logs() as logs:
            await it.all_delivered(within_s=300)
            await pass_time(2)
        assert told_of(logs) == [("webhook_answers_again", "crm", "answered with 2xx")]


async def test_a_webhook_that_may_not_be_called_is_told_with_what_to_allow() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Fails(cause=Cause.FORBIDDEN, stage=Stage.DNS))
        with structlog.testing.capture_logs() as logs:
            await it.push(a, 3)
            await pass_time(3)
        [entry] = [entry for entry in logs if entry["event"].startswith("webhook_")]
        assert (entry["event"], entry["cause"]) == ("webhook_fails", "forbidden_destination: scripted")
        assert "[delivery]" in entry["next_step"]
        assert a.engine.standing.disabled == {}


def test_one_that_goes_back_and_forth_gets_a_pair_of_lines_in_five_minutes() -> None:
    ailing = Ailing()
    with structlog.testing.capture_logs() as logs:
        for second in range(0, 600, 2):
            ailing.tell(failed={CRM: Answer(status=500)}, forbidden={}, answered=set(), now_s=float(second))
            ailing.tell(failed={}, forbidden={}, answered={CRM}, now_s=second + 1.0)
    assert [event for event, _, _ in told_of(logs)] == ["webhook_fails", "webhook_answers_again"] * 2


def test_one_that_answers_beside_its_failures_is_not_bad() -> None:
    with structlog.testing.capture_logs() as logs:
        Ailing().tell(failed={CRM: Answer(status=500)}, forbidden={}, answered={CRM}, now_s=0.0)
    assert logs == []


async def test_0_means_never() -> None:
    async with rig(retry=PATIENT, disable_after_s=0.0) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a)
        await pass_time(1.5 * TOO_LONG_S)
        assert a.engine.standing.disabled == {}
        it.answer("crm")
        await it.all_delivered(within_s=300)


async def test_an_operator_who_removes_the_state_enables_it_again() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        await said_410(it, a)
        it.answer("gone")
        it.store.webhook_states.remove(GONE)
        await until(lambda: not a.engine.standing.disabled, within_s=3, what="a knows it enabled")
        it.accepted.clear()
        await it.push(a, 2)
        await it.all_delivered(within_s=5)


async def test_a_410_that_the_store_could_not_be_told_is_told_later() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=410, after_s=1))
        await it.push(a)
        a.faults.away = True
        await knows_disabled(a, GONE)
        await pass_time(2)
        a.faults.away = False
        b = await it.start("b")
        await knows_disabled(b, GONE, within_s=10)
