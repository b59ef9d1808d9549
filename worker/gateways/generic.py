"""Our own envelope, pushed by whoever speaks no gateway's tongue: one JSON object or a list of them. Pure.

Only `type` is required. It is our envelope, so every fault in it is refused with the field's name: nothing of such a body is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from worker.domain.errors import MalformedEvent
from worker.domain.event import Connection, EventType, Media
from worker.gateways.identity import NO_IDENTITY, Identity, by_message, by_source, by_time, canonical_id, digest, is_group
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import MAX_ID_CHARS, instant, json_body, subtype_of
from worker.gateways.signatures import after_scheme, matches_any

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS: frozenset[str] = frozenset()
MAX_EVENTS = 4096
_MAX_LIST = 1024
_TYPES = {str(member): member for member in EventType}
_MESSAGES = frozenset({EventType.MESSAGE, EventType.RECEIPT})
_CONTENT = ("text", "media", "ref_message_id")
_MEDIA_TEXTS = ("mimetype", "filename", "sha256", "url", "url_expires_at")


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`X-Signature: sha256=<hex HMAC-SHA256 of the raw body>`."""
    return matches_any(after_scheme(push.headers.get("x-signature"), "sha256"), push.body, secrets, "sha256")


def decode(push: Push) -> list[Decoded]:
    """Raises `MalformedEvent` naming the field; in a list with its index in front (`[3].type`)."""
    raw, body = json_body(push.body)
    if not isinstance(body, list):
        return [_event(body, raw, "")]
    if not body:
        raise MalformedEvent("body", "holds no event")
    if len(body) > MAX_EVENTS:
        raise MalformedEvent("body", f"holds more than {MAX_EVENTS} events; send several bodies")
    if len(body) == 1:
        return [_event(body[0], raw, "[0].")]
    return [_event(item, _alone(item, f"[{i}]."), f"[{i}].") for i, item in enumerate(body)]


def _event(item: Any, raw: bytes, where: str) -> Decoded:
    if not isinstance(item, dict):
        raise MalformedEvent(where.rstrip(".") or "body", "must be an object")
    if unknown := next((name for name in item if name not in _FIELDS), None):
        raise MalformedEvent(where + unknown[:MAX_ID_CHARS], "is no field of the envelope")
    values: dict[str, Any] = {}
    for name, read in _FIELDS.items():
        value = item.get(name)
        if value is not None and read is not None:
            try:
                values[name] = read(value)
            except _Fault as exc:
                raise MalformedEvent(where + name, str(exc)) from exc
    if "type" not in values:
        raise MalformedEvent(where + "type", "is missing")
    event_key = values.pop("event_key", None)
    values.setdefault("is_group", is_group(values.get("chat_id")))
    return Decoded(**values, raw=raw, identity=_identity(event_key, values, item, raw))


def _identity(event_key: str | None, values: Mapping[str, Any], item: Mapping[str, Any], raw: bytes) -> Identity:
    """A key that the sender gives is hashed with the tenant and the instance like any other source id."""
    if event_key is not None:
        return by_source(event_key)
    if values["type"] in _MESSAGES and values.get("message_ids"):
        if values["type"] is EventType.RECEIPT:
            return by_message()
        return by_message(digest([item.get(name) for name in _CONTENT], raw))
    if item.get("occurred_at") is not None:
        return by_time(str(item["occurred_at"]), item, raw)
    return NO_IDENTITY


def _alone(item: Any, where: str) -> bytes:
    """One event of several as a body of its own."""
    try:
        return orjson.dumps(item)
    except TypeError as exc:
        raise MalformedEvent(where.rstrip("."), "is nested too deeply") from exc


# ─── one reader per field; each raises `_Fault` with what is allowed ───


class _Fault(Exception):
    """Raised when a field holds something that it may not."""


def _type(value: Any) -> EventType:
    if isinstance(value, str) and value in _TYPES:
        return _TYPES[value]
    raise _Fault("must be one of " + ", ".join(EventType))


def _subtype(value: Any) -> str:
    text = _id(value)
    if subtype_of(text) != text:
        raise _Fault("must be at most 64 of A-Z a-z 0-9 . _ -")
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault("must be a string")
    return value


def _id(value: Any) -> str:
    text = _text(value)
    if not text or len(text) > MAX_ID_CHARS:
        raise _Fault(f"must have 1 to {MAX_ID_CHARS} characters")
    return text


def _address(value: Any) -> str:
    return canonical_id(_id(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Fault("must be true or false")
    return value


def _list_of(read: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    def read_list(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > _MAX_LIST:
            raise _Fault(f"must be a list of at most {_MAX_LIST} strings")
        return tuple(read(element) for element in value)

    return read_list


def _time(value: Any) -> str | None:
    """An absurd time is no reason to refuse an event."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Fault("must be a time: RFC 3339, or seconds or milliseconds since 1970")
    return instant(value)


def _media(value: Any) -> Media:
    given = _object(value, {"kind", "size", "inline", *_MEDIA_TEXTS})
    size = given.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= 2**53):
        raise _Fault("size must be a number of bytes")
    texts = {name: _text(given[name]) for name in _MEDIA_TEXTS if given.get(name) is not None}
    inline = given.get("inline")
    return Media(kind=_id(given.get("kind")), size=size, inline=inline is not None and _flag(inline), **texts)


def _connection(value: Any) -> Connection:
    given = _object(value, {"state", "reason_code", "reason"})
    texts = {name: _text(given[name]) for name in ("reason_code", "reason") if given.get(name) is not None}
    return Connection(state=_id(given.get("state")), **texts)


def _object(value: Any, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not names.issuperset(value):
        raise _Fault("must be an object of " + ", ".join(sorted(names)))
    return value


_FIELDS: Mapping[str, Callable[[Any], Any] | None] = {
    "schema": None,
    "event_key": _id,
    "gateway": None,
    "transport": None,
    "tenant_id": None,
    "instance_id": None,
    "gateway_instance": _id,
    "type": _type,
    "subtype": _subtype,
    "chat_id": _address,
    "chat_aliases": _list_of(_address),
    "sender_id": _address,
    "sender_aliases": _list_of(_address),
    "from_me": _flag,
    "is_group": _flag,
    "message_ids": _list_of(_id),
    "ref_message_id": _id,
    "status": _subtype,
    "status_rank": None,
    "text": _text,
    "media": _media,
    "push_name": _text,
    "connection": _connection,
    "occurred_at": _time,
    "received_at": None,
    "replay": _flag,
    "raw": None,
    "raw_content_type": None,
}
"""Contract 4's envelope. None: allowed, so that an envelope may be passed on as it came, but not the sender's to say."""
