"""The last drain reports, kept for `GET /api/drains`."""

from __future__ import annotations

import pytest

from tests.contract.samples import Store
from worker.drain_report import KEPT_REPORTS, KeptReport

pytestmark = pytest.mark.anyio


def report(number: int) -> KeptReport:
    return KeptReport(at="2026-11-22T07:45:38.120Z", owner=f"task-{number}", report={"reason": "scale_in", "phases": [{"ms": number}]})


async def test_no_report_was_kept_yet(store: Store) -> None:
    assert list(await store.drain_reports.latest()) == []


async def test_what_is_kept_comes_back_whole_the_newest_first(store: Store) -> None:
    for number in range(3):
        await store.drain_reports.save(report(number))
    assert list(await store.drain_reports.latest()) == [report(2), report(1), report(0)]
    assert list(await store.drain_reports.latest(1)) == [report(2)]


async def test_the_oldest_gives_way(store: Store) -> None:
    for number in range(KEPT_REPORTS + 2):
        await store.drain_reports.save(report(number))
    kept = await store.drain_reports.latest()
    assert [one.owner for one in kept] == [f"task-{number}" for number in range(KEPT_REPORTS + 1, 1, -1)]
