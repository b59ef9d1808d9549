"""The twin of the kept drain reports: same contract suite as `redis_drain_reports`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from worker.adapters.memory_faults import StoreFaults
from worker.drain_report import KEPT_REPORTS, KeptReport


class MemoryDrainReports:
    """`DrainReports` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults) -> None:
        self._faults = faults
        self._kept: deque[KeptReport] = deque(maxlen=KEPT_REPORTS)

    async def save(self, kept: KeptReport) -> None:
        await self._faults.reach("save_drain_report")
        self._kept.appendleft(kept)
        await self._faults.answered("save_drain_report")

    async def latest(self, most: int = KEPT_REPORTS) -> Sequence[KeptReport]:
        await self._faults.reach("drain_reports")
        kept = list(self._kept)[:most]
        await self._faults.answered("drain_reports")
        return kept
