"""The streams of gateways, put together: the sessions that read them, and who starts and stops those. Wires; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worker.domain.catalog import Catalog
from worker.domain.ids import Shard
from worker.ingest.frames import Frames
from worker.metrics import Metrics
from worker.orchestrator.orchestrator import Orchestrator
from worker.orchestrator.waves import Pace, Waves
from worker.websocket.chronicle import Clocks
from worker.websocket.port import Connector
from worker.websocket.resume_points import Bookmarks, ResumePoints
from worker.websocket.sessions import Ask, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """`pace`: of connecting, for each broker."""

    max_sessions: int = 20_000
    pace: Pace = Pace()  # noqa: RUF009 -- frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What is read, and where it goes. `connectors` by broker; `owns`: whether a shard is provably ours now."""

    catalog: Catalog
    shards: int
    connectors: Mapping[str, Connector]
    frames: Frames
    resume_points: ResumePoints
    owns: Callable[[Shard], bool]


class Streams:
    """`sessions.run` in a task group that outlives the one of `orchestrator.run`."""

    def __init__(self, read: Read, clocks: Clocks, metrics: Metrics, limits: StreamLimits) -> None:
        waves = Waves(limits.pace, clocks.monotonic_s, clocks.unit_random)
        self.sessions = Sessions(read.frames, Bookmarks(read.resume_points), clocks, Ask(owns=read.owns, turn=waves.turn), metrics)
        self.orchestrator = Orchestrator(read.catalog, read.connectors, self.sessions, shards=read.shards, max_sessions=limits.max_sessions)

    def statistics(self) -> dict[str, object]:
        return {**self.orchestrator.statistics(), **self.sessions.statistics()}

    async def tear_down(self, within_s: float) -> None:
        """Orchestrator, then sessions, at a message boundary. Bounded; never raises."""
        self.orchestrator.stop()
        await self.sessions.close_all(within_s=within_s)
