"""`POST /api/webhooks/{webhookId}/replay`: events of a time range once more, while the journal or dead letters hold them (contract 5).

Stateless, as with dead letters: a call queues one page and answers the cursor of the next. First what the journal keeps, shard by shard,
then the webhook's own dead letters. By the webhook's filter as it is now, so that a new webhook can be given what came before it.

A call looks at a bounded stretch of the journal; a page may be short, even empty, and still have a next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog
from pydantic import Field

from worker.api.dead_letters import RATE, ReplayMeta
from worker.api.endpoints import ApiError, ApiModel, Call, Endpoint, Fault, Reply
from worker.api.instants import IMPOSSIBLE, Instant, instant_ms
from worker.api.targets import DISABLED, NOT_FOUND, Targets
from worker.domain.catalog import Webhook
from worker.domain.errors import CorruptRecord
from worker.domain.ids import DeliveryId, Position, Shard, TenantId, delivery_id, shard_of
from worker.domain.record import Record, decode
from worker.event_integration.past import (
    MAX_REPLAYED,
    DeadLetters,
    Enqueued,
    Letter,
    LetterFilter,
    LetterPlace,
    Moved,
    Moving,
    Past,
    PastDelivery,
    Window,
)
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.routing import wants

LOOKS = 32
"""Stretches of the journal in one call."""
AGAIN_S = 10.0
NO_ROOM = Fault(status=503, code="TENANT_BACKLOG_FULL", when="what is replayed waits like everything else, and this tenant's share is full")
FULL = Fault(status=503, code="JOURNAL_FULL", when="there is no room for more that waits, of anybody")
_CURSOR = r"^[0-9]{1,15}\.[0-9]{1,15}\.(e\.[0-9]{1,4}\.[0-9]{1,15}|l(\.[0-9]{1,15}\.msg_[A-Z2-7]{26})?)$"

log = structlog.get_logger("worker.api")


class ReplayEvents(ApiModel):
    since: Instant = Field(description="received then or later")
    until: Instant | None = Field(None, description="received before; left out: now, at the first call")
    include_dead_letters: bool = Field(True, description="also the webhook's own dead letters of events of that time")  # noqa: FBT003
    rate_per_s: int = Field(50, ge=1, le=1_000, description=RATE)
    limit: int = Field(MAX_REPLAYED, ge=1, le=MAX_REPLAYED, description="events in this call")
    cursor: str | None = Field(None, pattern=_CURSOR, description="`meta.nextCursor` of the call before")


class ReplayedEvents(ApiModel):
    replayed: int
    skipped: int = Field(description="wait for the webhook already, or are its dead letters where these were not asked for")


class Place(NamedTuple):
    """What the cursor says. Events: behind `position` of `shard`. Dead letters (`shard` None): those behind `letter`."""

    until_ms: int
    asked_ms: int
    """When the first call came: letters that die later are not met again."""
    shard: Shard | None
    position: Position | None = None
    letter: LetterPlace | None = None

    @classmethod
    def on(cls, cursor: str) -> Place:
        until_ms, asked_ms, kind, *rest = cursor.split(".")
        if kind == "e":
            return cls(int(until_ms), int(asked_ms), Shard(int(rest[0])), Position(int(rest[1])))
        letter = LetterPlace(int(rest[0]), DeliveryId(rest[1])) if rest else None
        return cls(int(until_ms), int(asked_ms), None, letter=letter)

    def __str__(self) -> str:
        head = f"{self.until_ms}.{self.asked_ms}"
        if self.shard is not None:
            return f"{head}.e.{self.shard}.{self.position or 0}"
        return f"{head}.l" if self.letter is None else f"{head}.l.{self.letter.died_at_ms}.{self.letter.delivery_id}"


@dataclass(slots=True)
class _Page:
    """A call's work so far. `left`: how many more it may queue or skip."""

    webhook: Webhook
    window: Window
    rate_per_s: int
    with_letters: bool
    left: int
    looks: int = LOOKS
    replayed: int = 0
    skipped: int = 0

    def due_in_s(self, number: int) -> float:
        return (self.replayed + number) / self.rate_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the past is; `refused` names why a tenant may add nothing now, `wall_ms` is the wall clock."""

    past: Past
    letters: DeadLetters
    shards: int
    refused: Callable[[TenantId], str | None]
    wall_ms: Callable[[], int]


def replay_endpoints(sources: Sources, targets: Targets) -> list[Endpoint]:
    return [
        Endpoint(
            method="POST", path="/api/webhooks/{webhookId}/replay", summary="Deliver a page of past events again", tag="Webhooks",
            handle=_Handlers(sources, targets).replay, body=ReplayEvents, data=ReplayedEvents, meta=ReplayMeta,
            faults=(NOT_FOUND, DISABLED, IMPOSSIBLE, NO_ROOM, FULL),
        )
    ]  # fmt: skip


class _Handlers:
    def __init__(self, sources: Sources, targets: Targets) -> None:
        self._sources = sources
        self._targets = targets

    async def replay(self, call: Call) -> Reply:
        asked = call.sent(ReplayEvents)
        webhook = self._targets.named(call.tenant_id, call.path["webhookId"])
        if (why := self._sources.refused(call.tenant_id)) is not None:
            raise ApiError(
                NO_ROOM.status, why, "there is no room for more that waits; try again once it has drained", retry_after_s=AGAIN_S
            )
        place: Place | None = self._begin(asked) if asked.cursor is None else Place.on(asked.cursor)
        assert place is not None
        window = Window(since_ms=instant_ms(asked.since), until_ms=place.until_ms)
        page = _Page(webhook, window, asked.rate_per_s, asked.include_dead_letters, asked.limit)
        while place is not None and page.left > 0 and page.looks > 0:
            page.looks -= 1
            place = await (self._events(page, place) if place.shard is not None else self._dead(page, place))
        log.info("events_replayed", webhook=webhook.id, replayed=page.replayed, skipped=page.skipped)
        meta = ReplayMeta(
            next_cursor=None if place is None else str(place),
            resume_after_s=page.replayed / asked.rate_per_s,
            progress=self._progress(place),
        )
        return Reply(data=ReplayedEvents(replayed=page.replayed, skipped=page.skipped), meta=meta)

    def _begin(self, asked: ReplayEvents) -> Place:
        now_ms = self._sources.wall_ms()
        until_ms = now_ms if asked.until is None else instant_ms(asked.until)
        return Place(until_ms, now_ms, Shard(0), Position(0))

    async def _events(self, page: _Page, place: Place) -> Place | None:
        """One stretch of one shard's journal; answers where to go on."""
        shard = place.shard
        assert shard is not None
        if shard >= self._sources.shards:
            return Place(place.until_ms, place.asked_ms, None) if page.with_letters else None
        following = place._replace(shard=Shard(shard + 1), position=Position(0))
        if not self._may_hold(page.webhook, shard):
            page.looks += 1  # costs nothing
            return following
        after = place.position or None
        stretch = await self._sources.past.journaled(shard, page.webhook.tenant_id, page.window, after=after, limit=page.left)
        await self._enqueue(page, shard, [item for position, record in stretch.entries if (item := _item(page, position, record))])
        return following if stretch.next is None else place._replace(position=Position(stretch.next - 1))

    async def _enqueue(self, page: _Page, shard: Shard, found: list[PastDelivery]) -> None:
        if not found:
            return
        timed = [replace(item, due_in_s=page.due_in_s(number)) for number, item in enumerate(found)]
        answers = await self._sources.past.enqueue(shard, timed)
        page.replayed += answers.count(Enqueued.QUEUED)
        page.skipped += answers.count(Enqueued.WAITS) + (0 if page.with_letters else answers.count(Enqueued.DEAD))
        page.left -= len(found)

    async def _dead(self, page: _Page, place: Place) -> Place | None:
        """A page of the webhook's own dead letters; one that ended the worker is left alone."""
        wanted = LetterFilter(
            tenant_id=page.webhook.tenant_id, webhook_id=page.webhook.id, since_ms=page.window.since_ms, until_ms=place.asked_ms
        )
        found = await self._sources.letters.page(wanted, after=place.letter, limit=page.left, newest_first=False)
        chosen = [letter for letter in found.letters if _is_of(page.window, letter)]
        moved = await self._sources.letters.replay(
            [Moving(letter, page.webhook.id, page.due_in_s(number)) for number, letter in enumerate(chosen)]
        )
        page.replayed += moved.count(Moved.QUEUED)
        page.skipped += len(moved) - moved.count(Moved.QUEUED)
        page.left -= len(chosen)
        return None if found.next is None else place._replace(letter=found.next)

    def _may_hold(self, webhook: Webhook, shard: Shard) -> bool:
        return not webhook.instance_ids or any(shard_of(one, self._sources.shards) == shard for one in webhook.instance_ids)

    def _progress(self, place: Place | None) -> float:
        if place is None:
            return 1.0
        return round(min(place.shard / self._sources.shards, 1.0), 4) if place.shard is not None else 0.99


def _item(page: _Page, position: Position, data: bytes) -> PastDelivery | None:
    """None: out of the time range, or not for this webhook."""
    try:
        record = decode(data)
    except CorruptRecord:
        return None  # it has a dead letter of its own
    webhook, received_ms = page.webhook, instant_ms(record.received_at)
    if not page.window.since_ms <= received_ms < page.window.until_ms or not _is_for(webhook, record):
        return None
    return PastDelivery(
        delivery_id=delivery_id(record.event_key, webhook.id),
        event_key=record.event_key,
        webhook_id=webhook.id,
        tenant_id=webhook.tenant_id,
        position=position,
        record=data,
        due_in_s=0.0,
        is_new_to_it=webhook.created_at is not None and received_ms < instant_ms(webhook.created_at),
    )


def _is_for(webhook: Webhook, record: Record) -> bool:
    return webhook.is_for(record.instance_id) and wants(webhook, record.type, record.subtype)


def _is_of(window: Window, letter: Letter) -> bool:
    if letter.heading is None or letter.reason is DeadReason.POISON:
        return False
    return window.since_ms <= instant_ms(letter.heading.received_at) < window.until_ms
