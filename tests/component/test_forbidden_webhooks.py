"""A webhook whose destination is refused: each of its events is a dead letter at once, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.component.rig import pass_time, rig, webhook
from worker.adapters.memory_transport import Fails
from worker.domain.ids import WebhookId
from worker.event_integration.circuit import CircuitState
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Cause, Stage

pytestmark = pytest.mark.anyio

HOSTILE = WebhookId("hostile")
REFUSED = Fails(cause=Cause.FORBIDDEN, stage=Stage.DNS)


async def test_its_events_are_dead_letters_within_a_second_however_many_there_are() -> None:
    """Were a refusal a failure of the endpoint, the circuit would open and let one through in a minute: for days."""
    async with rig(webhook("hostile")) as it:
        a = await it.owning()
        it.answer("hostile", REFUSED)
        await it.push(a, 100)
        await pass_time(1)
        assert a.engine.bulkheads.circuit(HOSTILE)[0] is CircuitState.CLOSED
        letters = await it.dead_letters()
        assert [letter.reason for letter in letters] == [DeadReason.FORBIDDEN_DESTINATION] * 100
        assert {letter.error for letter in letters} == {"forbidden_destination at dns: scripted"}
        assert len(it.attempts("hostile")) == 100


async def test_it_takes_no_place_from_others_and_is_never_disabled() -> None:
    async with rig(webhook("hostile"), webhook("crm"), disable_after_s=60.0) as it:
        a = await it.owning()
        it.answer("hostile", REFUSED)
        for _ in range(4):
            await it.push(a, 20)
            await it.all_delivered("crm", within_s=1)
            await pass_time(30)
        assert a.engine.bulkheads.statistics()["webhooks_suspect"] == 0
        assert a.engine.standing.disabled == {}
