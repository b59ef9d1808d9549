"""Proofs that order a shard's end: each can only be made from the one before, by the step that earned it.

```
quiesce ──▶ Quiesced ──drain──▶ Drained ──close sockets──▶ SocketsClosed ──checkpoint──▶ Checkpointed ──▶ Registry.release
                                   └────── of all shards held ──▶ teardown of orchestrator and websocket
```

A function that wants a proof as its argument cannot be called too early: leaving one out does not type-check, and making
one up needs `SEAL`, which only `worker/handover.py` and tests of this file import.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from worker.domain.ids import Position, Shard, Token


class _Seal:
    """Whoever holds it vouches for the step."""


SEAL: Final = _Seal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiesced:
    """Nothing more of this shard is read into memory, and nothing more of it is claimed."""

    shard: Shard
    token: Token
    seal: _Seal = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Everything of this shard that was in memory is settled, parked, under a claim, or left to the journal unbegun."""

    after: Quiesced
    seal: _Seal = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketsClosed:
    """No session of this shard's instances reads any more."""

    after: Drained
    seal: _Seal = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointed:
    """The store knows what is done. `tail`: where the next event will stand."""

    after: SocketsClosed
    tail: Position
    seal: _Seal = field(repr=False)

    @property
    def shard(self) -> Shard:
        return self.after.after.after.shard

    @property
    def token(self) -> Token:
        return self.after.after.after.token
