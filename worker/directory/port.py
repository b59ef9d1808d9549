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

from worker.domain.catalog import Row, Tenant
from worker.domain.errors import WorkerError
from worker.domain.ids import TenantId

ChangeId = NewType("ChangeId", str)
"""Where one stands in the log of changes; opaque, made by the directory only."""
Revision = NewType("Revision", int)
"""Of one row: grows with each change of it. 0: there is none yet."""

MAX_ROWS = 100_000
"""Of each kind, over all tenants."""


class Kind(StrEnum):
    """Values are stored."""

    TENANT = "tenant"
    INSTANCE = "instance"
    WEBHOOK = "webhook"


class Change(NamedTuple):
    """A row as it is now. `row` None: the row of this kind and id is gone."""

    kind: Kind
    id: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened, in order, and where that ends: the `after` of the next question. `changes` may be empty."""

    changes: Sequence[Change]
    upto: ChangeId


@dataclass(frozen=True, slots=True)
class Everything:
    """All rows; what happens after `upto` is not among them (or is, and comes again)."""

    rows: Sequence[Row]
    upto: ChangeId


class Stored(NamedTuple):
    """A row with its revision, for whoever wants to change it and must not undo somebody else's change."""

    row: Row
    revision: Revision


class RowConflict(WorkerError):
    """Raised when a row cannot be written: somebody else was there first. `what` is one of id, name, revision, room."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the directory has another {what}; read the row again, or choose another")
        self.what = what


class Directory(Protocol):
    """Read all, follow, find one, write one."""

    async def everything(self) -> Everything:
        """All rows, in portions, never one huge reply."""
        ...

    async def changes(self, after: ChangeId, *, wait_s: float) -> Changes | None:
        """What happened after that; waits at most `wait_s` for the first. None: too long ago, read everything anew."""
        ...

    async def find(self, kind: Kind, row_id: str) -> Stored | None:
        """One row as it is in the store now."""
        ...

    async def find_tenant_of_key(self, key_sha256: str) -> Tenant | None:
        """Whose API key has this hash, in the store now."""
        ...

    async def put(self, row: Row, *, expected: Revision) -> Revision:
        """Writes the row where its revision is the expected one (0: where there is none); answers the new one.

        An instance claims its name at its broker for itself over all tenants, and a tenant its keys. Raises `RowConflict`.
        """
        ...

    async def remove(self, kind: Kind, row_id: str, tenant_id: TenantId | None) -> bool:
        """Whether there was one; with `tenant_id` only if it is that tenant's."""
        ...
