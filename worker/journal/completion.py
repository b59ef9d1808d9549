"""Which events of one shard are complete, out of order, and what the next checkpoint says about it. Pure; hot path.

An event is complete for the journal when each of its deliveries is settled or parked. The tracker keeps the events that
were read and are not complete (*open*), the facts that were not saved yet, and those that were and can be forgotten
once the prefix has passed them.

```
position   1  2  3  4  5  6  7  8  9 …
           ✓  ✓  ✓  ·  ✓  ·  ✓  ✓  (unread)
                    ▲ prefix = 4       cursor = 9
facts to save: 5 (whole), 7, 8 (whole), and what is done of 4 and 6 (per webhook)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.domain.ids import Position, Shard, TenantId, Token, WebhookId
from worker.journal.care import care_for
from worker.journal.port import Checkpoint, Done, Freed, Progress


class OpenEvent:
    """An event that was read and is not complete. `left` holds the webhooks that are neither settled nor parked."""

    __slots__ = ("dead", "left", "parked", "parts", "position", "size", "tenant_id")

    def __init__(self, position: Position, tenant_id: TenantId, size: int, left: set[WebhookId]) -> None:
        self.position = position
        self.tenant_id = tenant_id
        self.size = size
        self.left = left
        self.parts: list[Done] = []
        self.parked = False
        self.dead = False


@dataclass(slots=True)
class Tally:
    """Events that left the journal since the tally was last reset: the shutdown ledger's right side."""

    completed: int = 0
    parked: int = 0
    dead: int = 0
    gaps: int = 0
    """Positions that never held an event."""


class Completion:
    """The tracker of one tenure. Not thread-safe; never awaits."""

    def __init__(self, shard: Shard, progress: Progress) -> None:
        self.shard = shard
        self.cursor: Position = progress.prefix
        self.care = care_for(progress)
        """Where earlier tenures came to grief: how to read on; None where nothing speaks for that, or no more."""
        self.tally = Tally()
        self._open: dict[Position, OpenEvent] = {}
        self._known: dict[Position, set[WebhookId | None]] = {}
        """Facts from before this tenure, of events that were not read yet."""
        self._saved: dict[Position, list[Done]] = {}
        """Facts the store holds, by position, to be forgotten when the prefix has passed."""
        self._whole: list[Position] = []
        """Complete, beyond the prefix when last looked, not saved yet."""
        self._parts: list[Done] = []
        self._freed: dict[TenantId, list[int]] = {}
        self._number = 0
        self._unsaved: Checkpoint | None = None
        self._prefix_saved: Position = progress.prefix
        for fact in progress.done:
            self._known.setdefault(fact.position, set()).add(fact.webhook)
            self._saved.setdefault(fact.position, []).append(fact)

    @property
    def prefix(self) -> Position:
        """Everything below is complete."""
        return next(iter(self._open), self.cursor)

    @property
    def open_events(self) -> int:
        return len(self._open)

    @property
    def gap(self) -> int:
        """Positions between the prefix and the cursor: what a SIGKILL would make the reader look at again."""
        return self.cursor - self.prefix

    @property
    def has_moved(self) -> bool:
        """Whether a checkpoint would say anything new."""
        return bool(self._whole or self._parts or self._freed) or self.prefix != self._prefix_saved

    @property
    def is_in_doubt(self) -> bool:
        """The last checkpoint was not answered: the next one repeats it."""
        return self._unsaved is not None

    def is_open(self, position: Position, webhook: WebhookId) -> bool:
        """Whether this delivery still counts against the journal."""
        event = self._open.get(position)
        return event is not None and webhook in event.left

    def begun_positions(self) -> set[Position]:
        """Open events of which some delivery is already settled or parked: their rest must not stay in the journal at a handover."""
        return {e.position for e in self._open.values() if e.parts or e.parked or e.position in self._saved}

    def begin(self, position: Position, tenant_id: TenantId, size: int, webhooks: Sequence[WebhookId]) -> Sequence[WebhookId]:
        """Takes note of an event that was just read and answers the webhooks still to be served (none: it is complete)."""
        if position > self.cursor:
            self.tally.gaps += position - self.cursor
        self.cursor = Position(position + 1)
        known = self._known.pop(position, None)
        if known is None:
            left = webhooks
        elif None in known:
            self.tally.completed += 1
            return ()
        else:
            left = [w for w in webhooks if w not in known]
        event = OpenEvent(position, tenant_id, size, set(left))
        event.parked = known is not None
        if left:
            self._open[position] = event
        else:
            self._complete(event)
        return left

    def finish(self, position: Position, webhook: WebhookId, *, dead: bool = False) -> None:
        """A delivery is settled: the next checkpoint says so. Unknown or repeated: nothing."""
        event = self._open.get(position)
        if event is None or webhook not in event.left:
            return
        if dead:
            event.dead = True
        event.left.discard(webhook)
        if event.left:
            event.parts.append(Done(position, webhook))
            self._parts.append(event.parts[-1])
        else:
            del self._open[position]
            self._complete(event)

    def relieve(self, position: Position, webhook: WebhookId, *, dead: bool = False) -> None:
        """A delivery is parked (or became a dead letter): the store already holds the fact."""
        event = self._open.get(position)
        if event is None or webhook not in event.left:
            return
        self._saved.setdefault(position, []).append(Done(position, webhook))
        event.dead = event.dead or dead
        event.parked = event.parked or not dead
        event.left.discard(webhook)
        if not event.left:
            self._close(event)

    def checkpoint(self, token: Token) -> Checkpoint:
        """What to save now. Hand it to `saved` when the store has it; until then the same comes again, so that a repeat counts once."""
        if self._unsaved is not None and self._unsaved.token == token:
            return self._unsaved
        self._number += 1
        prefix = self.prefix
        done = [Done(p, None) for p in self._whole if p >= prefix]
        done += [fact for fact in self._parts if fact.position >= prefix and fact.position in self._open]
        behind = [fact for position, facts in self._saved.items() if position < prefix for fact in facts]
        freed = {tenant: Freed(n, size) for tenant, (n, size) in self._freed.items()}
        self._unsaved = Checkpoint(shard=self.shard, token=token, number=self._number, prefix=prefix, done=done, behind=behind, freed=freed)
        return self._unsaved

    def saved(self, checkpoint: Checkpoint) -> None:
        """The store holds this checkpoint: forget what it said, keep what came since."""
        self._unsaved = None
        self._prefix_saved = checkpoint.prefix
        for fact in checkpoint.behind:
            self._saved.pop(fact.position, None)
        said = set(checkpoint.done)
        for fact in checkpoint.done:
            self._saved.setdefault(fact.position, []).append(fact)
        self._whole = [p for p in self._whole if p >= checkpoint.prefix and Done(p, None) not in said]
        self._parts = [fact for fact in self._parts if fact.position in self._open and fact not in said]
        for tenant, freed in checkpoint.freed.items():
            left = self._freed[tenant]
            left[0] -= freed.events
            left[1] -= freed.bytes
            if left == [0, 0]:
                del self._freed[tenant]

    def _close(self, event: OpenEvent) -> None:
        del self._open[event.position]
        self._complete(event)

    def _complete(self, event: OpenEvent) -> None:
        self._whole.append(event.position)
        freed = self._freed.get(event.tenant_id) or self._freed.setdefault(event.tenant_id, [0, 0])
        freed[0] += 1
        freed[1] += event.size
        if event.parked:
            self.tally.parked += 1
        elif event.dead:
            self.tally.dead += 1
        else:
            self.tally.completed += 1
