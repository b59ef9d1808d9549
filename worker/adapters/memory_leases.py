"""The twin of the lease table and of the membership of live workers: same contract suite as `redis_leases`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_shard import Lease, MemoryShard
from worker.client_registry.port import Busy, Granted, Member, Quarantined
from worker.domain.ids import OwnerId, Shard, Token

RESERVED_FOR_S = 2.0
WAKE_KEPT_S = 2.0


class MemoryLeases:
    """`Leases` over the shards of one `MemoryStore`. `fail_over()` makes the store look like a promoted replica."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock
        self.wake: Callable[[OwnerId], None] = lambda _owner: None
        """Of the membership beside it."""
        self._epoch = 0
        self._epoch_seen: dict[Shard, int] = {}
        self._quarantine_ends_at_s: dict[Shard, float] = {}

    def fail_over(self) -> None:
        """From here on each shard's first `acquire` finds another server and begins a quarantine of its TTL."""
        self._epoch += 1

    async def acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        await self._faults.reach("acquire")
        answer = self._acquire(shard, owner, ttl_s=ttl_s, sole=sole)
        await self._faults.answered("acquire")
        return answer

    def _acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        now_s, lease = self._clock(), self._live_lease(shard)
        if lease is not None and lease.owner == owner:
            return Granted(lease.token, lease.previous)
        quarantined_s = self._quarantined_s(shard, ttl_s)
        if quarantined_s > 0:
            return Quarantined(quarantined_s)
        if lease is not None and lease.successor != owner and not sole:
            return Busy(lease.ends_at_s - now_s, lease.owner)
        state = self._shards[shard]
        previous = state.fence
        state.fence = Token(max(previous + 1, int(now_s * 1_000_000)))
        state.lease = Lease(owner=owner, successor=None, token=state.fence, previous=previous, ends_at_s=now_s + ttl_s)
        return Granted(state.fence, previous)

    def _quarantined_s(self, shard: Shard, ttl_s: float) -> float:
        if self._epoch_seen.setdefault(shard, 0) != self._epoch:
            self._epoch_seen[shard] = self._epoch
            self._quarantine_ends_at_s[shard] = self._clock() + ttl_s
        return self._quarantine_ends_at_s.get(shard, 0.0) - self._clock()

    async def renew(self, leases: Mapping[Shard, Token], owner: OwnerId, *, ttl_s: float) -> frozenset[Shard]:
        await self._faults.reach("renew")
        held = frozenset(shard for shard, token in leases.items() if self._renew(shard, owner, token, ttl_s))
        await self._faults.answered("renew")
        return held

    def _renew(self, shard: Shard, owner: OwnerId, token: Token, ttl_s: float) -> bool:
        lease = self._held(shard, owner, token)
        if lease is None:
            return False
        lease.ends_at_s = self._clock() + ttl_s
        return True

    async def release(self, shard: Shard, owner: OwnerId, token: Token, *, to: OwnerId | None) -> bool:
        await self._faults.reach("release")
        lease = self._held(shard, owner, token)
        if lease is not None and to is None:
            self._shards[shard].lease = None
        elif lease is not None:
            lease.owner, lease.successor, lease.ends_at_s = None, to, self._clock() + RESERVED_FOR_S
        if to is not None:
            self.wake(to)
        await self._faults.answered("release")
        return lease is not None

    async def holders(self, shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        await self._faults.reach("holders")
        leases = {shard: self._live_lease(shard) for shard in shards}
        return {shard: lease.owner for shard, lease in leases.items() if lease is not None and lease.owner is not None}

    def _live_lease(self, shard: Shard) -> Lease | None:
        lease = self._shards[shard].lease
        return lease if lease is not None and lease.ends_at_s > self._clock() else None

    def _held(self, shard: Shard, owner: OwnerId, token: Token) -> Lease | None:
        lease = self._live_lease(shard)
        return lease if lease is not None and lease.owner == owner and lease.token == token else None


class MemoryMembership:
    """`Membership` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._members: dict[OwnerId, tuple[Member, float]] = {}
        self._wakes: dict[OwnerId, tuple[int, float]] = {}
        self._woken = anyio.Event()

    async def announce(self, member: Member, *, ttl_s: float) -> None:
        await self._faults.reach("announce")
        self._members[member.owner] = (member, self._clock() + ttl_s)

    async def withdraw(self, owner: OwnerId) -> None:
        await self._faults.reach("withdraw")
        self._members.pop(owner, None)

    async def live(self) -> list[Member]:
        await self._faults.reach("live")
        return [member for member, ends_at_s in self._members.values() if ends_at_s > self._clock()]

    async def wake(self, owner: OwnerId) -> None:
        await self._faults.reach("wake")
        self.wake_now(owner)

    def wake_now(self, owner: OwnerId) -> None:
        self._wakes[owner] = (self._kept(owner) + 1, self._clock() + WAKE_KEPT_S)
        self._woken.set()
        self._woken = anyio.Event()

    async def wait_wake(self, owner: OwnerId, *, block_s: float) -> bool:
        ends_at_s = self._clock() + block_s
        while True:
            await self._faults.reach("wait_wake")
            kept = self._kept(owner)
            if kept:
                self._wakes[owner] = (kept - 1, self._wakes[owner][1])
                return True
            woken, left_s = self._woken, ends_at_s - self._clock()
            if left_s <= 0:
                return False
            with anyio.move_on_after(left_s):
                await woken.wait()

    def _kept(self, owner: OwnerId) -> int:
        count, until_s = self._wakes.get(owner, (0, 0.0))
        return count if until_s > self._clock() else 0
