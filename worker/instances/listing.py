"""Listing a tenant's instances: always from the directory and the last snapshot, one page at a time (design 6).

A broker is asked only where a refresh is asked for, and what becomes of that is told beside the list, not instead of it. What no
snapshot can stand in for is raised: a broker that is not configured, and brokers that failed when nothing was ever seen of this tenant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.domain.catalog import Catalog, Instance
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import OwnerId, Shard, TenantId, shard_of
from worker.instances.broker import BrokerCause, BrokerFailure
from worker.instances.refreshing import Refreshed, Refreshing
from worker.instances.snapshots import Seen, Snapshot, Snapshots

FRESH_FOR_S = 300.0
"""What was seen longer ago is told as stale, also where nobody asked for more."""
SYNC_COOLDOWN_S = 30.0

Holders = Callable[[Sequence[Shard]], Awaitable[dict[Shard, OwnerId]]]


class Mode(StrEnum):
    """`DB` and `SNAPSHOT` are one: the directory and what was last seen. `SYNC` asks the brokers, at most every 30 s."""

    DB = "db"
    SNAPSHOT = "snapshot"
    SYNC = "sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`after`: the id the last page ended with. `refresh` asks the brokers whatever the mode, and however lately they were."""

    tenant_id: TenantId
    mode: Mode = Mode.SNAPSHOT
    refresh: bool = False
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`seen` None: its broker never showed it. `owner` None: nobody holds its shard now."""

    instance: Instance
    shard: Shard
    seen: Seen | None = None
    owner: OwnerId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """`next_after` None: this was the last page. `age_s` None: never seen."""

    entries: Sequence[Entry]
    next_after: str | None
    mode: Mode
    is_stale: bool
    age_s: float | None
    failure: BrokerFailure | None
    warnings: tuple[str, ...]


class Listing:
    """`page` from any task; `holders` says who owns which shard."""

    def __init__(self, catalog: Catalog, snapshots: Snapshots, refreshing: Refreshing, holders: Holders, *, shards: int) -> None:
        self._catalog = catalog
        self._snapshots = snapshots
        self._refreshing = refreshing
        self._holders = holders
        self._shards = shards

    async def page(self, wish: Wish) -> Listed:
        """One page. Raises `BrokerFailure` (see above) and `StoreUnavailable`."""
        page = self._catalog.instances_page(wish.tenant_id, after=wish.after, limit=wish.limit + 1)
        rows, has_more = page[: wish.limit], len(page) > wish.limit
        snapshot = await self._load(wish.tenant_id, rows)
        refreshed = Refreshed()
        if _is_due(wish, snapshot):
            refreshed = await self._refreshing.refresh(wish.tenant_id)
            snapshot = await self._load(wish.tenant_id, rows)
        elif wish.mode is Mode.SYNC:
            warning = f"the brokers were asked {snapshot.age_s:.0f} s ago; mode=sync asks every {SYNC_COOLDOWN_S:.0f} s, refresh=1 at once"
            refreshed = Refreshed(warnings=(warning,))
        if (failure := refreshed.failure) is not None and not _may_stand_in(snapshot, failure, rows):
            raise failure
        entries = await self._entries(rows, snapshot)
        return Listed(
            entries=entries,
            next_after=rows[-1].id if has_more else None,
            mode=Mode.SYNC if wish.refresh else wish.mode,
            is_stale=refreshed.failure is not None or any(_is_stale(entry) for entry in entries),
            age_s=_age_s(snapshot),
            failure=refreshed.failure,
            warnings=refreshed.warnings,
        )

    async def entry(self, instance: Instance) -> Entry:
        """One instance, as a list would show it. Raises `StoreUnavailable`."""
        return (await self._entries([instance], await self._load(instance.tenant_id, [instance])))[0]

    async def _load(self, tenant_id: TenantId, rows: Sequence[Instance]) -> Snapshot:
        return await self._snapshots.load(tenant_id, [row.id for row in rows])

    async def _entries(self, rows: Sequence[Instance], snapshot: Snapshot) -> list[Entry]:
        shards = {row.id: shard_of(row.id, self._shards) for row in rows}
        try:
            owners = await self._holders(sorted(set(shards.values()))) if rows else {}
        except StoreUnavailable:
            owners = {}  # who owns what is for people; a list that lacks it is still a list
        return [Entry(instance=row, shard=shards[row.id], seen=snapshot.seen.get(row.id), owner=owners.get(shards[row.id])) for row in rows]


def _is_due(wish: Wish, snapshot: Snapshot) -> bool:
    is_cool = snapshot.age_s is None or snapshot.age_s >= SYNC_COOLDOWN_S
    return wish.refresh or (wish.mode is Mode.SYNC and is_cool)


def _may_stand_in(snapshot: Snapshot, failure: BrokerFailure, rows: Sequence[Instance]) -> bool:
    """Whether a list without a refresh says something true; of a tenant without instances at a broker it always does."""
    if failure.cause is BrokerCause.NOT_CONFIGURED:
        return False
    return not snapshot.is_empty or not any(row.broker is not None and row.is_made for row in rows)


def _is_stale(entry: Entry) -> bool:
    if entry.instance.broker is None or not entry.instance.is_made:
        return False
    return entry.seen is None or entry.seen.age_s > FRESH_FOR_S


def _age_s(snapshot: Snapshot) -> float | None:
    """Of all of it where all was asked for at once, else of the oldest on this page."""
    if snapshot.age_s is not None:
        return snapshot.age_s
    return max((seen.age_s for seen in snapshot.seen.values()), default=None)
