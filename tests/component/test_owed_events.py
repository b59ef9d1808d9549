"""What was accepted for a webhook is owed to it: deleted or disabled before its events were read, they are dead letters, not nothing."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.component.rig import Rig, Worker, pass_time, rig, until, webhook
from tests.component.webhook_calls import URL, api, created
from worker.adapters.memory_transport import Answers, Hangs
from worker.domain.catalog import OWED_FOR_S
from worker.domain.ids import WebhookId
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.webhook_states import DisabledReason

pytestmark = pytest.mark.anyio

GONE = WebhookId("gone")
EVENTS = 300
NARROW: dict[str, Any] = {"buffer_max_events": 40, "buffer_min_lane_events": 8}
"""A buffer that leaves most of them in the journal, unread."""


async def letters(it: Rig, reason: DeadReason) -> int:
    return sum(letter.reason is reason for letter in await it.dead_letters())


async def backlog(it: Rig, worker: Worker) -> None:
    """Most events accepted, and not read."""
    await it.push(worker, EVENTS)
    await pass_time(0.5)
    assert worker.engine.reader.events_read < EVENTS


@pytest.mark.parametrize("reason", [DisabledReason.GONE, DisabledReason.BY_HAND])
async def test_disabled_while_most_of_it_is_unread(reason: DisabledReason) -> None:
    async with rig(webhook("gone", deadline_s=2.0), **NARROW) as it:
        a = await it.owning()
        it.answer("gone", Hangs())
        await backlog(it, a)
        await it.store.webhook_states.disable(GONE, reason)
        await it.nothing_waits(within_s=60)
        assert await letters(it, DeadReason.WEBHOOK_DISABLED) == EVENTS


async def test_a_410_while_most_of_it_is_unread() -> None:
    async with rig(webhook("gone"), **NARROW) as it:
        a = await it.owning()
        it.answer("gone", Answers(status=410))
        await it.push(a, EVENTS)
        await it.nothing_waits(within_s=60)
        assert len(await it.dead_letters()) == EVENTS


async def test_deleted_while_most_of_it_is_unread() -> None:
    async with rig(**NARROW) as it:
        a = await it.owning()
        made = await created(api(it, a), it)
        it.endpoints.script(URL, Hangs())
        await backlog(it, a)
        assert (await api(it, a).ask("DELETE", f"/api/webhooks/{made['id']}"))[0] == 204
        await it.nothing_waits(within_s=60)
        assert await letters(it, DeadReason.WEBHOOK_DELETED) == EVENTS


async def test_deleted_and_then_its_owner_is_killed() -> None:
    async with rig(**NARROW) as it:
        a = await it.owning()
        made = await created(api(it, a), it)
        it.endpoints.script(URL, Hangs())
        await backlog(it, a)
        assert (await api(it, a).ask("DELETE", f"/api/webhooks/{made['id']}"))[0] == 204
        await a.kill()
        await it.owning("b")
        await it.nothing_waits(within_s=60)
        assert await letters(it, DeadReason.WEBHOOK_DELETED) == EVENTS


async def test_what_is_accepted_long_after_is_owed_to_nobody() -> None:
    async with rig() as it:
        a = await it.owning()
        made = await created(api(it, a), it)
        assert (await api(it, a).ask("DELETE", f"/api/webhooks/{made['id']}"))[0] == 204
        await it.store.webhook_states.disable(WebhookId("crm"), DisabledReason.BY_HAND)
        await pass_time(OWED_FOR_S + 2)
        await it.push(a, 5)
        await it.nothing_waits()
        assert await it.dead_letters() == []


async def test_once_enabling_is_answered_every_worker_routes_to_it_again() -> None:
    async with rig(webhook("gone")) as it:
        a = await it.owning()
        b = await it.start("b")
        await it.store.webhook_states.disable(GONE, DisabledReason.BY_HAND)
        await until(lambda: all(GONE in w.engine.standing.disabled for w in (a, b)), within_s=3, what="both know")
        await pass_time(OWED_FOR_S + 1)
        async with anyio.create_task_group() as asking:
            asking.start_soon(api(it, b).ask, "PATCH", "/api/webhooks/gone", {"enabled": True})
        await it.push(a, 5)
        await it.nothing_waits()
        assert len(it.attempts("gone")) == 5
