"""The durable form of an event: what the journal, the retry queue and the dead letters hold. Pure; on the hot path.

```
version 1 B | header 4 B | flags 1 B | content type 2 B | header … | content type … | raw …
            └ lengths, big-endian ──────────────────────┘
```

The header is the normalized envelope (contract 4) up to `raw`, as JSON, so that a delivery's body is made by joining
bytes: the gateway's own are embedded unchanged and never parsed again. Where the content type is JSON the raw bytes must
be valid JSON; whoever encodes guarantees it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import fields
from struct import Struct
from struct import error as StructError  # noqa: N812 (a class, named like one)
from typing import Any, NamedTuple

import orjson

from worker.domain.contact import Contact
from worker.domain.errors import CorruptRecord
from worker.domain.event import SCHEMA, Event, EventType
from worker.domain.ids import EventKey, InstanceId, TenantId

VERSION = 1
_PREFIX = Struct(">BIBH")
_REMEMBERED = 1
_NOT_IN_HEADER = frozenset({"raw", "raw_content_type", "remembered"})
_HEADER_FIELDS = tuple(f.name for f in fields(Event) if f.name not in _NOT_IN_HEADER)
"""In the contract's order, which is the order of `Event`; `schema` stands before them."""
_TYPES = {str(member): member for member in EventType}


class Record:
    """A record, opened: its bytes, and of its header what routing asks for.

    The rest (`envelope`) is parsed again when asked for: ten thousand of these wait in the buffer, and a dictionary in each would be
    most of their memory and of the collector's work. Made by `decode` only. `repr` shows the key and the type.
    """

    __slots__ = (
        "_header_end",
        "_raw_start",
        "chat_aliases",
        "chat_id",
        "data",
        "event_key",
        "gateway",
        "instance_id",
        "raw_content_type",
        "received_at",
        "remembered",
        "subtype",
        "tenant_id",
        "type",
    )

    def __init__(self, data: bytes) -> None:
        """Raises what parsing raises on bytes that `encode` did not make; `decode` translates it."""
        version, header_bytes, flags, content_type_bytes = _PREFIX.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"version {version}")
        self.data = data
        self._header_end = _PREFIX.size + header_bytes
        self._raw_start = self._header_end + content_type_bytes
        if len(data) < self._raw_start:
            raise ValueError("cut off")
        envelope = orjson.loads(data[_PREFIX.size : self._header_end])
        self.event_key: EventKey = envelope["event_key"]
        self.tenant_id: TenantId = envelope["tenant_id"]
        self.instance_id: InstanceId = envelope["instance_id"]
        self.gateway: str = envelope["gateway"]
        self.type: EventType = _TYPES[envelope["type"]]
        self.subtype: str | None = envelope["subtype"]
        self.chat_id: str | None = envelope["chat_id"]
        self.chat_aliases: tuple[str, ...] = tuple(envelope["chat_aliases"])
        self.received_at: str = envelope["received_at"]
        self.raw_content_type = data[self._header_end : self._raw_start].decode()
        self.remembered = bool(flags & _REMEMBERED)

    @property
    def envelope(self) -> Mapping[str, Any]:
        """The whole normalized header, parsed anew at each call."""
        header: Mapping[str, Any] = orjson.loads(self.data[_PREFIX.size : self._header_end])
        return header

    def __len__(self) -> int:
        """Bytes of the record as stored."""
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Record {self.event_key} {self.type} {len(self.data)} B>"


def encode(event: Event) -> bytes:
    """The record of `event`; `decode(encode(event))` says the same."""
    envelope: dict[str, Any] = {"schema": SCHEMA}
    for name in _HEADER_FIELDS:
        envelope[name] = getattr(event, name)
    header = orjson.dumps(envelope)
    content_type = event.raw_content_type.encode()
    flags = _REMEMBERED if event.remembered else 0
    return b"".join((_PREFIX.pack(VERSION, len(header), flags, len(content_type)), header, content_type, event.raw))


def decode(data: bytes) -> Record:
    """Opens a record. Raises `CorruptRecord`."""
    try:
        return Record(data)
    except (KeyError, TypeError, ValueError, StructError) as exc:
        cause = str(exc) if type(exc) is ValueError else type(exc).__name__
        raise CorruptRecord(f"record of {len(data)} bytes cannot be read ({cause}); written by another version or damaged") from exc


class Heading(NamedTuple):
    """What a list of events shows of each."""

    instance_id: InstanceId
    type: str
    subtype: str | None
    received_at: str


def heading(beginning: bytes) -> Heading:
    """Of a record of which perhaps only the beginning is there: its lengths and its header. Raises `CorruptRecord`."""
    try:
        _, header_bytes, _, _ = _PREFIX.unpack_from(beginning)
        envelope = orjson.loads(beginning[_PREFIX.size : _PREFIX.size + header_bytes])
        return Heading(envelope["instance_id"], envelope["type"], envelope["subtype"], envelope["received_at"])
    except (KeyError, TypeError, ValueError, StructError) as exc:
        raise CorruptRecord(f"the beginning of a record cannot be read ({type(exc).__name__})") from exc


def sealed(data: bytes, event_key: EventKey, tenant_id: TenantId = TenantId("-")) -> Record:  # noqa: B008 -- a constant
    """A record around bytes that are none: so that what cannot be opened can still be kept, listed and looked at. `-`: nobody's."""
    nobody = Event(
        event_key=event_key,
        gateway="unknown",
        transport="journal",
        tenant_id=tenant_id,
        instance_id=InstanceId("-"),
        gateway_instance="-",
        type=EventType.UNKNOWN,
        subtype="undecodable",
        received_at="1970-01-01T00:00:00.000Z",
        raw=data,
        raw_content_type="application/octet-stream",
        remembered=False,
    )
    return decode(encode(nobody))


def normalized_body(record: Record) -> bytes:
    """The body of a `normalized` webhook: the header, then `raw` as it came (base64 in a string where it is not JSON)."""
    raw = memoryview(record.data)[record._raw_start :]  # noqa: SLF001 (one module, one type)
    header = memoryview(record.data)[_PREFIX.size : record._header_end - 1]  # noqa: SLF001
    content_type = orjson.dumps(record.raw_content_type)
    if is_json(record.raw_content_type):
        return b"".join((header, b',"raw":', raw, b',"raw_content_type":', content_type, b"}"))
    return b"".join((header, b',"raw":"', b64encode(raw), b'","raw_content_type":', content_type, b"}"))


def with_contact(body: bytes, contact: Contact | None) -> bytes:
    """A normalized body with one field more, at its end; null: nothing is known of the contact."""
    told = None if contact is None else {"name": contact.name, "picture_url": contact.picture_url}
    return b"".join((memoryview(body)[:-1], b',"contact":', orjson.dumps(told), b"}"))


def raw_body(record: Record) -> tuple[bytes, str]:
    """The body of a `raw` webhook and its content type."""
    return record.data[record._raw_start :], record.raw_content_type  # noqa: SLF001


def is_json(content_type: str) -> bool:
    """Whether a body of this type is JSON: `application/json`, `text/json` or anything `+json`, whatever its parameters."""
    if content_type == "application/json":
        return True
    essence = content_type.partition(";")[0].strip().lower()
    return essence in {"application/json", "text/json"} or essence.endswith("+json")
