"""Readers of foreign JSON: each answers the value where it has the expected type, else None (or nothing). Pure.

None of them raises on any value; what a gateway sends in place of a text, a list or a time is not our fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from worker.domain.errors import MalformedEvent
from worker.gateways.redaction import redacted

NOTHING: Mapping[str, Any] = {}
MAX_ID_CHARS = 256
"""An id that is longer is no id: it would stand in keys, logs of identifiers and every envelope."""
MAX_SUBTYPE_CHARS = 64
_EARLIEST_MS = 1_230_768_000_000
"""2009, the year WhatsApp began."""
_LATEST_MS = 4_102_444_800_000
"""2100."""
_UNITS_PER_MS = ((1e17, 1e6), (1e14, 1e3), (1e11, 1.0))
"""Beyond 1e17 a number counts nanoseconds, beyond 1e14 µs, beyond 1e11 ms; below that seconds."""
_MAX_TIME_CHARS = 40
_NOT_IN_A_SUBTYPE = re.compile(r"[^A-Za-z0-9._-]")


def json_body(body: bytes) -> tuple[bytes, Any]:
    """The body with its secrets overwritten, and its value. Raises `MalformedEvent`."""
    value = json_value(body, "body")
    # Parsed first: on JSON the overwriting takes linear time, on anything else it might not.
    clean = redacted(body)
    if clean is not body:
        # Gone before it is read again: a body of many small values takes thirty times its length when parsed.
        del value
        value = orjson.loads(clean)
    return clean, value


def json_value(text: bytes, field: str) -> Any:
    """Raises `MalformedEvent` with the name of the field that holds `text`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        why = f"not JSON (line {exc.lineno}, column {exc.colno})" if text else "empty"
        raise MalformedEvent(field, why) from exc


def mapping_at(source: Any, *path: str) -> Mapping[str, Any]:
    """The object at `path`, or an empty one."""
    for name in path:
        source = source.get(name) if isinstance(source, dict) else None
    return source if isinstance(source, dict) else NOTHING


def list_at(source: Mapping[str, Any], name: str) -> list[Any]:
    value = source.get(name)
    return value if isinstance(value, list) else []


def text_at(source: Mapping[str, Any], name: str) -> str | None:
    """A text that is not empty."""
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def id_at(source: Mapping[str, Any], name: str) -> str | None:
    return identifier(source.get(name))


def ids_at(source: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The identifiers of a list, in its order, each once; what is none is left out."""
    return tuple(dict.fromkeys(found for item in list_at(source, name) if (found := identifier(item)) is not None))


def identifier(value: Any) -> str | None:
    """A text that is not blank, or a whole number; at most `MAX_ID_CHARS`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and len(value) <= MAX_ID_CHARS:
        return value.strip() or None
    return None


def flag_at(source: Mapping[str, Any], name: str) -> bool | None:
    value = source.get(name)
    return value if isinstance(value, bool) else None


def size_at(source: Mapping[str, Any], name: str) -> int | None:
    """A number of bytes, also where it was sent as text."""
    value = source.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(2**53)):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53 else None


def moment_at(source: Mapping[str, Any], name: str) -> str | None:
    """The gateway's own time as text, for identities: exactly as sent, whatever it says."""
    value = source.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TIME_CHARS else None


def instant_at(source: Mapping[str, Any], name: str) -> str | None:
    return instant(source.get(name))


def instant(value: Any) -> str | None:
    """RFC 3339 in UTC with milliseconds, from seconds, ms, µs or ns (numbers or text) or from RFC 3339; absurd → None."""
    if isinstance(value, str):
        value = _time_in_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    at_ms = next((value / per_ms for beyond, per_ms in _UNITS_PER_MS if value > beyond), value * 1e3)
    if not _EARLIEST_MS <= at_ms < _LATEST_MS:
        return None
    # Rounded first: 1763797538.12 s must not lose a millisecond to binary fractions.
    seconds, ms = divmod(round(at_ms), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def subtype_of(name: str) -> str:
    """A gateway's own word, fit for a header and a filter."""
    return _NOT_IN_A_SUBTYPE.sub("_", name[:MAX_SUBTYPE_CHARS])


def texts(*candidates: Any) -> Iterator[str]:
    """Those that are texts and not empty, in order."""
    return (text for text in candidates if isinstance(text, str) and text)


def first_text(*candidates: Any) -> str | None:
    return next(texts(*candidates), None)


def _time_in_text(text: str) -> float | None:
    """Seconds of an RFC 3339 time, or the number written there."""
    if len(text) > _MAX_TIME_CHARS or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
        # A time without a zone is some server's local time: not to be trusted.
        return parsed.timestamp() if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None
