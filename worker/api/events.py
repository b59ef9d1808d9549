"""`GET /api/events/{eventKey}`: the timeline of one event, as far as it is still kept (contract 5).

What the store knows comes first: where the event stands in the journal, what waits, what has died. Where nothing of a delivery waits, the
journal's word that it is done, and the attempts still remembered, say how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from worker.api.endpoints import ApiError, ApiModel, Call, Endpoint, Fault, Reply
from worker.api.instants import instant_ms
from worker.domain.catalog import Catalog, Webhook
from worker.domain.errors import CorruptRecord
from worker.domain.ids import EventKey, TenantId, WebhookId, delivery_id
from worker.domain.record import Record, decode
from worker.event_integration.past import DeliveryState, Past, Sighting, Stage
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.routing import wants

EVENT_KEY = r"^([0-9a-f]{64}|ulid:[0-9A-HJKMNP-TV-Z]{26}|unreadable:[0-9]{1,4}:[0-9]{1,16})$"
MISSING = Fault(status=404, code="EVENT_NOT_FOUND", when="nothing of this event is kept for this tenant (any more)")


class State(StrEnum):
    """Of a delivery; outside, these words are API."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    UNDER_WAY = "under_way"
    RETRYING = "retrying"
    DEAD = "dead"
    NOT_ROUTED = "not_routed"
    UNKNOWN = "unknown"


class JournalPlace(ApiModel):
    shard: int
    position: int


class DeliveryOfEvent(ApiModel):
    webhook_id: str
    delivery_id: str = Field(description="its `webhook-id`")
    state: State
    attempts: int = Field(description="made and counted; 0 where that is not kept any more")
    next_attempt_in_s: float | None = Field(description="of one that waits in the queue")
    reason: DeadReason | None = Field(description="of a dead letter")
    error: str | None = Field(description="of the last attempt that failed")


class EventTimeline(ApiModel):
    event_key: str
    accepted_at: str
    instance_id: str
    gateway: str
    type: str
    subtype: str | None
    journaled: JournalPlace | None = Field(description="null where its place is not remembered")
    deliveries: list[DeliveryOfEvent]


class OneEvent(ApiModel):
    event: EventTimeline


def event_endpoints(past: Past, catalog: Catalog) -> list[Endpoint]:
    return [
        Endpoint(
            method="GET", path="/api/events/{eventKey}", summary="The timeline of one event", tag="events",
            handle=_Handlers(past, catalog).show, data=OneEvent, path_patterns={"eventKey": EVENT_KEY}, faults=(MISSING,),
        )
    ]  # fmt: skip


class _Handlers:
    def __init__(self, past: Past, catalog: Catalog) -> None:
        self._past = past
        self._catalog = catalog

    async def show(self, call: Call) -> Reply:
        event_key = EventKey(call.path["eventKey"])
        sighting, record = await self._seen(call.tenant_id, event_key)
        mine = self._catalog.webhooks_of_tenant(call.tenant_id)
        # A webhook that was deleted may still have a dead letter of it.
        asked = [*mine, *sorted(sighting.users - mine.keys())]
        states = await self._past.states(sighting.shard, event_key, sighting.position, asked)
        deliveries = [_delivery(record, webhook_id, mine.get(webhook_id), states[webhook_id]) for webhook_id in asked]
        place = None if sighting.position is None else JournalPlace(shard=sighting.shard, position=sighting.position)
        timeline = EventTimeline(
            event_key=event_key,
            accepted_at=record.received_at,
            instance_id=record.instance_id,
            gateway=record.gateway,
            type=record.type,
            subtype=record.subtype,
            journaled=place,
            deliveries=deliveries,
        )
        return Reply(data=OneEvent(event=timeline))

    async def _seen(self, tenant_id: TenantId, event_key: EventKey) -> tuple[Sighting, Record]:
        """Raises `ApiError`. Whose an event is only its record or payload says: remembered without these, it is nobody's to see."""
        sighting = await self._past.find(event_key)
        if sighting is None or sighting.tenant_id != tenant_id or sighting.record is None:
            raise ApiError(MISSING.status, MISSING.code, "nothing of this event is kept here; it may be older than what is kept (KEEP_S)")
        try:
            return sighting, decode(sighting.record)
        except CorruptRecord:
            raise ApiError(
                MISSING.status, MISSING.code, "its record cannot be read by this version; its dead letter has the bytes"
            ) from None


def _delivery(record: Record, webhook_id: WebhookId, webhook: Webhook | None, known: DeliveryState) -> DeliveryOfEvent:
    return DeliveryOfEvent(
        webhook_id=webhook_id,
        delivery_id=delivery_id(record.event_key, webhook_id),
        state=_state(record, webhook, known),
        attempts=known.attempts,
        next_attempt_in_s=round(known.next_in_s, 3) if known.stage is Stage.QUEUED else None,
        reason=known.reason,
        error=known.error,
    )


_WHAT_WAITS: Mapping[Stage, State] = {Stage.CLAIMED: State.UNDER_WAY, Stage.DEAD: State.DEAD}


def _state(record: Record, webhook: Webhook | None, known: DeliveryState) -> State:
    if known.stage in _WHAT_WAITS:
        return _WHAT_WAITS[known.stage]
    if known.stage is Stage.QUEUED:
        return State.RETRYING if known.attempts else State.WAITING
    if webhook is None:
        return State.UNKNOWN
    if not _was_routed(record, webhook):
        return State.NOT_ROUTED
    return {Stage.JOURNALED: State.WAITING, Stage.DONE: State.DELIVERED}.get(known.stage, State.UNKNOWN)


def _was_routed(record: Record, webhook: Webhook) -> bool:
    """By the filter as it is now; an event from before the webhook was not."""
    if webhook.instance_ids and record.instance_id not in webhook.instance_ids:
        return False
    is_older = webhook.created_at is not None and instant_ms(record.received_at) < instant_ms(webhook.created_at)
    return not is_older and wants(webhook, record.type, record.subtype)
