"""How long the stages of the instances API take, by tenant and outcome: so that a tenant who suffers is found before he calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

from worker.domain.ids import TenantId
from worker.metrics_cells import Histogram

T = TypeVar("T")


class Stage(StrEnum):
    REFRESH = "refresh"
    LIST = "list"
    CREATE = "create"


class Outcome(StrEnum):
    OK = "ok"
    STALE = "stale"
    """Answered from an earlier time, because a broker failed."""
    FAILED = "failed"


class Stages:
    """`clock` is monotonic."""

    def __init__(self, duration: Histogram, clock: Callable[[], float]) -> None:
        self._duration = duration
        self._clock = clock

    async def timed(
        self, tenant_id: TenantId, stage: Stage, work: Awaitable[T], outcome: Callable[[T], Outcome] = lambda _answer: Outcome.OK
    ) -> T:
        """Awaits `work` and records it; what it raises is a failure."""
        begun_s = self._clock()
        how = Outcome.FAILED
        try:
            answer = await work
            how = outcome(answer)
            return answer
        finally:
            self._duration.record(self._clock() - begun_s, tenant_id, stage.value, how.value)
