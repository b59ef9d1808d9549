"""The twin of the resume points: same contract suite as `redis_resume_points`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker.adapters.memory_faults import StoreFaults
from worker.domain.ids import InstanceId
from worker.websocket.resume_points import KEPT_S


class MemoryResumePoints:
    """`ResumePoints` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._kept: dict[InstanceId, tuple[str, float]] = {}

    async def load_point(self, instance_id: InstanceId) -> str | None:
        await self._faults.reach("load_point")
        now_s = self._clock()
        event_id, until_s = self._kept.pop(instance_id, ("", now_s))
        found = event_id if now_s < until_s else None
        if found is not None:
            self._kept[instance_id] = found, now_s + KEPT_S
        await self._faults.answered("load_point")
        return found

    async def save_points(self, points: Mapping[InstanceId, str]) -> None:
        await self._faults.reach("save_points")
        until_s = self._clock() + KEPT_S
        self._kept |= {instance_id: (event_id, until_s) for instance_id, event_id in points.items()}
        await self._faults.answered("save_points")
