"""What cannot be read, built or signed becomes one dead letter, `internal_error`; its lane, its shard and its worker go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.component.rig import ACME, rig, until, webhook
from worker.adapters.memory_store import MemoryStore
from worker.domain.ids import EventKey, OwnerId, Position, Shard, WebhookId, delivery_id
from worker.event_integration import request
from worker.event_integration.retry_queue import DeadReason, Parking
from worker.journal.port import NewEvent

pytestmark = pytest.mark.anyio

RUBBISH = b"\x07these bytes are no record"


async def journal_rubbish(store: MemoryStore) -> None:
    await store.journal.append(Shard(0), [NewEvent(event_key=EventKey("rubbish"), tenant_id=ACME, record=RUBBISH)])


async def test_a_record_that_cannot_be_decoded_is_one_dead_letter_and_the_shard_goes_on() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        await it.push(a, 3)
        await journal_rubbish(it.store)
        await it.push(a, 3)
        await it.all_delivered(within_s=5)
        await until(lambda: a.engine.settling.dead_count == 1, within_s=1, what="a dead letter")
        [letter] = await it.dead_letters()
        assert letter.reason is DeadReason.INTERNAL_ERROR
        assert "cannot be read" in (letter.error or "")


async def test_an_unreadable_record_is_not_buried_again_by_the_next_owner() -> None:
    async with rig(webhook("crm"), shards=1, instances=1) as it:
        a = await it.owning()
        await journal_rubbish(it.store)
        await until(lambda: a.engine.settling.dead_count == 1, within_s=3, what="a dead letter")
        assert len(await it.dead_letters()) == 1
        await a.kill()
        b = await it.owning("b")
        await it.push(b, 2)
        await it.all_delivered(within_s=5)
        assert b.engine.settling.dead_count == 0
        assert len(await it.dead_letters()) == 1


async def test_a_request_that_cannot_be_built_is_a_dead_letter_and_the_lane_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    build = request.PreparedWebhook.request

    def fails_for_one(self: Any, record: Any, *rest: Any) -> Any:
        if record.envelope["text"] == "poison":
            raise ZeroDivisionError
        return build(self, record, *rest)

    monkeypatch.setattr(request.PreparedWebhook, "request", fails_for_one)
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        await it.push(a, 3)
        await it.push_one(a, "i0", "poison")
        await it.push(a, 3)
        await until(lambda: it.missing() == {("crm", "poison")}, within_s=5, what="all but the poison is delivered")
        await it.nothing_waits()
        [letter] = await it.dead_letters()
        assert letter.reason is DeadReason.INTERNAL_ERROR
        assert it.duplicates() == 0


async def test_an_event_that_cannot_be_routed_is_a_dead_letter_and_the_reader_goes_on() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        router: Any = a.engine.pipeline.router
        routes = router.routes

        def fails_for_one(record: Any) -> Any:
            if record.envelope["text"] == "poison":
                raise ZeroDivisionError
            return routes(record)

        router.routes = fails_for_one
        await it.push_one(a, "i0", "poison")
        await it.push(a, 3)
        await until(lambda: it.missing() == {("crm", "poison")}, within_s=5, what="all but the poison is delivered")
        assert [letter.reason for letter in await it.dead_letters()] == [DeadReason.INTERNAL_ERROR]


async def test_a_parked_delivery_whose_record_cannot_be_decoded_is_a_dead_letter_and_the_pump_goes_on() -> None:
    async with rig(shards=1, instances=1) as it:
        await journal_rubbish(it.store)
        hook, key = WebhookId("crm"), EventKey("rubbish")
        token = (await it.store.leases.acquire(Shard(0), OwnerId("earlier"), ttl_s=1, sole=False))[0]
        rubbish = Parking(
            delivery_id=delivery_id(key, hook),
            event_key=key,
            webhook_id=hook,
            tenant_id=ACME,
            position=Position(1),
            record=RUBBISH,
            attempts=0,
        )
        await it.store.retry_queue.park(Shard(0), token, [rubbish])  # type: ignore[arg-type]
        a = await it.owning()
        await until(lambda: a.engine.settling.dead_count == 2, within_s=10, what="one of the journal, one of the queue")
        await it.push(a, 3)
        await it.all_delivered(within_s=5)
        letters = await it.dead_letters()
        assert {letter.reason for letter in letters} == {DeadReason.INTERNAL_ERROR}
        assert key in {letter.event_key for letter in letters}


async def test_a_transport_that_raises_is_a_failed_attempt_and_not_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        deliver = a.wire.deliver
        raised = asyncio.Event()

        async def fails_once(*args: Any) -> Any:
            if not raised.is_set():
                raised.set()
                raise OSError
            return await deliver(*args)

        monkeypatch.setattr(a.wire, "deliver", fails_once)
        await it.push(a, 3)
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert await it.dead_letters() == []
