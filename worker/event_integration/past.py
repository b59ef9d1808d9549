"""The ports of the past: what has died, and what the journal still keeps of what was delivered.

Nothing here is fenced. Reading needs no lease; and what is replayed only *adds* a delivery to a shard's retry queue, which any worker may
do: whoever owns the shard finds it there, its id is computed from event and webhook, and adding it twice is adding it once. Nothing here
ever says that something is done, which only an owner may (docs/decisions/0012-replays-are-not-fenced.md).

Each call may be repeated after an unknown outcome. Instants are milliseconds since the epoch by the store's clock. All raise
`StoreUnavailable`, those that add also `StoreFull`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from worker.domain.ids import DeliveryId, EventKey, InstanceId, Position, Shard, TenantId, WebhookId
from worker.domain.record import Heading
from worker.event_integration.retry_queue import DeadReason

MAX_REPLAYED = 1_000
"""Letters or events in one call."""


# -- dead letters --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters of a tenant; None: any. Died at or after `since_ms` and before `until_ms`."""

    tenant_id: TenantId
    webhook_id: WebhookId | None = None
    instance_id: InstanceId | None = None
    reason: DeadReason | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class LetterPlace(NamedTuple):
    """Where a letter stands among all: they are ordered by when they died, then by id."""

    died_at_ms: int
    delivery_id: DeliveryId


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter, and whose event it holds. `heading` None: its record is gone or cannot be read."""

    shard: Shard
    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    position: Position
    reason: DeadReason
    attempts: int
    error: str | None
    died_at_ms: int
    heading: Heading | None = None

    @property
    def place(self) -> LetterPlace:
        return LetterPlace(self.died_at_ms, self.delivery_id)


class LetterPage(NamedTuple):
    """`next` None: there is no more. A page may be short, even empty, and still have a next one: work per call is bounded."""

    letters: Sequence[Letter]
    next: LetterPlace | None
    now_ms: int


class Moving(NamedTuple):
    """A letter on its way back into the queue: for which webhook, due after how long."""

    letter: Letter
    to: WebhookId
    due_in_s: float


class Moved(Enum):
    QUEUED = "queued"
    """Its delivery waits in the queue: moved now, or by an earlier call whose answer was lost, or it waited there anyway."""
    GONE = "gone"
    """No such letter any more."""
    EMPTY = "empty"
    """Its record is not in the store: nothing could be sent. The letter stays."""


class DeadLetters(Protocol):
    """Look, discard, replay."""

    async def page(self, wanted: LetterFilter, *, after: LetterPlace | None, limit: int, newest_first: bool = True) -> LetterPage:
        """Over all shards, those behind `after`, at most `limit`. Looks at a few thousand letters per shard, however many there are."""
        ...

    async def find(self, tenant_id: TenantId, delivery_id: DeliveryId) -> tuple[Letter, bytes | None] | None:
        """One letter with its record; None also for another tenant's."""
        ...

    async def discard(self, letters: Sequence[Letter]) -> int:
        """Forgets them, and records that nobody else needs; answers how many there were."""
        ...

    async def replay(self, movings: Sequence[Moving]) -> list[Moved]:
        """Each back into the queue of its shard, in order: fresh attempts, a fresh age, outside the order of chats.

        The delivery is in the queue before the letter leaves the dead. One that waits there already is left as it is.
        """
        ...


# -- events --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the store still knows of an event. `position` None: nobody remembers it (any more). `record` None: it is kept nowhere."""

    shard: Shard
    position: Position | None
    tenant_id: TenantId | None
    record: bytes | None = field(repr=False)
    users: frozenset[WebhookId]
    """Webhooks with a delivery of it in the queue or among the dead letters, deleted ones included."""


class Stage(Enum):
    """How far a delivery is, as far as the store knows."""

    JOURNALED = "journaled"
    """The journal is not done with it: unread, in memory, or under way for the first time."""
    QUEUED = "queued"
    CLAIMED = "claimed"
    DEAD = "dead"
    DONE = "done"
    """The journal is done with it, and it waits nowhere."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """`attempts` are those made and counted; `next_in_s` of a queued one (0: now); `reason` of a dead one."""

    stage: Stage
    attempts: int = 0
    next_in_s: float = 0.0
    error: str | None = None
    reason: DeadReason | None = None


class Stretch(NamedTuple):
    """Entries of one tenant, by position. `next` None: nothing is left."""

    entries: Sequence[tuple[Position, bytes]]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time range: at or after `since_ms`, before `until_ms`."""

    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDelivery:
    """A past event for one webhook. `is_new_to_it`: also where the journal is not done with the event, for it was never routed there."""

    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    position: Position
    record: bytes = field(repr=False)
    due_in_s: float
    is_new_to_it: bool = False


class Enqueued(Enum):
    QUEUED = "queued"
    WAITS = "waits"
    """In the queue already, or the journal is about to serve it: left as it is."""
    DEAD = "dead"
    """It is a dead letter: that is what to replay."""


class Past(Protocol):
    """Find an event, say how it fares, read a stretch of the journal again, and queue what was read."""

    async def find(self, event_key: EventKey) -> Sighting | None:
        """By the remembered keys and the payloads of all shards."""
        ...

    async def states(
        self, shard: Shard, event_key: EventKey, position: Position | None, webhooks: Sequence[WebhookId]
    ) -> Mapping[WebhookId, DeliveryState]:
        """Of each of these webhooks' deliveries of it."""
        ...

    async def journaled(self, shard: Shard, tenant_id: TenantId, window: Window, *, after: Position | None, limit: int) -> Stretch:
        """What the journal keeps of a tenant around that time, behind `after`, at most `limit` entries and a few MiB.

        By the store's clock, with a minute to spare on both sides: the caller looks at each record's `received_at`.
        """
        ...

    async def enqueue(self, shard: Shard, items: Sequence[PastDelivery]) -> list[Enqueued]:
        """Into the queue, due later, outside the order of chats; what became of each, in order."""
        ...
