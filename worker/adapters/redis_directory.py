"""The directory on Redis: a hash of rows and one of claims for each kind, and a stream of changes (docs/architecture.md "The store")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import orjson
import structlog

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient, Script
from worker.directory.port import MAX_ROWS, RESERVED_FOR_S, Change, Changes, Everything, Kind, Revision, RowConflict, Stored, kind_of
from worker.directory.rows import DamagedRow, claims_of, decode_row, encode_row
from worker.domain.catalog import Row, Tenant
from worker.domain.ids import TenantId

PUT = Script("put_row", "clock", "directory")
REMOVE = Script("remove_row", "clock", "directory")
SCRIPTS = (PUT, REMOVE)

CHANGES_KEPT = 10_000
"""At least; whoever asks for older ones reads everything."""
CHANGES_AT_ONCE = 500
ROWS_AT_ONCE = 200
BLOCK_AT_MOST_S = 4.0
CLAIM_OF = {Kind.TENANT: "key", Kind.INSTANCE: "name"}

log = structlog.get_logger("worker.directory")


class RedisDirectory:
    """`Directory`; counts the rows it could not read."""

    def __init__(self, data: RedisClient, blocking: RedisClient, *, max_rows: int = MAX_ROWS) -> None:
        self._data = data
        self._blocking = blocking
        self._max_rows = max_rows
        self.damaged = 0
        """Readings of rows that were no rows."""

    async def everything(self) -> Everything:
        last = await self._data.call("XREVRANGE", redis_keys.DIRECTORY_CHANGES, "+", "-", "COUNT", 1)
        rows = {(kind, stored.row.id): stored for kind in Kind async for stored in self._all_of(kind)}
        return Everything(list(rows.values()), _revision(last[0][0]) if last else Revision(0))

    async def _all_of(self, kind: Kind) -> AsyncIterator[Stored]:
        """Some perhaps twice, as the server's scan goes."""
        cursor = b"0"
        while True:
            cursor, found = await self._data.call("HSCAN", redis_keys.directory_rows(kind), cursor, "COUNT", ROWS_AT_ONCE)
            for row_id, text in zip(found[::2], found[1::2], strict=True):
                stored = self._read(kind, row_id.decode(), text)
                if stored is not None:
                    yield stored
            if cursor == b"0":
                return

    async def changes(self, after: Revision, *, wait_s: float) -> Changes | None:
        block_ms = max(1, round(min(wait_s, BLOCK_AT_MOST_S) * 1000))
        stream, position = redis_keys.DIRECTORY_CHANGES, f"{after}-0"
        # What is not there any more was trimmed, or a store that went back has lost it.
        is_there = ("XRANGE", stream, position, position) if after else ("XLEN", stream)
        read = ("XREAD", "COUNT", CHANGES_AT_ONCE, "BLOCK", block_ms, "STREAMS", stream, position)
        seen, found = await self._blocking.exchange([is_there, read], block_s=block_ms / 1000)
        if not seen if after else seen >= CHANGES_KEPT:
            return None
        if not found:
            return Changes((), after)
        [(_, entries)] = found
        return Changes(await self._as_they_are(entries), _revision(entries[-1][0]))

    async def _as_they_are(self, entries: Iterable[tuple[bytes, list[bytes]]]) -> list[Change]:
        """The rows that changed, each once, at the place of its last change."""
        last: dict[tuple[Kind, str], Revision] = {}
        for entry_id, values in entries:
            name = _name(values)
            if name is not None:
                last.pop(name, None)
                last[name] = _revision(entry_id)
        texts = await self._data.exchange([("HGET", redis_keys.directory_rows(kind), row_id) for kind, row_id in last]) if last else ()
        changes = []
        for ((kind, row_id), revision), text in zip(last.items(), texts, strict=True):
            if text is None:
                changes.append(Change(kind, row_id, None, revision))
            elif (stored := self._read(kind, row_id, text)) is not None:
                changes.append(Change(kind, row_id, *stored))
        return changes

    async def find(self, kind: Kind, row_id: str) -> Stored | None:
        text = await self._data.call("HGET", redis_keys.directory_rows(kind), row_id)
        return None if text is None else self._read(kind, row_id, text)

    async def find_tenant_of_key(self, key_sha256: str) -> Stored | None:
        tenant_id = await self._data.call("HGET", redis_keys.directory_claims(Kind.TENANT), key_sha256)
        stored = None if tenant_id is None else await self.find(Kind.TENANT, tenant_id.decode())
        if stored is None or not isinstance(stored.row, Tenant) or key_sha256 not in stored.row.api_keys_sha256:
            return None
        return stored

    async def put(self, row: Row, *, expected: Revision) -> Revision:
        kind = kind_of(row)
        args = (row.id, kind, expected, encode_row(row), orjson.dumps(claims_of(row)), self._max_rows, CHANGES_KEPT)
        answer = await self._data.call(*PUT.call(_keys(kind), args))
        if isinstance(answer, bytes):
            raise RowConflict(CLAIM_OF[kind] if answer == b"claim" else answer.decode())
        return Revision(answer)

    async def reserve(self, row_id: str, tenant_id: TenantId) -> None:
        await self._data.call("SET", redis_keys.reserved(row_id), tenant_id, "EX", round(RESERVED_FOR_S))

    async def reserved_for(self, row_id: str) -> TenantId | None:
        tenant_id = await self._data.call("GET", redis_keys.reserved(row_id))
        return None if tenant_id is None else TenantId(tenant_id.decode())

    async def remove(self, kind: Kind, row_id: str, tenant_id: TenantId | None) -> Revision:
        return Revision(await self._data.call(*REMOVE.call(_keys(kind), (row_id, kind, tenant_id or "", CHANGES_KEPT))))

    def _read(self, kind: Kind, row_id: str, text: bytes) -> Stored | None:
        """None for what cannot be read: one damaged row must not keep a worker from all the others."""
        try:
            stored = orjson.loads(text)
            return Stored(decode_row(kind, row_id, orjson.dumps(stored["row"])), Revision(int(stored["revision"])))
        except (DamagedRow, ValueError, KeyError, TypeError) as exc:
            self.damaged += 1
            cause = str(exc) if isinstance(exc, DamagedRow) else "not a stored row"
            log.warning(
                "directory_row_damaged",
                kind=kind,
                id=row_id,
                cause=cause,
                count=self.damaged,
                next_step=f"it is left aside; remove it (HDEL {redis_keys.directory_rows(kind)}) and register it again",
            )
            return None


def _keys(kind: Kind) -> tuple[str, ...]:
    return redis_keys.directory_rows(kind), redis_keys.directory_claims(kind), redis_keys.DIRECTORY_CHANGES


def _revision(entry_id: bytes) -> Revision:
    return Revision(int(entry_id.partition(b"-")[0]))


def _name(values: list[bytes]) -> tuple[Kind, str] | None:
    """None for a change of something that another version knows."""
    told = dict(zip(values[::2], values[1::2], strict=True))
    kind = told.get(b"kind", b"").decode()
    return (Kind(kind), told[b"id"].decode()) if kind in set(Kind) else None
