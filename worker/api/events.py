"""`GET /api/events/{eventKey}`: the timeline of one event, as far as it is still kept (contract 5).

What the store knows comes first: where the event stands in the journal, what waits, what has died. Where nothing of a delivery waits, the
journal's word that it is done, and the attempts still remembered, say how it ended: done, and no attempt in a log that would have it, is
an event that was never routed there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from pydantic import Field

from worker.api.endpoints import ApiError, ApiModel, Call, Endpoint, Fault, Reply
from worker.api.instants import instant_ms, told
from worker.domain.catalog import Catalog, Webhook
from worker.domain.errors import CorruptRecord
from worker.domain.ids import EventKey, WebhookId, delivery_id
from worker.domain.record import Record, decode
from worker.event_integration.attempts_log import KEEP_S, KEPT, AttemptEntry
from worker.event_integration.past import DeliveryState, Past, Sighting, Stage
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.routing import wants

EVENT_KEY = r"^([0-9a-f]{64}|ulid:[0-9A-HJKMNP-TV-Z]{26}|unreadable:[0-9]{1,4}:[0-9]{1,16})$"
MISSING = Fault(status=404, code="EVENT_NOT_FOUND", when="nothing of this event is kept for this tenant (any more)")
MAX_LOGS = 100
"""Webhooks whose attempts are looked through."""
LOGGED_WITHIN_S = 3.0
"""After an attempt; the journal may be done with an event before its attempt is in the log, and logs of several workers interleave."""
NOT_KNOWN = DeliveryState(stage=Stage.UNKNOWN)
_DELIVERED = "delivered"
_COUNTED = frozenset({Stage.QUEUED, Stage.CLAIMED, Stage.DEAD})
"""Where the store counts the attempts itself; else the newest of the log says how many there were."""


class Attempts(Protocol):
    """The newest attempts of a webhook."""

    async def attempts_of(self, webhook_id: WebhookId) -> list[AttemptEntry]:
        """The newest first. Raises `StoreUnavailable`."""
        ...


class _Log(NamedTuple):
    """A webhook's, as far as one event is concerned."""

    of_event: Sequence[AttemptEntry] = ()
    entries: int = KEPT
    oldest_s: float = math.inf

    def would_show(self, received_s: float, now_s: float) -> bool:
        """Whether an attempt of an event received then would be in it still. Not known, as by default: no."""
        if now_s - received_s < LOGGED_WITHIN_S:
            return False
        is_whole = self.entries < KEPT and now_s - received_s < KEEP_S
        return is_whole or self.oldest_s + LOGGED_WITHIN_S <= received_s


_NO_LOG = _Log()


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


class AttemptOfEvent(ApiModel):
    at: str = Field(description="when it ended")
    attempt: int
    outcome: str = Field(description="delivered, retry or dead")
    status: int | None = Field(description="of the answer; null: there was none")
    error: str | None
    stage: str | None = Field(description="in which it failed")
    duration_s: float


class DeliveryOfEvent(ApiModel):
    webhook_id: str
    delivery_id: str = Field(description="its `webhook-id`")
    state: State
    attempts: int = Field(description="made and counted; 0 where that is not kept any more")
    next_attempt_in_s: float | None = Field(description="of one that waits in the queue")
    reason: DeadReason | None = Field(description="of a dead letter")
    error: str | None = Field(description="of the last attempt that failed")
    log: list[AttemptOfEvent] = Field(description="attempts still remembered, the newest first")


class EventTimeline(ApiModel):
    """What is null is not kept any more."""

    event_key: str
    accepted_at: str | None
    instance_id: str | None
    gateway: str | None
    type: str | None
    subtype: str | None
    journaled: JournalPlace | None
    deliveries: list[DeliveryOfEvent]


def event_endpoints(past: Past, attempts: Attempts, catalog: Catalog, wall_s: Callable[[], float]) -> list[Endpoint]:
    return [
        Endpoint(
            method="GET", path="/api/events/{eventKey}", summary="The timeline of one event", tag="Events",
            handle=_Handlers(past, attempts, catalog, wall_s).show, data=EventTimeline,
            path_patterns={"eventKey": EVENT_KEY}, faults=(MISSING,),
        )
    ]  # fmt: skip


class _Handlers:
    def __init__(self, past: Past, attempts: Attempts, catalog: Catalog, wall_s: Callable[[], float]) -> None:
        self._past = past
        self._attempts = attempts
        self._catalog = catalog
        self._wall_s = wall_s

    async def show(self, call: Call) -> Reply:
        event_key = EventKey(call.path["eventKey"])
        sighting = await self._past.find(event_key)
        if sighting is not None and sighting.tenant_id not in {None, call.tenant_id}:
            raise _missing()
        mine = self._catalog.webhooks_of_tenant(call.tenant_id)
        # A webhook that was deleted may still have a dead letter of it.
        asked = [*mine, *sorted(sighting.users - mine.keys() if sighting else ())]
        logs = await self._logs(event_key, asked[:MAX_LOGS])
        record = _record(sighting)
        logged = {webhook_id for webhook_id, log in logs.items() if log.of_event}
        if record is None and not logged:
            # Whose an event is, only its record or its attempts say: remembered without these, it is nobody's to see.
            raise _missing()
        if record is None:
            asked = [webhook_id for webhook_id in asked if webhook_id in logged]
        states = await self._past.states(sighting.shard, event_key, sighting.position, asked) if sighting else {}
        now_s = self._wall_s()
        deliveries = [
            _delivery(event_key, webhook_id, _state(record, mine.get(webhook_id), known, log, now_s), known, log.of_event)
            for webhook_id in asked
            for known, log in [(states.get(webhook_id, NOT_KNOWN), logs.get(webhook_id, _NO_LOG))]
        ]
        return Reply(data=_timeline(event_key, sighting, record, deliveries))

    async def _logs(self, event_key: EventKey, webhooks: Sequence[WebhookId]) -> dict[WebhookId, _Log]:
        logs: dict[WebhookId, _Log] = {}
        for webhook_id in webhooks:
            entries = await self._attempts.attempts_of(webhook_id)
            of_event = [one for one in entries if one.event_key == event_key]
            logs[webhook_id] = _Log(of_event, len(entries), min((one.at_s for one in entries), default=math.inf))
        return logs


def _record(sighting: Sighting | None) -> Record | None:
    try:
        return None if sighting is None or sighting.record is None else decode(sighting.record)
    except CorruptRecord:
        return None


def _timeline(event_key: EventKey, sighting: Sighting | None, record: Record | None, deliveries: list[DeliveryOfEvent]) -> EventTimeline:
    position = sighting.position if sighting else None
    return EventTimeline(
        event_key=event_key,
        accepted_at=record.received_at if record else None,
        instance_id=record.instance_id if record else None,
        gateway=record.gateway if record else None,
        type=record.type if record else None,
        subtype=record.subtype if record else None,
        journaled=None if sighting is None or position is None else JournalPlace(shard=sighting.shard, position=position),
        deliveries=deliveries,
    )


def _delivery(
    event_key: EventKey, webhook_id: WebhookId, state: State, known: DeliveryState, logged: Sequence[AttemptEntry]
) -> DeliveryOfEvent:
    failed = next((one for one in logged if one.outcome != _DELIVERED), None)
    return DeliveryOfEvent(
        webhook_id=webhook_id,
        delivery_id=delivery_id(event_key, webhook_id),
        state=state,
        attempts=known.attempts if known.stage in _COUNTED or not logged else logged[0].attempt,
        next_attempt_in_s=round(known.next_in_s, 3) if known.stage is Stage.QUEUED else None,
        reason=known.reason,
        error=None if state is State.DELIVERED else known.error or (_told(failed) if failed else None),
        log=[_attempt(one) for one in logged],
    )


def _attempt(entry: AttemptEntry) -> AttemptOfEvent:
    return AttemptOfEvent(
        at=told(int(entry.at_s * 1000)),
        attempt=entry.attempt,
        outcome=entry.outcome,
        status=entry.status,
        error=entry.error,
        stage=entry.stage,
        duration_s=round(entry.duration_s, 6),
    )


def _told(failed: AttemptEntry) -> str:
    return failed.error or f"HTTP {failed.status}"


_WAITS: Mapping[Stage, State] = {Stage.CLAIMED: State.UNDER_WAY, Stage.DEAD: State.DEAD}


def _state(record: Record | None, webhook: Webhook | None, known: DeliveryState, log: _Log, now_s: float) -> State:
    """What waits is certain. What does not is as its last attempt says; without one, the journal is done with it, and its log decides."""
    if known.stage in _WAITS:
        return _WAITS[known.stage]
    if known.stage is Stage.QUEUED:
        return State.RETRYING if known.attempts else State.WAITING
    if log.of_event and known.stage is not Stage.JOURNALED:
        # Its last attempt failed and it waits nowhere: discarded, perhaps, or a later attempt was not logged.
        return State.DELIVERED if log.of_event[0].outcome == _DELIVERED else State.UNKNOWN
    if record is None or webhook is None:
        return State.UNKNOWN
    was_not_routed = known.stage is Stage.DONE and log.would_show(instant_ms(record.received_at) / 1000, now_s)
    if was_not_routed or not _was_routed(record, webhook):
        return State.NOT_ROUTED
    return {Stage.JOURNALED: State.WAITING, Stage.DONE: State.DELIVERED}.get(known.stage, State.UNKNOWN)


def _was_routed(record: Record, webhook: Webhook) -> bool:
    """By the filter as it is now; an event from before the webhook was not."""
    if not webhook.is_for(record.instance_id):
        return False
    is_older = webhook.created_at is not None and instant_ms(record.received_at) < instant_ms(webhook.created_at)
    return not is_older and wants(webhook, record.type, record.subtype)


def _missing() -> ApiError:
    message = (
        "nothing of this event is kept here; send the event_key that a delivery's body holds,"
        " and note that what was delivered is kept for journal.keep_s seconds"
    )
    return ApiError(MISSING.status, MISSING.code, message)
