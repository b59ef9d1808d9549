"""The catalog as a replica of the directory: decides which news is news. Does no I/O.

News of one row comes over several ways (the log of changes, a look-up, a write of our own) and may overtake each other. Every
change has a revision, larger than all before it: what is older than what is known is left aside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import anyio.lowlevel
import structlog

from worker.directory.port import Change, Everything, Kind, Revision, Stored, kind_of
from worker.domain.catalog import Catalog, Row

MAX_REMOVED = 4_096
"""Removals remembered, so that an answer which left the store before one of them does not bring the row back."""
YIELD_EVERY = 256

Name = tuple[Kind, str]

log = structlog.get_logger("worker.directory")


class Replica:
    """`take` for each piece of news, `become` for all of it. One for each catalog; the loop's thread only."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._revisions: dict[Name, Revision] = {}
        self._removed: OrderedDict[Name, Revision] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Replica of {len(self._revisions)} rows>"

    def __len__(self) -> int:
        """Rows that were registered, as far as they are known."""
        return len(self._revisions)

    def take(self, change: Change) -> None:
        """A row as it was in the store at some moment, or gone from there."""
        name = (change.kind, change.id)
        if change.revision < self._known(name):
            return
        if change.row is None:
            self._drop(name, change.revision)
        elif change.revision != self._removed.get(name):
            self._set(name, change.row, change.revision)

    def take_row(self, stored: Stored) -> None:
        self.take(Change(kind_of(stored.row), stored.row.id, stored.row, stored.revision))

    async def become(self, everything: Everything, *, after: Revision) -> None:
        """Everything, read anew by somebody who had followed up to `after`. What changed while it was read stays as it is known."""
        is_older = everything.upto < after  # the store went back: what we know beyond that is no more
        until = after if is_older else everything.upto
        rows: dict[Name, Stored] = {(kind_of(stored.row), stored.row.id): stored for stored in everything.rows}
        for name in [name for name, revision in self._revisions.items() if revision <= until and name not in rows]:
            self._drop(name, everything.upto)
        for number, name in enumerate(sorted(rows)):  # in order: whoever keeps sorted lists appends
            stored, known = rows[name], self._known(name)
            if known <= until or stored.revision > known:
                self._set(name, stored.row, stored.revision)
            if number % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    def _known(self, name: Name) -> Revision:
        """The revision of the row as it is known, or of its removal."""
        return self._revisions.get(name) or self._removed.get(name, Revision(0))

    def _set(self, name: Name, row: Row, revision: Revision) -> None:
        if name not in self._revisions and self.catalog.is_declared(row):
            log.warning("registered_row_not_used", kind=name[0], id=name[1], cause="the file declares the same id", next_step="remove one")
        self._revisions[name] = revision
        self._removed.pop(name, None)
        if self._table(name[0]).get(name[1]) != row:
            self.catalog.put(row)

    def _drop(self, name: Name, revision: Revision) -> None:
        self._removed[name] = revision
        self._removed.move_to_end(name)
        if len(self._removed) > MAX_REMOVED:
            self._removed.popitem(last=False)
        row = self._table(name[0]).get(name[1])
        if self._revisions.pop(name, None) is not None and row is not None:
            self.catalog.drop(row)

    def _table(self, kind: Kind) -> Mapping[str, Row]:
        tables: dict[Kind, Mapping[str, Row]] = {
            Kind.TENANT: self.catalog.tenants,  # type: ignore[dict-item]  # ids are strings; a mapping's key is invariant
            Kind.INSTANCE: self.catalog.instances,  # type: ignore[dict-item]
            Kind.WEBHOOK: self.catalog.webhooks,  # type: ignore[dict-item]
        }
        return tables[kind]
