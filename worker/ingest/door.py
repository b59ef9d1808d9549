"""The door: whether an event may come in, by the room there is in the store and by the state of this worker.

Owns the last figures read and what came in since. The decision is pure (`refusal`); `run` refreshes the figures each second.
Overshoot is at most what all workers take in during one refresh: each counts only its own intake on top of the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Protocol

import anyio
import anyio.abc
import structlog

from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, TenantId

REFRESH_EVERY_S = 1.0
REFRESH_DEADLINE_S = 3.0
"""`room_refresh`: after that the last figures stay."""
FULL_AT = 0.8
"""Of the budget and of `maxmemory`: the rest is for renew, park, settle and checkpoint, which must always find room."""

TIGHT_AT = 0.6
"""Of `maxmemory`: delivered events are no longer kept for replay."""

log = structlog.get_logger(__name__)


class Room(Protocol):
    """What the door asks of the store. Both raise `StoreUnavailable`."""

    async def waiting(self, shards: Sequence[Shard]) -> Mapping[Shard, Mapping[TenantId, tuple[int, int]]]:
        """Events and bytes that wait, per shard and tenant."""
        ...

    async def memory_fill(self) -> float:
        """Used memory over `maxmemory`; 0.0 where there is no limit."""
        ...


class Refusal(StrEnum):
    """Why nothing is taken; the codes of contract 3."""

    JOURNAL_FULL = "JOURNAL_FULL"
    TENANT_BACKLOG_FULL = "TENANT_BACKLOG_FULL"
    JOURNAL_UNAVAILABLE = "JOURNAL_UNAVAILABLE"
    DRAINING = "DRAINING"


class DoorState(Enum):
    """`LEAVING`: still journals, but tells clients to go elsewhere. `SHUT`: takes nothing more. It never opens again."""

    OPEN = "open"
    LEAVING = "leaving"
    SHUT = "shut"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLimits:
    """The budget of what waits, over all shards, and one tenant's share of it (0–1)."""

    max_events: int
    max_bytes: int
    tenant_share: float


@dataclass(slots=True)
class Tally:
    """Events and bytes, in all and per tenant."""

    events: int = 0
    bytes: int = 0
    by_tenant: dict[TenantId, tuple[int, int]] = field(default_factory=dict)

    def add(self, tenant_id: TenantId, events: int, size_bytes: int) -> None:
        had_events, had_bytes = self.by_tenant.get(tenant_id, (0, 0))
        self.by_tenant[tenant_id] = (had_events + events, had_bytes + size_bytes)
        self.events += events
        self.bytes += size_bytes

    def merge(self, other: Tally) -> None:
        for tenant_id, (events, size_bytes) in other.by_tenant.items():
            self.add(tenant_id, events, size_bytes)


def refusal(tallies: Sequence[Tally], memory_fill: float, tenant_id: TenantId, limits: RoomLimits) -> Refusal | None:
    """None: there is room for this tenant. Pure. `tallies` add up."""
    if memory_fill >= FULL_AT:
        return Refusal.JOURNAL_FULL
    events = sum([tally.events for tally in tallies])
    size_bytes = sum([tally.bytes for tally in tallies])
    if events >= FULL_AT * limits.max_events or size_bytes >= FULL_AT * limits.max_bytes:
        return Refusal.JOURNAL_FULL
    own = [tally.by_tenant.get(tenant_id, (0, 0)) for tally in tallies]
    share = limits.tenant_share
    if sum([n for n, _ in own]) >= share * limits.max_events or sum([b for _, b in own]) >= share * limits.max_bytes:
        return Refusal.TENANT_BACKLOG_FULL
    return None


class Door:
    """`refused` before decoding, `count` for what is about to be appended; `run` in the app's task group."""

    def __init__(self, room: Room, shards: Sequence[Shard], limits: RoomLimits) -> None:
        self._room = room
        self._shards = shards
        self._limits = limits
        self._tenant_share = limits.tenant_share
        self._state = DoorState.OPEN
        self._shut = anyio.Event()
        self._read = Tally()
        self._memory_fill = 0.0
        self._before = Tally()
        """Counted before the refresh under way began; in the figures once that has answered."""
        self._since = Tally()
        self._stale_refreshes = 0

    @property
    def state(self) -> DoorState:
        return self._state

    @property
    def is_store_tight(self) -> bool:
        """`maxmemory` comes near: what is only remembered must give way now."""
        return self._memory_fill >= TIGHT_AT

    def share_among(self, tenants: int) -> None:
        """How many tenants are known: one that is alone has nobody to leave room for."""
        self._limits = replace(self._limits, tenant_share=self._tenant_share if tenants > 1 else 1.0)

    def leave(self) -> None:
        """From PREPARE on: everything is still taken, every answer says `Connection: close`. May be called twice."""
        if self._state is DoorState.OPEN:
            self._state = DoorState.LEAVING

    def shut(self) -> None:
        """From TEARDOWN on: 503 `DRAINING`; ends `run`. May be called twice."""
        self._state = DoorState.SHUT
        self._shut.set()

    def refused(self, tenant_id: TenantId) -> Refusal | None:
        """Whether this tenant's events may come in now."""
        if self._state is DoorState.SHUT:
            return Refusal.DRAINING
        return refusal((self._read, self._before, self._since), self._memory_fill, tenant_id, self._limits)

    def count(self, tenant_id: TenantId, events: int, size_bytes: int) -> None:
        """These are about to be appended; they count from now, until a refresh that began later has answered."""
        self._since.add(tenant_id, events, size_bytes)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Refreshes each second until `shut`; started once the first figures were asked for."""
        await self.refresh()
        task_status.started()
        while not self._shut.is_set():
            with anyio.move_on_after(REFRESH_EVERY_S):
                await self._shut.wait()
                return
            await self.refresh()

    async def refresh(self) -> bool:
        """Reads the figures anew; False where they could not be read in time: then the last ones stay, and all counted since."""
        self._before, self._since = self._since, Tally()
        try:
            with anyio.fail_after(REFRESH_DEADLINE_S):
                waiting = await self._room.waiting(self._shards)
                self._memory_fill = await self._room.memory_fill()
        except (StoreUnavailable, TimeoutError) as exc:
            self._before.merge(self._since)
            self._since, self._before = self._before, Tally()
            if self._stale_refreshes == 0:
                log.warning(
                    "room_not_read", cause=str(exc) or "room_refresh deadline", next_step="the last figures hold until the store answers"
                )
            self._stale_refreshes += 1
            return False
        self._read, self._before = _summed(waiting), Tally()
        self._stale_refreshes = 0
        return True

    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait, with this worker's intake since the last refresh."""
        tallies = (self._read, self._before, self._since)
        return sum(tally.events for tally in tallies), sum(tally.bytes for tally in tallies)

    def statistics(self) -> dict[str, object]:
        events, size_bytes = self.waiting()
        return {
            "state": self._state.value,
            "waiting_events": events,
            "waiting_bytes": size_bytes,
            "max_events": self._limits.max_events,
            "max_bytes": self._limits.max_bytes,
            "memory_fill": self._memory_fill,
            "stale_refreshes": self._stale_refreshes,
        }


def _summed(waiting: Mapping[Shard, Mapping[TenantId, tuple[int, int]]]) -> Tally:
    tally = Tally()
    for by_tenant in waiting.values():
        for tenant_id, (events, size_bytes) in by_tenant.items():
            tally.add(tenant_id, events, size_bytes)
    return tally
