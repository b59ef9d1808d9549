"""The twin of counted calls: the library's own memory, which goes by the wall clock also where all else is virtual."""

from __future__ import annotations

from limits.aio.storage import MemoryStorage

from worker.adapters.counting import SlidingCounts
from worker.adapters.memory_faults import StoreFaults


class MemoryCallCounts:
    """`CallCounts` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults) -> None:
        self._faults = faults
        self._counts = SlidingCounts(MemoryStorage())

    async def count(self, whose: str, kind: str, *, calls: int, window_s: int) -> float:
        await self._faults.reach("count_call")
        wait_s = await self._counts.count(whose, kind, calls=calls, window_s=window_s)
        await self._faults.answered("count_call")
        return wait_s
