"""Instants as people write them: RFC 3339, read to milliseconds since the epoch and back. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from worker.adapters.clock import rfc3339
from worker.api.endpoints import ApiError, Fault

PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
Instant = Annotated[str, Field(pattern=PATTERN, max_length=40, examples=["2026-11-22T07:45:38Z"])]
IMPOSSIBLE = Fault(status=409, code="NO_SUCH_INSTANT", when="a day that its month does not have, or the year 0")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ms(text: str) -> int:
    """Milliseconds since the epoch, never negative; digits beyond them are dropped. Raises `ApiError` for a day that never was."""
    whole, _, rest = text.partition(".")
    fraction = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(fraction) :] if fraction else ""
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        raise ApiError(409, IMPOSSIBLE.code, "an instant names a day that never was; correct it and send the request again") from None
    since = moment - _EPOCH
    return max(0, (since.days * 86_400 + since.seconds) * 1_000 + int(fraction[:3].ljust(3, "0")))


def told(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return rfc3339(_EPOCH + timedelta(milliseconds=ms))
