"""Changing the directory, and asking it for one row that this worker has not heard of yet.

What this worker wrote it sees at once, whatever its follower does. Look-ups are made for strangers (a push for an unknown
instance, an unknown key), so they are bounded: one at a time for each name, none again within `RECENT_S`, few at a time in all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio

from worker.directory.port import Change, Directory, Kind, Revision, RowConflict, Stored, kind_of
from worker.directory.replica import Replica
from worker.domain.catalog import Instance, Row, Tenant, Webhook
from worker.domain.errors import StoreUnavailable, WorkerError
from worker.domain.ids import InstanceId, TenantId
from worker.domain.instants import later

RECENT_S = 1.0
"""What was looked up so lately is answered from memory: by then the follower has heard of it."""
MAX_RECENT = 4_096
MAX_LOOKUPS = 8
"""Under way at a time; others wait in line."""
MAX_IN_LINE = 128
"""Beyond that it is a storm of strangers, and they are answered from memory."""
MAX_DEPARTED = 200
"""Of one tenant: deleted webhooks that are still known."""
OWED_AT_MOST_S = 7 * 86_400.0
"""Longer than anything may wait in the journal."""
MAX_EDITS = 5
"""Times that somebody else may be faster with the same row."""

RowT = TypeVar("RowT", Tenant, Instance, Webhook)


class _LookUp:
    """One that is under way, for those who wait for its end."""

    __slots__ = ("done", "failed")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.failed: str | None = None


class Declared(WorkerError):
    """Raised when a row would be changed that the file declares."""

    def __init__(self, kind: Kind, row_id: str) -> None:
        super().__init__(f"{kind} {row_id} is declared in the file; change it there and restart the workers")
        self.kind = kind
        self.row_id = row_id


class Registrar:
    """All methods raise `StoreUnavailable`; those that write also `Declared`, `RowConflict` and `StoreFull`."""

    def __init__(self, directory: Directory, replica: Replica, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._replica = replica
        self._catalog = replica.catalog
        self._clock = clock
        self._recent: OrderedDict[tuple[str, str], float] = OrderedDict()
        """When each name was last looked up to the end."""
        self._under_way: dict[tuple[str, str], _LookUp] = {}
        self._turns = anyio.Semaphore(MAX_LOOKUPS)
        self._declared_names = {(i.broker, i.gateway_instance) for i in self._catalog.instances.values() if i.broker is not None}

    # -- writing -------------------------------------------------------------------------------------------------------

    async def put(self, row: Row, *, expected: Revision) -> Revision:
        """Writes a row (`expected` 0: a new one) and puts it into this worker's catalog; a repeat answers as the first did."""
        self._check_undeclared(row)
        self._check_claims(row)
        revision = await self._directory.put(row, expected=expected)
        self._replica.take_row(Stored(row, revision))
        return revision

    async def change(self, row: RowT, edit: Callable[[RowT], RowT]) -> RowT | None:
        """Writes what `edit` (pure; perhaps called again) makes of the row as it is in the store now. None: it is gone.

        Raises `RowConflict` where others were faster five times.
        """
        kind = kind_of(row)
        self._check_undeclared(row)
        for left in reversed(range(MAX_EDITS)):
            stored = await self.find(kind, row.id)
            if stored is None:
                return None
            assert isinstance(stored.row, type(row))
            edited = edit(stored.row)
            try:
                await self.put(edited, expected=stored.revision)
            except RowConflict as exc:
                if exc.what != "revision" or not left:
                    raise
            else:
                return edited
        raise AssertionError("unreachable: the last round answers or raises")

    async def remove(self, row: Row) -> bool:
        """Whether there was one. Gone from this worker's catalog at once."""
        self._check_undeclared(row)
        return await self._remove(row)

    async def _remove(self, row: Row) -> bool:
        kind = kind_of(row)
        revision = await self._directory.remove(kind, row.id, None if isinstance(row, Tenant) else row.tenant_id)
        if revision:
            self._replica.take(Change(kind, row.id, None, revision))
        return revision > 0

    async def depart(self, webhook: Webhook, at: str) -> bool:
        """Deletes a webhook: whether there was one. `at`: RFC 3339, now; what was accepted before is owed to it.

        What makes it a webhook goes at once, secrets and all. The rest stays until nothing of that can be on its way any more.
        """
        bare: dict[str, Any] = {"url": "", "secrets": (), "retiring": (), "headers": {}, "description": ""}
        departed = await self.change(webhook, lambda row: replace(row, deleted_at=at, **bare))
        for old in self._bygone(webhook.tenant_id, at):
            await self._remove(old)
        return departed is not None

    def _bygone(self, tenant_id: TenantId, now: str) -> list[Webhook]:
        """Deleted webhooks that nothing is owed to any more, and of one tenant those beyond so many."""
        departed = sorted(self._catalog.departed.values(), key=lambda w: w.deleted_at or "", reverse=True)
        mine = [w for w in departed if w.tenant_id == tenant_id]
        return [w for w in departed if later(w.deleted_at or "", OWED_AT_MOST_S) < now] + mine[MAX_DEPARTED:]

    def _check_undeclared(self, row: Row) -> None:
        if self._catalog.is_declared(row):
            raise Declared(kind_of(row), row.id)

    def _check_claims(self, row: Row) -> None:
        """What the file gives to somebody else nobody may claim; the directory knows nothing of the file."""
        if isinstance(row, Instance) and (row.broker, row.gateway_instance) in self._declared_names:
            raise RowConflict("name")
        if isinstance(row, Tenant) and any(self._is_declared_key(key, row) for key in row.api_keys_sha256):
            raise RowConflict("key")

    def _is_declared_key(self, key_sha256: str, of_whom: Tenant) -> bool:
        holder = self._catalog.tenant_of_key(key_sha256)
        return holder is not None and holder.id != of_whom.id and self._catalog.is_declared(holder)

    async def reserve(self, instance: Instance) -> None:
        """The id of an instance about to be deleted stays its tenant's: nobody else shall get what its gateway goes on pushing."""
        await self._directory.reserve(instance.id, instance.tenant_id)

    async def is_reserved(self, instance_id: str, tenant_id: TenantId) -> bool:
        """For another tenant than this one."""
        return await self._directory.reserved_for(instance_id) not in {None, tenant_id}

    # -- asking --------------------------------------------------------------------------------------------------------

    async def find(self, kind: Kind, row_id: str) -> Stored | None:
        """The row as it is in the store now, for whoever means to change it; the catalog hears of it too. Unbounded: not for strangers."""
        stored = await self._directory.find(kind, row_id)
        if stored is not None:
            self._replica.take_row(stored)
            if isinstance(stored.row, Webhook) and stored.row.deleted_at is not None:
                return None
        return stored

    async def find_instance(self, instance_id: str) -> Instance | None:
        """A known instance from memory; an unknown one is looked up in the store."""
        known = self._catalog.instances.get(InstanceId(instance_id))
        return known if known is not None else await self.look_again(instance_id)

    async def look_again(self, instance_id: str) -> Instance | None:
        """The instance as the store has it, also where memory has one: it may have changed a moment ago."""
        known = self._catalog.instances.get(InstanceId(instance_id))
        if known is None or not self._catalog.is_declared(known):
            await self._look(("instance", instance_id), lambda: self.find(Kind.INSTANCE, instance_id))
        return self._catalog.instances.get(InstanceId(instance_id))

    async def find_tenant_of_key(self, key_sha256: str) -> Tenant | None:
        """Whose API key has this hash (64 lower-case hex digits): from memory, else from the store."""
        known = self._catalog.tenant_of_key(key_sha256)
        if known is None:
            await self._look(("key", key_sha256), lambda: self._find_key(key_sha256))
            known = self._catalog.tenant_of_key(key_sha256)
        return known

    async def _find_key(self, key_sha256: str) -> None:
        stored = await self._directory.find_tenant_of_key(key_sha256)
        if stored is not None:
            self._replica.take_row(stored)

    async def _look(self, name: tuple[str, str], look: Callable[[], Awaitable[object]]) -> None:
        """Returns once the store was asked: by us, by somebody else meanwhile, or a moment ago."""
        while (other := self._under_way.get(name)) is not None:
            await other.done.wait()
            if other.failed is not None:
                raise StoreUnavailable(other.failed)  # and not each in turn, a time-out after the other; who was cancelled is followed
        if self._looked_lately(name) or len(self._under_way) >= MAX_LOOKUPS + MAX_IN_LINE:
            return
        mine = self._under_way[name] = _LookUp()
        try:
            async with self._turns:
                await look()
            self._note(name)
        except StoreUnavailable as exc:
            mine.failed = str(exc)
            raise
        finally:
            del self._under_way[name]
            mine.done.set()

    def _looked_lately(self, name: tuple[str, str]) -> bool:
        return self._clock() - self._recent.get(name, float("-inf")) < RECENT_S

    def _note(self, name: tuple[str, str]) -> None:
        self._recent[name] = self._clock()
        self._recent.move_to_end(name)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
