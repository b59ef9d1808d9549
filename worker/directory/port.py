"""The directory's port: rows that were registered at run time, and what changed since.

One directory for all workers, kept over restarts. A change is one script: the row, what it claims for itself, and the entry in the log of
changes are written together or not at all. Each call may be repeated after an unknown outcome. All raise `StoreUnavailable`; those that add
also `StoreFull`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, NewType, Protocol

from worker.domain.catalog import Instance, Row, Tenant
from worker.domain.errors import WorkerError
from worker.domain.ids import TenantId

Revision = NewType("Revision", int)
"""Of the directory: each change has its own, larger than all before it, below 2**53. A row's is that of its last change; 0: no row."""

RESERVED_FOR_S = 30 * 86_400.0
MAX_ROWS = 100_000
"""Of each kind, over all tenants."""
MAX_ROW_BYTES = 256 << 10


class Kind(StrEnum):
    """Values are stored."""

    TENANT = "tenant"
    INSTANCE = "instance"
    WEBHOOK = "webhook"


class Stored(NamedTuple):
    """A row with its revision, for whoever wants to change it and must not undo somebody else's change."""

    row: Row
    revision: Revision


class Change(NamedTuple):
    """A row as it is now. `row` None: the row of this kind and id is gone, since that revision or a later one."""

    kind: Kind
    id: str
    row: Row | None
    revision: Revision


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened, in order (of several changes of one row the last), and where that ends: the `after` of the next question."""

    changes: Sequence[Change]
    upto: Revision


@dataclass(frozen=True, slots=True)
class Everything:
    """All rows; what happens after `upto` is not among them (or is, and comes again)."""

    rows: Sequence[Stored]
    upto: Revision


def kind_of(row: Row) -> Kind:
    return Kind.TENANT if isinstance(row, Tenant) else Kind.INSTANCE if isinstance(row, Instance) else Kind.WEBHOOK


class RowConflict(WorkerError):
    """Raised when a row cannot be written: somebody else was there first. `what` is one of id, name, key, revision, room."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the directory has another {what}; read the row again, or choose another")
        self.what = what


class Directory(Protocol):
    """Read all, follow, find one, write one."""

    async def everything(self) -> Everything:
        """All rows, in portions, never one huge reply."""
        ...

    async def changes(self, after: Revision, *, wait_s: float) -> Changes | None:
        """What happened after that; waits at most `wait_s` for the first. None: the log says nothing of that time; read everything anew."""
        ...

    async def find(self, kind: Kind, row_id: str) -> Stored | None:
        """One row as it is in the store now."""
        ...

    async def find_tenant_of_key(self, key_sha256: str) -> Stored | None:
        """The tenant whose API key has this hash, in the store now."""
        ...

    async def put(self, row: Row, *, expected: Revision) -> Revision:
        """Writes the row where its revision is the expected one (0: where there is none); answers the new one.

        An instance claims its name at its broker for itself over all tenants, and a tenant its keys. A repeat of a `put` that was done
        answers as that did. Raises `RowConflict`.
        """
        ...

    async def reserve(self, row_id: str, tenant_id: TenantId) -> None:
        """Keeps an instance's id for its tenant, for `RESERVED_FOR_S`: its gateway may push to it long after it was deleted."""
        ...

    async def reserved_for(self, row_id: str) -> TenantId | None:
        """Whose id it is though there is no such instance."""
        ...

    async def remove(self, kind: Kind, row_id: str, tenant_id: TenantId | None) -> Revision:
        """The removal's revision; 0: there was no such row, with `tenant_id` none of that tenant."""
        ...
