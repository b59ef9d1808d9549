"""One worker's lines to the ports of a store that all share: each can be cut off, stopped at a step or killed by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_store import MemoryStore


class Line:
    """One worker's line to one port of the store; each call passes the worker's own faults on its way out and back."""

    def __init__(self, port: Any, faults: StoreFaults) -> None:
        self._port = port
        self._faults = faults

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._port, name)

        async def call(*args: Any, **named: Any) -> Any:
            await self._faults.reach(name)
            answer = await method(*args, **named)
            await self._faults.answered(name)
            return answer

        return call


class Seat:
    """The bundle of ports as one worker sees it."""

    def __init__(self, store: MemoryStore, faults: StoreFaults) -> None:
        self.journal: Any = Line(store.journal, faults)
        self.checkpoints: Any = Line(store.checkpoints, faults)
        self.retry_queue: Any = Line(store.retry_queue, faults)
        self.chat_aliases: Any = Line(store.chat_aliases, faults)
        self.dead_letters: Any = Line(store.dead_letters, faults)
        self.past: Any = Line(store.past, faults)
        self.room: Any = Line(store.room, faults)
        self.webhook_states: Any = Line(store.webhook_states, faults)
        self.attempts_log: Any = Line(store.attempts_log, faults)
        self.drain_reports: Any = Line(store.drain_reports, faults)
        self.resume_points: Any = Line(store.resume_points, faults)
        self.directory: Any = Line(store.directory, faults)
        self.leases: Any = Line(store.leases, faults)
        self.membership: Any = Line(store.membership, faults)
        self.handovers: Any = Line(store.handovers, faults)
