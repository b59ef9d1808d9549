"""Makers of what the suites of the past speak of: letters of real events, and everything that waits of a tenant."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.samples import HOOK, SHARD, TENANT, Store, parking
from worker.domain.event import Event, EventType
from worker.domain.ids import EventKey, InstanceId, Position, TenantId, Token, WebhookId, delivery_id
from worker.domain.record import encode
from worker.event_integration.past import Letter, LetterFilter, LetterPlace
from worker.event_integration.retry_queue import DeadReason, Parking, Waiting

MINE = LetterFilter(tenant_id=TENANT)
INSTANCE = InstanceId("sales")


def a_record(key: str, *, instance: InstanceId = INSTANCE, tenant: TenantId = TENANT) -> bytes:
    return encode(
        Event(
            event_key=EventKey(key),
            gateway="generic",
            transport="webhook",
            tenant_id=tenant,
            instance_id=instance,
            gateway_instance="phone",
            type=EventType.MESSAGE,
            subtype="message/edited",
            received_at="2026-11-22T07:45:38.300Z",
            raw=b'{"a": 1}',
        )
    )


def dying(
    position: int,
    *,
    hook: WebhookId = HOOK,
    reason: DeadReason = DeadReason.EXHAUSTED,
    tenant: TenantId = TENANT,
    instance: InstanceId = INSTANCE,
) -> Parking:
    """A delivery of the event at `position` that is parked straight among the dead, after nine attempts."""
    item = parking(Position(position), hook=hook, attempts=9)
    record = a_record(item.event_key, instance=instance, tenant=tenant)
    return replace(item, record=record, tenant_id=tenant, dead=reason, error="answered 500")


async def die(store: Store, token: Token, *items: Parking) -> list[Letter]:
    """Buries them one by one, and answers them as they are listed: the oldest first."""
    for item in items:
        await store.retry_queue.park(SHARD, token, [item])
    return await listed(store, newest_first=False)


async def listed(store: Store, wanted: LetterFilter = MINE, *, limit: int = 100, newest_first: bool = True) -> list[Letter]:
    """All that match, over as many pages as it takes."""
    letters: list[Letter] = []
    after: LetterPlace | None = None
    while True:
        page = await store.dead_letters.page(wanted, after=after, limit=limit, newest_first=newest_first)
        assert len(page.letters) <= limit
        letters += page.letters
        if page.next is None:
            return letters
        assert page.next != after, "the next page is another one"
        after = page.next


async def waiting(store: Store, tenant: TenantId = TENANT) -> Waiting:
    return (await store.room.waiting([SHARD]))[SHARD].get(tenant, Waiting(0, 0))


def id_for(position: int, hook: WebhookId) -> str:
    return delivery_id(EventKey(f"event {position}"), hook)
