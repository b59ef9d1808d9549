"""The durable state of one shard in the twin of the store: what Redis keeps under one hash tag (docs/architecture.md "The store").

Holds values and the few rules that several scripts share: the fence, what waits, payloads kept once. No await happens in here, so
that whatever calls it is one script: all or nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from worker.domain.errors import StaleToken, StoreFull
from worker.domain.ids import ClaimId, DeliveryId, EventKey, InstanceId, OwnerId, Position, Shard, TenantId, Token, WebhookId
from worker.event_integration.retry_queue import DeadLetter, Waiting
from worker.journal.port import Done, Doubt, NewEvent

RING_SLOTS = 4


class StoredSegment(NamedTuple):
    """One append: the events that were not duplicates; `events[i]` stands at `first + i`."""

    first: Position
    events: Sequence[NewEvent]

    @property
    def end(self) -> Position:
        return Position(self.first + len(self.events))


class Mark(NamedTuple):
    """Where the tail stood, and how many bytes had been appended by then, at an instant of the store's clock."""

    at_s: float
    tail: Position
    bytes_appended: int


@dataclass(slots=True, kw_only=True)
class Payload:
    """A record kept once for all deliveries that still need it."""

    tenant_id: TenantId
    record: bytes = field(repr=False)
    users: set[WebhookId]


@dataclass(slots=True, kw_only=True)
class ParkedDelivery:
    """`ready_at_s`: when it may be claimed (again): its due time, or the end of its claim's visibility."""

    delivery_id: DeliveryId
    event_key: EventKey
    webhook_id: WebhookId
    tenant_id: TenantId
    position: Position
    attempts: int
    chat: str | None = field(repr=False)
    parked_at_s: float
    ready_at_s: float
    claim: ClaimId | None
    error: str | None


class DeadDelivery(NamedTuple):
    died_at_s: float
    position: Position
    letter: DeadLetter


@dataclass(slots=True, kw_only=True)
class Lease:
    """`owner` None: reserved for `successor`. `previous` is answered again when the holder repeats `acquire`."""

    owner: OwnerId | None
    successor: OwnerId | None
    token: Token
    previous: Token
    ends_at_s: float


class ScoredSet:
    """A sorted set as Redis has it: members by score, then by name."""

    def __init__(self) -> None:
        self._scores: dict[DeliveryId, float] = {}
        self._ranked: list[tuple[float, DeliveryId]] = []

    def __len__(self) -> int:
        return len(self._ranked)

    def put(self, member: DeliveryId, score: float) -> None:
        self.discard(member)
        self._scores[member] = score
        insort(self._ranked, (score, member))

    def discard(self, member: DeliveryId) -> None:
        score = self._scores.pop(member, None)
        if score is not None:
            del self._ranked[bisect_left(self._ranked, (score, member))]

    def lowest_score(self) -> float:
        return self._ranked[0][0]

    def up_to(self, score: float, count: int) -> list[DeliveryId]:
        """At most `count` members that score no more than `score`, lowest first."""
        found = []
        for rank, member in self._ranked[:count]:
            if rank > score:
                break
            found.append(member)
        return found


class RememberedKeys:
    """The ring of event keys: four slots, each a third of the window; turning it empties the slot that comes into use.

    So a key is remembered for at least the window and at most four thirds of it, unless `max_keys` shortens that.
    """

    def __init__(self, *, window_s: float, max_keys: int, now_s: float) -> None:
        self._span_s = window_s / (RING_SLOTS - 1)
        self._slot_keys = max(1, max_keys // RING_SLOTS)
        self._slots: list[dict[EventKey, Position]] = [{} for _ in range(RING_SLOTS)]
        self._since_s = now_s

    def turn(self, now_s: float) -> None:
        elapsed = min(RING_SLOTS, int((now_s - self._since_s) / self._span_s))
        turns = elapsed or int(len(self._slots[0]) >= self._slot_keys)
        for _ in range(turns):
            self._slots = [{}, *self._slots[:-1]]
        if turns:
            self._since_s = now_s

    def position_of(self, key: EventKey) -> Position | None:
        return next((slot[key] for slot in self._slots if key in slot), None)

    def remember(self, key: EventKey, position: Position) -> None:
        self._slots[0][key] = position


class MemoryShard:
    """Everything one shard keeps; attributes are the keys of docs/architecture.md "The store"."""

    def __init__(self, shard: Shard, *, clock: Callable[[], float], seen: RememberedKeys, room: MemoryRoomLimit) -> None:
        self.shard = shard
        self.clock = clock
        self.room = room
        self.lease: Lease | None = None
        self.fence = Token(0)
        self.next_position = Position(1)
        self.bytes_appended = 0
        self.segments: list[StoredSegment] = []
        self.seen = seen
        self.prefix = Position(1)
        self.last_save: tuple[Token, int] | None = None
        self.began = Token(0)
        self.reading: Position | None = None
        self.doubt = Doubt()
        self.done: set[Done] = set()
        self.marks: list[Mark] = []
        self.waiting: dict[TenantId, Waiting] = {}
        self.payloads: dict[EventKey, Payload] = {}
        self.deliveries: dict[DeliveryId, ParkedDelivery] = {}
        self.claims = 0
        self.due: dict[WebhookId, ScoredSet] = {}
        self.held: frozenset[WebhookId] = frozenset()
        self.order: dict[tuple[WebhookId, str], list[tuple[Position, DeliveryId]]] = {}
        self.dead: dict[DeliveryId, DeadDelivery] = {}
        self.aliases: dict[tuple[InstanceId, str], str] = {}

    def guard(self, token: Token) -> None:
        """Every fenced script begins with this. Raises `StaleToken` once a newer token exists."""
        if token < self.fence:
            raise StaleToken(self.shard, token)

    def count_waiting(self, tenant_id: TenantId, events: int, size: int) -> None:
        """Adds to (or, negative, takes from) what waits of a tenant; never below nothing."""
        before = self.waiting.get(tenant_id, Waiting(0, 0))
        after = Waiting(max(0, before.events + events), max(0, before.bytes + size))
        if after == (0, 0):
            self.waiting.pop(tenant_id, None)
        else:
            self.waiting[tenant_id] = after

    def recount_waiting(self) -> None:
        """From what is there: undelivered journal entries, and payloads."""
        self.waiting.clear()
        for segment in self.segments:
            for position, event in enumerate(segment.events, start=segment.first):
                if position >= self.prefix and Done(Position(position), None) not in self.done:
                    self.count_waiting(event.tenant_id, 1, len(event.record))
        for payload in self.payloads.values():
            self.count_waiting(payload.tenant_id, 1, len(payload.record))

    def keep_payload(self, key: EventKey, tenant_id: TenantId, record: bytes, user: WebhookId) -> None:
        """Once per event, however many deliveries use it."""
        payload = self.payloads.get(key)
        if payload is None:
            payload = self.payloads[key] = Payload(tenant_id=tenant_id, record=record, users=set())
            self.count_waiting(tenant_id, 1, len(record))
            self.room.used_bytes += len(record)
        payload.users.add(user)

    def release_payload(self, key: EventKey, user: WebhookId) -> None:
        """Deletes it with its last user."""
        payload = self.payloads.get(key)
        if payload is None:
            return
        payload.users.discard(user)
        if not payload.users:
            del self.payloads[key]
            self.count_waiting(payload.tenant_id, -1, -len(payload.record))
            self.room.used_bytes -= len(payload.record)

    def forget_dead(self, delivery_id: DeliveryId) -> bool:
        """And its payload, unless that delivery waits in the queue again."""
        dead = self.dead.pop(delivery_id, None)
        if dead is not None and delivery_id not in self.deliveries:
            self.release_payload(dead.letter.event_key, dead.letter.webhook_id)
        return dead is not None

    def enqueue(self, delivery: ParkedDelivery) -> None:
        """Into its chat's line, where it has one; due only as the head of it."""
        self.deliveries[delivery.delivery_id] = delivery
        if delivery.chat is not None:
            line = self.order.setdefault((delivery.webhook_id, delivery.chat), [])
            insort(line, (delivery.position, delivery.delivery_id))
            for _, behind in line[1:2]:
                self._due_of(delivery.webhook_id).discard(behind)
        self.schedule(delivery)

    def schedule(self, delivery: ParkedDelivery) -> None:
        """At `ready_at_s`, unless it waits behind another of its chat."""
        line = self.order.get((delivery.webhook_id, delivery.chat)) if delivery.chat is not None else None
        if line is None or line[0][1] == delivery.delivery_id:
            self._due_of(delivery.webhook_id).put(delivery.delivery_id, delivery.ready_at_s)

    def dequeue(self, delivery: ParkedDelivery) -> None:
        """Forgets its state; the next of its chat becomes the head."""
        del self.deliveries[delivery.delivery_id]
        due = self._due_of(delivery.webhook_id)
        due.discard(delivery.delivery_id)
        if delivery.chat is not None:
            line = self.order[delivery.webhook_id, delivery.chat]
            line.remove((delivery.position, delivery.delivery_id))
            if line:
                self.schedule(self.deliveries[line[0][1]])
            else:
                del self.order[delivery.webhook_id, delivery.chat]
        if not due:
            self.due.pop(delivery.webhook_id, None)

    def waiting_in_chat_of(self, delivery: ParkedDelivery) -> int:
        """Itself included, where it still waits; 0 without a chat."""
        return 0 if delivery.chat is None else len(self.order.get((delivery.webhook_id, delivery.chat), ()))

    def _due_of(self, webhook_id: WebhookId) -> ScoredSet:
        return self.due.setdefault(webhook_id, ScoredSet())


@dataclass(slots=True)
class MemoryRoomLimit:
    """Bytes the whole twin may hold; None: no limit. Like `maxmemory`, what is there may overshoot by one call."""

    max_bytes: int | None
    used_bytes: int = 0

    def check(self, script: str) -> None:
        """Raises `StoreFull` for a script that would add."""
        if self.max_bytes is not None and self.used_bytes >= self.max_bytes:
            raise StoreFull(f"{script}: {self.used_bytes} of {self.max_bytes} bytes used; deliver or expire something, then call again")

    def fill(self) -> float:
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0


def facts_behind(prefix: Position, facts: Iterable[Done]) -> set[Done]:
    """Those that a prefix makes superfluous."""
    return {fact for fact in facts if fact.position < prefix}
