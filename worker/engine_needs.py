"""What an engine is built over: the ports of a store, its slice of the settings, and the world around it. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.client_registry.port import Handovers, Leases, Membership
from worker.directory.port import Directory
from worker.drain_report import DrainReports
from worker.event_integration.attempts_log import AttemptsLog
from worker.event_integration.chat_aliases import ChatAliases
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.past import DeadLetters, Past
from worker.event_integration.pipeline import Clocks
from worker.event_integration.retry_queue import RetryQueue, Room
from worker.event_integration.webhook_states import WebhookStates
from worker.ingest.door import RoomLimits
from worker.ingest.preparation import Stamps
from worker.journal.port import Checkpoints, Journal
from worker.orchestrator.streams import StreamLimits
from worker.websocket.port import Connector
from worker.websocket.resume_points import ResumePoints


class Store(Protocol):
    """The bundle of ports that one store offers (`adapters/redis_store.py`, `adapters/memory_store.py`)."""

    @property
    def journal(self) -> Journal: ...
    @property
    def checkpoints(self) -> Checkpoints: ...
    @property
    def retry_queue(self) -> RetryQueue: ...
    @property
    def chat_aliases(self) -> ChatAliases: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def past(self) -> Past: ...
    @property
    def room(self) -> Room: ...
    @property
    def webhook_states(self) -> WebhookStates: ...
    @property
    def attempts_log(self) -> AttemptsLog: ...
    @property
    def drain_reports(self) -> DrainReports: ...
    @property
    def resume_points(self) -> ResumePoints: ...
    @property
    def directory(self) -> Directory: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def handovers(self) -> Handovers: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the engine needs of the settings, each in the unit of its name."""

    shards: int = 16
    lease_ttl_s: float = 15.0
    buffer_max_events: int = 10_000
    buffer_max_bytes: int = 64 << 20
    buffer_min_lane_events: int = 64
    max_in_flight: int = 2_000
    retry: RetryPolicy = RetryPolicy(schedule_s=(5, 30, 300, 1800, 7200, 18000, 36000, 36000), max_age_s=259_200)  # noqa: RUF009 -- frozen
    room: RoomLimits = RoomLimits(max_events=1_000_000, max_bytes=1 << 30, tenant_share=0.25)  # noqa: RUF009 -- frozen
    disable_after_s: float = 259_200.0
    keep_s: float = 3_600.0
    dead_letters_keep_s: float = 14 * 86_400.0
    streams: StreamLimits = StreamLimits()  # noqa: RUF009 -- frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is not ours to decide: time, chance, stamps, and the gateways' streams, by broker."""

    clocks: Clocks
    stamps: Stamps
    connectors: Mapping[str, Connector] = field(default_factory=dict)
