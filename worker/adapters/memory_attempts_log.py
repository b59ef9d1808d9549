"""The twin of the attempts log: same contract suite as `redis_attempts_log`. Forgets nothing by time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from worker.adapters.memory_faults import StoreFaults
from worker.domain.ids import WebhookId
from worker.event_integration.attempts_log import KEPT, AttemptEntry


class MemoryAttemptsLog:
    """`AttemptsLog` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults) -> None:
        self._faults = faults
        self._entries: dict[WebhookId, deque[AttemptEntry]] = {}

    async def add(self, entries: Mapping[WebhookId, Sequence[AttemptEntry]]) -> None:
        await self._faults.reach("add_attempts")
        for webhook_id, each in entries.items():
            self._entries.setdefault(webhook_id, deque(maxlen=KEPT)).extend(each)
        await self._faults.answered("add_attempts")

    async def attempts_of(self, webhook_id: WebhookId) -> list[AttemptEntry]:
        await self._faults.reach("attempts_of")
        return list(reversed(self._entries.get(webhook_id, ())))

    async def forget(self, webhook_id: WebhookId) -> None:
        await self._faults.reach("forget_attempts")
        self._entries.pop(webhook_id, None)
        await self._faults.answered("forget_attempts")
