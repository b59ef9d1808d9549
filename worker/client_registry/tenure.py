"""A tenure: one shard, owned. What is known of its journal, and until when the right to write lasts. Pure state.

```
            grant                      lease lost, Redis away
 (nothing) ───────▶ ACTIVE ───────────────────────────────────▶ SUSPENDED
                      │  ◀──────── grant whose previous token is ours ─┘ │
                      │ released, or refused as stale                    │ granted after somebody else
                      ▼                                                  ▼
                    ENDED ◀──────────────────────────────────────────────┘
```

A suspended tenure keeps its outcomes in memory and starts nothing; an ended one is history: whoever still holds a
delivery of it drops the outcome, because the journal (or a claim) has it.
"""

from __future__ import annotations

from enum import StrEnum

from worker.domain.ids import OwnerId, Shard, Token
from worker.journal.completion import Completion


class TenureState(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Tenure:
    """One grant of a shard and, while nobody else held it in between, the grants that continued it."""

    __slots__ = (
        "completion",
        "granted_at_s",
        "is_being_released",
        "is_reading",
        "released_at_s",
        "released_to",
        "shard",
        "since",
        "state",
        "token",
        "valid_until_s",
        "was_given",
    )

    def __init__(self, shard: Shard, token: Token, completion: Completion, *, granted_at_s: float, valid_until_s: float) -> None:
        self.shard = shard
        self.token = token
        self.completion = completion
        self.granted_at_s = granted_at_s
        self.valid_until_s = valid_until_s
        self.since = ""
        """Wall time of the grant, for people."""
        self.state = TenureState.ACTIVE
        self.was_given = False
        """Whether it came by a handover."""
        self.is_being_released = False
        """From the asking to the answer: a renewal that finds no lease any more has lost nothing."""
        self.released_at_s: float | None = None
        """When the lease was given up, and to whom (None: to whoever comes)."""
        self.released_to: OwnerId | None = None
        self.is_reading = True
        """False once a drain or a handover has told the reader to leave the rest in the journal."""

    def __repr__(self) -> str:
        return f"<Tenure shard={self.shard} token={self.token} {self.state.value} open={self.completion.open_events}>"

    def may_write(self, now_s: float) -> bool:
        """Whether guarded work may begin: the lease is provably ours for the moment."""
        return self.state is TenureState.ACTIVE and now_s < self.valid_until_s


def valid_until_s(sent_at_s: float, ttl_s: float) -> float:
    """Local validity of a lease that was granted or renewed by a call sent at `sent_at_s`: `0.99 · TTL − 3 s` from there.

    The margin covers a clock that runs apart by 1 % and a pause of up to 3 s between the check and the write it guards.
    """
    return sent_at_s + 0.99 * ttl_s - min(3.0, 0.2 * ttl_s)
