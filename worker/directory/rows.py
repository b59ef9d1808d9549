"""A row of the directory as bytes, and back. Pure.

JSON, so that an operator can read it, with a version: `{"v": 1, …}`. Fields that this version does not know are left aside, so that
workers of two revisions can share a directory while one is rolled out over the other; fields that it does not find keep their default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from worker.directory.port import MAX_ROW_BYTES, Kind, RowConflict
from worker.domain.catalog import Instance, Row, Tenant, Webhook
from worker.domain.errors import WorkerError

VERSION = 1
FORMATS = frozenset({"normalized", "raw"})
ORDERINGS = frozenset({"none", "chat"})

_READERS: Mapping[Kind, TypeAdapter[Any]] = {
    Kind.TENANT: TypeAdapter(Tenant),
    Kind.INSTANCE: TypeAdapter(Instance),
    Kind.WEBHOOK: TypeAdapter(Webhook),
}


class DamagedRow(WorkerError):
    """Raised when bytes from the store are no row of this kind and id. The message names what is wrong and holds no value."""


def encode_row(row: Row) -> bytes:
    """The same bytes for equal rows. Raises `RowConflict("room")` for more than `MAX_ROW_BYTES`."""
    data = orjson.dumps({"v": VERSION, **{field.name: getattr(row, field.name) for field in fields(row)}}, default=_plain)
    if len(data) > MAX_ROW_BYTES:
        raise RowConflict("room")
    return data


def decode_row(kind: Kind, row_id: str, data: bytes) -> Row:
    """The row of this kind and id. Raises `DamagedRow`."""
    try:
        row: Row = _READERS[kind].validate_json(data, strict=True)
    except ValidationError as exc:
        wrong = {".".join(map(str, fault["loc"])) or fault["type"] for fault in exc.errors(include_input=False, include_url=False)}
        raise DamagedRow(f"unreadable: {', '.join(sorted(wrong))}") from None  # the cause would quote the row, secrets and all
    if row.id != row_id:
        raise DamagedRow("it is another row's")
    if isinstance(row, Webhook) and not (row.format in FORMATS and row.ordering in ORDERINGS and row.deadline_s > 0 < row.max_in_flight):
        raise DamagedRow("unreadable: format, ordering, deadline_s or max_in_flight")
    return row


def claims_of(row: Row) -> tuple[str, ...]:
    """What nobody else may have while this row has it: a tenant's keys, an instance's name at its broker."""
    if isinstance(row, Tenant):
        return row.api_keys_sha256
    if isinstance(row, Instance) and row.broker is not None:
        return (f"{row.broker} {row.gateway_instance}",)
    return ()


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} in a row")
