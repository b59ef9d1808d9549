"""The catalog as a replica of the directory: decides which news is news. Does no I/O.

News of one row comes over several ways (the log of changes, a look-up, a write of our own) and may overtake each other. Every
change has a revision, larger than all before it: what is older than what is known is left aside.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Iterable, Mapping
from typing import cast

import anyio.lowlevel
import structlog

from worker.directory.port import Change, Everything, Kind, Revision, Stored, kind_of
from worker.domain.catalog import Catalog, Row

MAX_REMOVED = 4_096
"""Removals remembered, so that an answer which left the store before one of them does not bring the row back."""
YIELD_EVERY = 256

log = structlog.get_logger("worker.directory")


class Replica:
    """`take` for each piece of news, `become` for all of it. One for each catalog; the loop's thread only."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._revisions: dict[Kind, dict[str, Revision]] = {kind: {} for kind in Kind}
        self._removed: OrderedDict[tuple[Kind, str], Revision] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Replica of {len(self)} rows>"

    def __len__(self) -> int:
        """Rows that were registered, as far as they are known."""
        return sum(map(len, self._revisions.values()))

    def take(self, change: Change) -> None:
        """A row as it was in the store at some moment, or gone from there."""
        kind, row_id, row, revision = change
        if revision < self._known(kind, row_id):
            return
        if row is None:
            self._drop(kind, row_id, revision)
        elif revision != self._removed.get((kind, row_id)):
            self._set(kind, row, revision)

    def take_row(self, stored: Stored) -> None:
        self.take(Change(kind_of(stored.row), stored.row.id, stored.row, stored.revision))

    async def become(self, everything: Everything, *, after: Revision) -> None:
        """Everything, read anew by somebody who had followed up to `after`. What changed while it was read stays as it is known."""
        is_older = everything.upto < after  # the store went back: what we know beyond that is no more
        until = after if is_older else everything.upto
        for kind, rows in _by_kind(everything.rows).items():
            for row_id in [row_id for row_id, revision in self._revisions[kind].items() if revision <= until and row_id not in rows]:
                self._drop(kind, row_id, everything.upto)
            for number, row_id in enumerate(sorted(rows)):  # in order: whoever keeps sorted lists appends
                stored, known = rows[row_id], self._known(kind, row_id)
                if known <= until or stored.revision > known:
                    self._set(kind, stored.row, stored.revision)
                if number % YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()

    def _known(self, kind: Kind, row_id: str) -> Revision:
        """The revision of the row as it is known, or of its removal."""
        return self._revisions[kind].get(row_id) or self._removed.get((kind, row_id), Revision(0))

    def _set(self, kind: Kind, row: Row, revision: Revision) -> None:
        revisions = self._revisions[kind]
        if row.id not in revisions and self.catalog.is_declared(row):
            log.warning("registered_row_not_used", kind=kind, id=row.id, cause="the file declares the same id", next_step="remove one")
        revisions[row.id] = revision
        self._removed.pop((kind, row.id), None)
        if self._rows(kind).get(row.id) != row:
            self.catalog.put(row)

    def _drop(self, kind: Kind, row_id: str, revision: Revision) -> None:
        self._removed[kind, row_id] = revision
        self._removed.move_to_end((kind, row_id))
        if len(self._removed) > MAX_REMOVED:
            self._removed.popitem(last=False)
        row = self._rows(kind).get(row_id)
        if self._revisions[kind].pop(row_id, None) is not None and row is not None:
            self.catalog.drop(row)

    def _rows(self, kind: Kind) -> Mapping[str, Row]:
        catalog = self.catalog
        if kind is Kind.TENANT:
            return cast("Mapping[str, Row]", catalog.tenants)  # ids are strings; of a mapping the checker wants the very type
        return cast("Mapping[str, Row]", catalog.instances if kind is Kind.INSTANCE else ChainMap(catalog.webhooks, catalog.departed))


def _by_kind(rows: Iterable[Stored]) -> dict[Kind, dict[str, Stored]]:
    found: dict[Kind, dict[str, Stored]] = {kind: {} for kind in Kind}
    for stored in rows:
        found[kind_of(stored.row)][stored.row.id] = stored
    return found
