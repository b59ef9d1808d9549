"""Counting calls by the library `limits`: what is the same over Redis and in memory. Owns which of its strategies is used.

The sliding window counter keeps two numbers per window and goes by the server's clock, so that workers whose clocks differ agree.
"""

from __future__ import annotations

import time

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

SOONEST_S = 0.001


class SlidingCounts:
    """The port `CallCounts` (`api/limits.py`) over a storage of the library."""

    def __init__(self, storage: RedisStorage | MemoryStorage) -> None:
        self._windows = SlidingWindowCounterRateLimiter(storage)

    async def count(self, whose: str, kind: str, *, calls: int, window_s: int) -> float:
        item = RateLimitItemPerSecond(calls, window_s, namespace="calls")
        if await self._windows.hit(item, whose, kind):
            return 0.0
        stats = await self._windows.get_window_stats(item, whose, kind)
        return max(SOONEST_S, stats.reset_time - time.time())  # noqa: TID251 -- the library answers by this clock
