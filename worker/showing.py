"""What a process shows of itself: health, role, status, the live line. Answers from memory, also before the engine is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio

from worker.adapters.ecs import EcsMetadata
from worker.adapters.own_process import OwnProcess
from worker.api.demo_sink import DemoSink
from worker.api.frame import Frame
from worker.api.health import Health, Readiness
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import OwnerId
from worker.drain_report import DrainReports, summary
from worker.engine import Engine
from worker.instances.roster import Roster
from worker.loop_lag import LoopLag
from worker.shutdown import Shutdown

READ_DRAINS_EVERY_S = 5.0
READ_DRAINS_WITHIN_S = 2.0


class Showing:
    """`engine`, `shutdown`, `api`, `process`, `ecs` and `brokers` are set by the process as they come to be."""

    def __init__(self, owner: OwnerId, *, is_stopping: Callable[[], bool], lag: LoopLag, sink: DemoSink | None) -> None:
        self._owner = owner
        self._is_stopping = is_stopping
        self._lag = lag
        self._sink = sink
        self.engine: Engine | None = None
        self.shutdown: Shutdown | None = None
        self.api: Frame | None = None
        self.process: OwnProcess | None = None
        self.ecs: EcsMetadata | None = None
        self.brokers: Roster | None = None
        self._last_drain: Mapping[str, Any] | None = None

    def health(self) -> Health:
        return Health(ready=self._ready, role=self._role, statistics=self._statistics, metrics_text=self._metrics_text)

    def _ready(self) -> Readiness:
        if self._is_stopping():
            return Readiness(ready=False, reason="draining")
        if self.engine is None or not self.engine.registry.is_ready:
            return Readiness(ready=False, reason="starting: the store is not open yet")
        return Readiness(ready=True, reason="")

    def _role(self) -> Mapping[str, Any]:
        if self.engine is None:
            return {"role": "draining" if self._is_stopping() else "standby", "owner": self._owner, "shards": []}
        return self.engine.registry.role()

    def _statistics(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {
            "process": self.process.statistics() if self.process is not None else {},
            "loop_lag_ms": round(self._lag.recent_s() * 1000),
            "loop_lag_max_ms": round(self._lag.worst_s * 1000),
            "last_drain": self._last_drain,
        }
        if self.ecs is not None and (told := self.ecs.statistics()):
            facts["ecs"] = told
        if self.engine is not None:
            facts |= self.engine.statistics()
        if self.brokers is not None:
            facts["brokers"] = self.brokers.statistics()
        if self.api is not None:
            facts["api"] = self.api.statistics()
        if self._sink is not None:
            facts["demo"] = self._sink.statistics()
        if self.shutdown is not None:
            facts["shutdown"] = {"phase": self.shutdown.phase}
        return facts

    async def follow_drains(self, reports: DrainReports) -> None:
        """Keeps the newest drain report of any worker at hand, also while the store is away. Until cancelled."""
        while True:
            with suppress(StoreUnavailable), anyio.move_on_after(READ_DRAINS_WITHIN_S):
                kept = await reports.latest(1)
                self._last_drain = summary(kept[0]) if kept else None
            await anyio.sleep(READ_DRAINS_EVERY_S)  # noqa: TID251 - how often a person looks

    def _metrics_text(self) -> str:
        return self.engine.metrics.text() if self.engine is not None else ""

    def live_line(self, left_s: Callable[[], tuple[float, float]]) -> Mapping[str, object]:
        """The figures of the live line; `left_s` answers (time left, budget) of a drain."""
        engine = self.engine
        if engine is None:
            return {"role": "starting"}
        facts: dict[str, object] = {
            "role": engine.registry.role()["role"],
            "shards": len(engine.registry.active()),
            "accepted": engine.ingest.statistics()["events"],
            "delivered": engine.settling.delivered_count,
            "buffered": engine.buffer.events,
            "in_flight": engine.pipeline.in_flight,
            "retry_queue": engine.retry_pump.depth,
        }
        if self.shutdown is not None:
            left, budget_s = left_s()
            phases = [{"name": p.name, "ms": p.ms, "cut": p.cut} for p in self.shutdown.phases]
            facts |= {"phase": self.shutdown.phase, "phases": phases, "budget_s": budget_s, "left_s": left}
        return facts
