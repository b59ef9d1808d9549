"""Instants as people write them: RFC 3339 in all its forms, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.clock import rfc3339
from worker.api.endpoints import ApiError
from worker.api.instants import PATTERN, instant_ms, told


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T07:45:38Z", 1_795_333_538_000),
        ("2026-11-22T07:45:38.1Z", 1_795_333_538_100),
        ("2026-11-22T07:45:38.123999999Z", 1_795_333_538_123),
        ("2026-11-22T09:45:38.5+02:00", 1_795_333_538_500),
        ("2024-02-29T00:00:00-00:00", 1_709_164_800_000),
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
    ],
)
def test_an_instant_is_read_to_its_millisecond(text: str, ms: int) -> None:
    assert re.search(PATTERN, text)
    assert instant_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-11-22", "2026-11-22T07:45:38", "2026-11-22 07:45:38Z", "2026-13-01T00:00:00Z", "1795333538",
     "2026-11-22T24:00:00Z", "2026-11-22T07:45:38.Z", "2026-11-22T07:45:38,5Z", "2026-11-22T07:45:60Z", "٢٠٢٦-11-22T07:45:38Z"],
)  # fmt: skip
def test_what_is_no_rfc_3339_is_turned_away_by_the_schema(text: str) -> None:
    assert not re.search(PATTERN, text)


@pytest.mark.parametrize("text", ["2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "2026-04-31T00:00:00.5Z"])
def test_a_day_that_never_was_is_a_conflict(text: str) -> None:
    assert re.search(PATTERN, text)
    with pytest.raises(ApiError) as refused:
        instant_ms(text)
    assert (refused.value.status, refused.value.code) == (409, "NO_SUCH_INSTANT")


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)), st.integers(-1_439, 1_439))  # noqa: DTZ001 - the zone is added
def test_whatever_is_told_is_read_the_same(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=timezone(timedelta(minutes=offset_min)))
    assert told(instant_ms(rfc3339(aware))) == rfc3339(aware)
    assert instant_ms(aware.isoformat(timespec="milliseconds")) == instant_ms(rfc3339(aware.astimezone(UTC)))
