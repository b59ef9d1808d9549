"""The lease table's port: leases fenced by rising tokens, and the membership of live workers.

A lease call is never retried by a library: it answers within its client's timeout or raises `StoreUnavailable`.
Remaining times come back as seconds left on the store's clock, never as instants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from worker.domain.ids import OwnerId, Shard, Token


class Granted(NamedTuple):
    token: Token
    previous: Token
    """The shard's last token before this grant (0: none). One's own last one means: nobody owned it in between."""


class Busy(NamedTuple):
    """Somebody else holds the lease, or it is reserved for a successor (`owner` None while reserved)."""

    remaining_s: float
    owner: OwnerId | None


class Quarantined(NamedTuple):
    """The store failed over; grants wait for one TTL."""

    remaining_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A live worker as it announced itself.

    `revision` orders the deployments of one `family`; `ready`: may take shards; `shards`: how many it holds; `zone`: where it runs. A field
    added later needs a default: releases live side by side while one replaces the other.
    """

    owner: OwnerId
    task: str
    family: str
    revision: int
    ready: bool
    draining: bool
    shards: int
    zone: str = ""


class Leases(Protocol):
    """The scripts of design 4; each touches one shard."""

    async def acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        """Idempotent for the holder: answers its token again, without extending.

        `sole`: the caller holds the store's own lock (embedded server, one process), so a former owner is provably gone and its
        lease is taken at once.
        """
        ...

    async def renew(self, leases: Mapping[Shard, Token], owner: OwnerId, *, ttl_s: float) -> frozenset[Shard]:
        """The shards still held, now for `ttl_s` from here. Never resurrects: an expired or foreign lease is left out."""
        ...

    async def release(self, shard: Shard, owner: OwnerId, token: Token, *, to: OwnerId | None) -> bool:
        """With `to` the lease stays reserved for it for 2 s, and it is woken. False when it was not ours any more."""
        ...

    async def holders(self, shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        """Who holds what, for people and for the successor choice."""
        ...


class Membership(Protocol):
    """Heartbeats and wake-ups. A wake-up is advice, never permission; it is kept for 2 s."""

    async def announce(self, member: Member, *, ttl_s: float) -> None: ...

    async def withdraw(self, owner: OwnerId) -> None: ...

    async def live(self) -> list[Member]: ...

    async def wake(self, owner: OwnerId) -> None: ...

    async def wait_wake(self, owner: OwnerId, *, block_s: float) -> bool:
        """True when somebody woke us. Cancelling loses at most one wake-up."""
        ...


class Offer(NamedTuple):
    """The first phase of a handover: `giver` would like `taker` to have the shard, and goes on serving it meanwhile.

    `is_prepared`: the taker's sessions of the shard read; what comes now reaches the journal whoever owns it.
    """

    shard: Shard
    giver: OwnerId
    taker: OwnerId
    is_prepared: bool


class Handovers(Protocol):
    """Offers on the table: advice between two workers, never permission. An offer ends by itself (the store's clock)."""

    async def offer(self, shards: Sequence[Shard], *, giver: OwnerId, taker: OwnerId, ttl_s: float) -> None:
        """Puts or refreshes offers, one per shard; a shard's earlier offer to somebody else gives way. Wakes nobody."""
        ...

    async def prepared(self, shards: Sequence[Shard], taker: OwnerId) -> None:
        """The taker is ready for these; of a shard that is not offered to it (any more) nothing is noted."""
        ...

    async def offers(self) -> list[Offer]:
        """All that have not ended."""
        ...

    async def withdraw_offers(self, shards: Sequence[Shard], giver: OwnerId) -> None:
        """The giver's own; after a release, or because it changed its mind."""
        ...


class ShardSockets(Protocol):
    """The sessions of shards, as the registry and a handover see them; the orchestrator is one. Nothing here waits for a gateway."""

    def own(self, shard: Shard) -> None:
        """A tenure started or resumed: its sessions run, and send the receipts that are owed."""
        ...

    def abort(self, shard: Shard) -> None:
        """The lease cannot be proved: its sessions end now, without a goodbye and without a receipt. Idempotent."""
        ...

    def prepare(self, shards: frozenset[Shard]) -> None:
        """All that are offered to us now: their sessions read and journal. Those no longer among them, and not owned, are left again."""
        ...

    def is_prepared(self, shard: Shard) -> bool:
        """Whether every session of the shard reads or has been tried once; at once for a shard without any."""
        ...

    async def close(self, shard: Shard, *, within_s: float) -> None:
        """Leaves at a message boundary: what was read is journalled, and its receipts are sent or handed over. Bounded; never raises."""
        ...


class NoSockets:
    """`ShardSockets` of a worker whose gateways all push."""

    def own(self, shard: Shard) -> None: ...
    def abort(self, shard: Shard) -> None: ...
    def prepare(self, shards: frozenset[Shard]) -> None: ...

    def is_prepared(self, shard: Shard) -> bool:  # noqa: ARG002 -- there is nothing to prepare
        return True

    async def close(self, shard: Shard, *, within_s: float) -> None: ...
