"""The twin of the directory: same contract suite as `redis_directory`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import anyio

from worker.adapters.memory_faults import StoreFaults
from worker.directory.port import MAX_ROWS, RESERVED_FOR_S, Change, Changes, Everything, Kind, Revision, RowConflict, Stored, kind_of
from worker.directory.rows import claims_of, decode_row, encode_row
from worker.domain.catalog import Row, Tenant
from worker.domain.ids import TenantId

CHANGES_KEPT = 10_000
Name = tuple[Kind, str]


class MemoryDirectory:
    """`Directory` of one `MemoryStore`; keeps bytes, so that a row which could not be stored fails here too."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float], *, max_rows: int = MAX_ROWS) -> None:
        self._faults = faults
        self._clock = clock
        self._max_rows = max_rows
        self._rows: dict[Name, tuple[Revision, Revision, bytes]] = {}
        """Its revision, the one its writer expected, the row."""
        self._count = dict.fromkeys(Kind, 0)
        self._claims: dict[tuple[Kind, str], str] = {}
        self._log: list[tuple[Revision, Name]] = []
        self._written = anyio.Event()
        self._reserved: dict[str, tuple[float, TenantId]] = {}

    async def reserve(self, row_id: str, tenant_id: TenantId) -> None:
        await self._faults.reach("reserve")
        self._reserved[row_id] = self._clock() + RESERVED_FOR_S, tenant_id

    async def reserved_for(self, row_id: str) -> TenantId | None:
        await self._faults.reach("reserved_for")
        ends_at_s, tenant_id = self._reserved.get(row_id, (0.0, None))
        return tenant_id if ends_at_s > self._clock() else None

    async def everything(self) -> Everything:
        await self._faults.reach("everything")
        rows = [self._stored(name) for name in self._rows]
        return Everything(rows, self._last())

    async def changes(self, after: Revision, *, wait_s: float) -> Changes | None:
        await self._faults.reach("changes")
        if not self._reaches_back_to(after):
            return None
        ends_at_s = self._clock() + wait_s
        while self._last() <= after and (left_s := ends_at_s - self._clock()) > 0:
            with anyio.move_on_after(left_s):
                await self._written.wait()
        last: dict[Name, Revision] = {}
        for revision, name in self._log[bisect_right(self._log, after, key=_revision) :]:
            last.pop(name, None)
            last[name] = revision
        changes = [self._as_it_is(name, revision) for name, revision in last.items()]
        await self._faults.answered("changes")
        return Changes(changes, max(after, self._last()))

    def _reaches_back_to(self, after: Revision) -> bool:
        if not after:
            return len(self._log) < CHANGES_KEPT
        place = bisect_right(self._log, after, key=_revision) - 1
        return place >= 0 and self._log[place][0] == after

    def _as_it_is(self, name: Name, revision: Revision) -> Change:
        return Change(*name, *self._stored(name)) if name in self._rows else Change(*name, None, revision)

    async def find(self, kind: Kind, row_id: str) -> Stored | None:
        await self._faults.reach("find")
        found = self._stored((kind, row_id)) if (kind, row_id) in self._rows else None
        await self._faults.answered("find")
        return found

    async def find_tenant_of_key(self, key_sha256: str) -> Stored | None:
        await self._faults.reach("find_tenant_of_key")
        tenant_id = self._claims.get((Kind.TENANT, key_sha256))
        return None if tenant_id is None else self._stored((Kind.TENANT, tenant_id))

    async def put(self, row: Row, *, expected: Revision) -> Revision:
        await self._faults.reach("put")
        revision = self._put((kind_of(row), row.id), row, expected)
        await self._faults.answered("put")
        return revision

    def _put(self, name: Name, row: Row, expected: Revision) -> Revision:
        kind, data = name[0], encode_row(row)
        revision, was_expected, before = self._rows.get(name, (Revision(0), None, b""))
        if was_expected == expected and before == data:
            return revision
        if revision != expected:
            raise RowConflict("revision" if expected else "id")
        if not revision and self._count[kind] >= self._max_rows:
            raise RowConflict("room")
        if any(self._claims.get((kind, claim), row.id) != row.id for claim in claims_of(row)):
            raise RowConflict("key" if isinstance(row, Tenant) else "name")
        if revision:
            self._release(self._stored(name).row)
        else:
            self._count[kind] += 1
        self._claims.update({(kind, claim): row.id for claim in claims_of(row)})
        revision = self._note(name)
        self._rows[name] = (revision, expected, data)
        return revision

    async def remove(self, kind: Kind, row_id: str, tenant_id: TenantId | None) -> Revision:
        await self._faults.reach("remove")
        revision = self._remove((kind, row_id), tenant_id)
        await self._faults.answered("remove")
        return revision

    def _remove(self, name: Name, tenant_id: TenantId | None) -> Revision:
        row = self._stored(name).row if name in self._rows else None
        if row is None or (tenant_id is not None and (isinstance(row, Tenant) or row.tenant_id != tenant_id)):
            return Revision(0)
        self._release(row)
        self._count[name[0]] -= 1
        del self._rows[name]
        return self._note(name)

    def _release(self, row: Row) -> None:
        for claim in claims_of(row):
            del self._claims[kind_of(row), claim]

    def _note(self, name: Name) -> Revision:
        revision = Revision(self._last() + 1)
        self._log.append((revision, name))
        del self._log[:-CHANGES_KEPT]
        self._written.set()
        self._written = anyio.Event()
        return revision

    def _last(self) -> Revision:
        return self._log[-1][0] if self._log else Revision(0)

    def _stored(self, name: Name) -> Stored:
        revision, _, data = self._rows[name]
        return Stored(decode_row(*name, data), revision)


def _revision(entry: tuple[Revision, Name]) -> Revision:
    return entry[0]
