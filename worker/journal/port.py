"""The journal's port: what ingest and the reader need of a durable log, and what its checkpoint holds.

One journal per shard. Positions rise; gaps are legal. `append` needs no lease (every worker serves ingest); `save` and
`trim` are guarded by the shard's token and raise `StaleToken` once a newer one exists. Every method may be called again
after an unknown outcome (`StoreUnavailable`): appending twice makes duplicates that the remembered keys remove, saving
twice adds the same facts. All raise `StoreUnavailable`, those that add also `StoreFull`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from worker.domain.ids import EventKey, Position, Shard, TenantId, Token, WebhookId


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event on its way into the journal; `record` is what `domain.record.encode` made."""

    event_key: EventKey
    tenant_id: TenantId
    record: bytes = field(repr=False)
    remembered: bool = True
    """False: never a duplicate and not remembered (identity class none)."""


class Appended(NamedTuple):
    """Where the event stands now; for a duplicate where the first one stands."""

    position: Position
    duplicate: bool


class Segment(NamedTuple):
    """What one append wrote: `records[i]` stands at `first + i` and is of `tenants[i]` (UTF-8: who needs the name decodes it)."""

    shard: Shard
    first: Position
    records: Sequence[bytes]
    tenants: Sequence[bytes]


class Done(NamedTuple):
    """A fact: the journal need not serve this again. `webhook` None: the whole event; else that delivery of it."""

    position: Position
    webhook: WebhookId | None


class Freed(NamedTuple):
    """What stopped waiting in the journal: events and bytes of one tenant."""

    events: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What speaks for an event in the shard that ends the process that reads it (docs/decisions/0009-poison.md)."""

    starts: int = 0
    """Tenures begun, this one included, since the checkpoint last moved or the shard was given up; 0 where nothing waits."""
    suspect: Position | None = None
    """Not behind the prefix: an earlier tenure ended while it was marked (`mark_reading`) and nobody has survived it since."""
    strikes: int = 0
    """How many tenures ended so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a tenure starts from. All below `prefix` is done; `done` holds the facts at or beyond it."""

    prefix: Position
    done: frozenset[Done]
    tail: Position
    """The position the next event will get."""
    doubt: Doubt = field(default_factory=Doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Facts to add. `number` rises within a tenure, so that a repeat is not counted twice in `freed`."""

    shard: Shard
    token: Token
    number: int
    prefix: Position
    done: Sequence[Done] = ()
    """New facts at or beyond `prefix`."""
    behind: Sequence[Done] = ()
    """Facts saved earlier (by `save` or by `park`) that the prefix has passed and that may be forgotten."""
    freed: Mapping[TenantId, Freed] = field(default_factory=dict)

    def speaks_beyond(self, tail: Position) -> bool:
        """Of positions that the journal has not given out: the store went back since they were read."""
        return self.prefix > tail or any(fact.position >= tail for fact in self.done)


class Journal(Protocol):
    """Append and read. `read` blocks up to `block_s` when nothing is there; cancelling it loses nothing (the cursor is the caller's)."""

    async def append(self, shard: Shard, events: Sequence[NewEvent]) -> list[Appended]:
        """One segment, durable when this returns, in the order given; looks, appends, then remembers.

        `events` holds at most 256 events; the caller splits at 1 MiB. A key seen earlier in the same call counts as remembered.
        """
        ...

    async def read(self, cursors: Mapping[Shard, Position], *, max_segments: int, block_s: float) -> list[Segment]:
        """Whole segments that hold events at or beyond each shard's cursor, at most `max_segments` per shard, oldest first.

        The first may begin before the cursor (the caller skips).
        """
        ...

    async def close(self) -> None: ...


class Checkpoints(Protocol):
    """The fenced memory of what is done."""

    async def load(self, shard: Shard, token: Token) -> Progress:
        """What a tenure starts from; short, however much waits. Raises `StaleToken`.

        Where something waits it also takes note, once per token, that a tenure starts, and of the mark that the one before it left.
        """
        ...

    async def mark_reading(self, shard: Shard, token: Token, position: Position | None) -> None:
        """Whoever comes after us shall know that we were reading this event; None: we survived it. Raises `StaleToken`."""
        ...

    async def recount(self, shard: Shard, token: Token) -> None:
        """Corrects what is said to wait in the shard by what is there, so that a write that ran twice cannot make the figure drift.

        Once per tenure, beside it: it walks the undelivered part in short steps, seconds for a million events. Cancelling it changes
        nothing. Raises `StaleToken`.
        """
        ...

    async def save(self, checkpoint: Checkpoint) -> Position:
        """The journal's tail: where the next event will stand. Raises `StaleToken`.

        The prefix never moves back; facts are added, none overwritten; `Doubt.starts` is 0 again.

        A checkpoint that speaks of positions at or beyond the tail comes
        from a time that the store has lost: nothing of it is written, and the tail tells the caller.
        """
        ...

    async def trim(self, shard: Shard, token: Token, *, keep_s: float, keep_bytes: int) -> int:
        """Forgets entries behind the prefix that are older than `keep_s` or beyond `keep_bytes` (0: all); answers how many segments.

        Raises `StaleToken`.
        """
        ...
