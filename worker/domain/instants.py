"""Instants as they stand in envelopes and rows: RFC 3339 in UTC with milliseconds, so that their text sorts as they do. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

ALWAYS = "9999"
"""Sorts behind every instant."""


def rfc3339(moment: datetime) -> str:
    """As in the envelope: `2026-11-22T07:45:38.300Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def later(instant: str, by_s: float) -> str:
    """So many seconds after `instant` (before it, if less than none); `ALWAYS` for a text that is no instant."""
    try:
        return rfc3339(datetime.fromisoformat(instant) + timedelta(seconds=by_s))
    except (ValueError, OverflowError):
        return ALWAYS
