"""The port of `Idempotency-Key`: a call that is repeated with its key is the same call (contract 5).

One record per tenant and key, kept for 24 h from its first call. Whoever runs the call holds a lease on the record, so that one runs it
and the others wait; the lease of a worker that died ends, and the next goes on with the first one's plan: the names it had
chosen before it did anything outside. Ages and leases are by the store's clock. All raise `StoreUnavailable`, `begin` also `StoreFull`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, NewType, Protocol, TypeAlias

from worker.domain.ids import TenantId

Holder = NewType("Holder", str)
"""One run of one call by one worker; random."""

KEPT_S = 86_400.0


class Repeatable(NamedTuple):
    """A call that can be repeated. `body_sha256` says what is asked for: 64 hex digits."""

    tenant_id: TenantId
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Mine:
    """Run it, by this plan: the first call's."""

    plan: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Running:
    """Somebody else runs it, for at most so long without finishing."""

    lease_left_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """Its final answer."""

    answer: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtherBody:
    """The key was used for something else."""


Beginning: TypeAlias = Mine | Running | Finished | OtherBody


class Idempotency(Protocol):
    """Begin, then finish or leave."""

    async def begin(self, call: Repeatable, holder: Holder, plan: bytes, *, lease_s: float) -> Beginning:
        """The holder of the lease that asks again is answered `Mine` again."""
        ...

    async def finish(self, call: Repeatable, holder: Holder, answer: bytes) -> bool:
        """Whether this answer is the call's: False when the lease had gone to somebody else, who answers instead."""
        ...

    async def leave(self, call: Repeatable, holder: Holder) -> None:
        """No final answer this time; the next call goes on at once, with the same plan. Not ours any more: nothing."""
        ...

    async def knows(self, tenant_id: TenantId, key: str) -> bool:
        """Whether a call with this key has begun: its repetitions are not counted against a rate limit."""
        ...
