"""What tests of sharing look at beside the rig: the lease table over its shoulder, and sessions that take a while to connect."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.component.rig import Rig, Worker, now_s
from worker.client_registry.port import Granted, NoSockets
from worker.domain.ids import OwnerId, Shard


class Watch:
    """Looks over the lease table's shoulder: who was granted what, and for how long a released shard was nobody's."""

    def __init__(self, it: Rig) -> None:
        self.owners: dict[Shard, list[OwnerId]] = {}
        self.gaps_s: list[float] = []
        """From a release that named a successor until the next grant, whosever."""
        self._released_at_s: dict[Shard, float] = {}
        self._acquire, self._release = it.store.leases.acquire, it.store.leases.release
        it.store.leases.acquire = self._watched_acquire  # type: ignore[method-assign]
        it.store.leases.release = self._watched_release  # type: ignore[method-assign]

    def moves(self) -> Counter[Shard]:
        return Counter({shard: len(owners) - 1 for shard, owners in self.owners.items()})

    async def _watched_acquire(self, shard: Shard, owner: OwnerId, **how: Any) -> Any:
        answer = await self._acquire(shard, owner, **how)
        if isinstance(answer, Granted):
            owners = self.owners.setdefault(shard, [])
            if owners[-1:] != [owner]:
                owners.append(owner)
            if shard in self._released_at_s:
                self.gaps_s.append(now_s() - self._released_at_s.pop(shard))
        return answer

    async def _watched_release(self, shard: Shard, owner: OwnerId, token: Any, *, to: OwnerId | None) -> bool:
        is_released = await self._release(shard, owner, token, to=to)
        if is_released and to is not None:
            self._released_at_s[shard] = now_s()
        return is_released


class Streams(NoSockets):
    """Sessions of a worker that take a while to connect; `told` is what they heard, in order."""

    def __init__(self, worker: Worker, told: list[tuple[str, str, Shard]], *, ready_after_s: float = 0.0) -> None:
        self.name = worker.name
        self.told = told
        self.ready_after_s = ready_after_s
        self._since_s: dict[Shard, float] = {}
        worker.engine.sockets = worker.engine.registry.sockets = self

    def _tell(self, what: str, shard: Shard) -> None:
        self.told.append((self.name, what, shard))

    def own(self, shard: Shard) -> None:
        self._tell("own", shard)

    def abort(self, shard: Shard) -> None:
        self._tell("abort", shard)

    def prepare(self, shards: frozenset[Shard]) -> None:
        for shard in sorted(shards - self._since_s.keys()):
            self._tell("prepare", shard)
        for shard in sorted(self._since_s.keys() - shards):
            self._tell("leave", shard)
        self._since_s = {shard: self._since_s.get(shard, now_s()) for shard in shards}

    def is_prepared(self, shard: Shard) -> bool:
        return shard in self._since_s and now_s() - self._since_s[shard] >= self.ready_after_s

    async def close(self, shard: Shard, *, within_s: float) -> None:
        self._tell("close", shard)
