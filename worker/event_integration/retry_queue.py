"""The retry queue's port: deliveries that wait in the store, one queue per shard, fair between webhooks.

`park` and `claim` are guarded by the shard's token (`StaleToken`); `settle` goes by the claim's id, also after the lease
has gone. Each call is one script and may be repeated after an unknown outcome. Delays and ages are seconds; the store
adds them to its own clock. All raise `StoreUnavailable`; `park` also `StoreFull`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from worker.domain.ids import ClaimId, DeliveryId, EventKey, Position, Shard, TenantId, Token, WebhookId


class DeadReason(StrEnum):
    EXHAUSTED = "attempts_exhausted"
    TOO_OLD = "too_old"
    WEBHOOK_DISABLED = "webhook_disabled"
    WEBHOOK_DELETED = "webhook_deleted"
    FORBIDDEN_DESTINATION = "forbidden_destination"
    INTERNAL_ERROR = "internal_error"
    POISON = "poison"


OF_THE_WEBHOOK = frozenset({DeadReason.WEBHOOK_DISABLED, DeadReason.WEBHOOK_DELETED})
"""Nothing to do with the delivery itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """One delivery to put aside. `record` is copied once per event; `attempts` are those already made and counted.

    `chat` (where order is kept; any text, empty means none) makes it wait behind the chat's earlier ones. `claim_for_s`: an
    attempt is under way and becomes a claim, visible again after that long. `dead`: straight to the dead letters.
    """

    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    position: Position
    record: bytes = field(repr=False)
    attempts: int
    due_in_s: float = 0.0
    chat: str | None = field(default=None, repr=False)
    error: str | None = None
    claim_for_s: float | None = None
    dead: DeadReason | None = None


class Parked(NamedTuple):
    """`known_done`: the delivery was already settled, and was not brought back. `claim` as asked for, else None."""

    known_done: bool
    claim: ClaimId | None


class DueWebhook(NamedTuple):
    """A webhook with deliveries in this shard's queue; `due_in_s` of the earliest is ≤ 0 when it may be claimed."""

    webhook_id: WebhookId
    due_in_s: float
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery taken out for one attempt; nobody else sees it before its visibility time ends."""

    claim: ClaimId
    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    position: Position
    record: bytes = field(repr=False)
    attempts: int
    parked_for_s: float
    """Since the delivery was first parked."""
    chat: str | None = field(default=None, repr=False)
    """As it was parked."""


@dataclass(frozen=True, slots=True)
class Want:
    """How many deliveries of a webhook can start now, and how long each may stay invisible.

    `whenever`: those that are not due yet too, for nobody will ask their webhook any more; never what is claimed already.
    """

    count: int
    visible_after_s: float
    whenever: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of a claimed attempt. Exactly one of: delivered, `retry_in_s` (with `counted`: the attempt counts), `dead`."""

    claim: ClaimId
    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    delivered: bool = False
    retry_in_s: float | None = None
    counted: bool = True
    dead: DeadReason | None = None
    error: str | None = None


class Settled(NamedTuple):
    """`is_settled` False: the claim is no longer the delivery's (expired and claimed again, or settled already).

    `chat_left`: how many of the delivery's chat still wait after this settlement, claims and the delivery itself among them where it
    is tried again; 0 without a chat. When not settled it says nothing (0): perhaps the answer to the first such call was lost.
    """

    is_settled: bool
    chat_left: int


class Waiting(NamedTuple):
    """What waits (journal, parked, dead letters) of one tenant in one shard."""

    events: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    reason: DeadReason
    attempts: int
    error: str | None
    dead_for_s: float


class RetryQueue(Protocol):
    """Park, look, claim, settle; and hold back."""

    async def park(self, shard: Shard, token: Token, items: Sequence[Parking]) -> list[Parked]:
        """All or nothing per item, in order; relieves the journal of each in the same script.

        Idempotent; keeps attempts already counted.
        """
        ...

    async def due(self, shard: Shard, *, limit: int) -> list[DueWebhook]:
        """Webhooks of this shard by earliest due time, at most `limit`; none that is held back."""
        ...

    async def waiting_of(self, shard: Shard, webhooks: Sequence[WebhookId]) -> list[DueWebhook]:
        """The same of these webhooks, in their order, held back or not; one of which nothing waits is left out."""
        ...

    async def claim(self, shard: Shard, token: Token, wanted: Mapping[WebhookId, Want]) -> list[Claimed]:
        """Due deliveries (never due ones nothing), at most as many per webhook as wanted; where order is kept only heads."""
        ...

    async def settle(self, shard: Shard, settlements: Sequence[Settlement]) -> list[Settled]:
        """What became of each, in order: those before it in the same call have been counted."""
        ...

    async def hold(self, shard: Shard, token: Token, held: Collection[WebhookId]) -> None:
        """From now on these webhooks, and no others, are held back in this shard: nothing of theirs is due, nothing can be claimed.

        Guarded like a claim. What is parked and settled meanwhile keeps its times. Costs as much as there are webhooks that change.
        """
        ...

    async def waiting_chats(self, shard: Shard, webhooks: Sequence[WebhookId]) -> dict[WebhookId, dict[str, int]]:
        """Per webhook, chat → deliveries waiting (> 0, claims among them); a webhook where none waits may be missing.

        Not fenced: asked after the grant, only settlements of former owners' claims make it smaller behind the owner's back.
        """
        ...


class Room(Protocol):
    """What the door and an operator ask of the store."""

    async def waiting(self, shards: Sequence[Shard]) -> dict[Shard, dict[TenantId, Waiting]]: ...

    async def memory_fill(self) -> float:
        """Used memory over `maxmemory`; 0.0 where there is no limit."""
        ...

    async def dead_letters(self, shard: Shard, *, limit: int) -> list[DeadLetter]:
        """The oldest first."""
        ...

    async def expire_dead_letters(self, shard: Shard, *, older_than_s: float, limit: int) -> int:
        """Discards what is older and answers how many."""
        ...
