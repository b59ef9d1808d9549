"""The management side: everything the HTTP API offers, collected from engine, store and settings. Wires; decides nothing.

Each slice offers its endpoints as one list; whatever is added here is served, guarded, limited, described and tested like the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.adapters.clock import monotonic_s, wall_s
from worker.api.authentication import Authentication
from worker.api.dead_letters import dead_letter_endpoints
from worker.api.drains import drain_endpoints
from worker.api.endpoints import Endpoint
from worker.api.events import event_endpoints
from worker.api.frame import Frame
from worker.api.limits import CallCounts, Limits, rates
from worker.api.replay import Sources, replay_endpoints
from worker.api.targets import Targets
from worker.api.tenants import tenant_endpoints
from worker.engine import Engine
from worker.engine import Store as EngineStore
from worker.instances.idempotency import Idempotency


class Store(EngineStore, Protocol):
    """What the API asks beyond the engine."""

    @property
    def call_counts(self) -> CallCounts: ...
    @property
    def idempotency(self) -> Idempotency: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """What the endpoints need of the settings, each in the unit of its name."""

    shards: int
    admin_key: str | None = field(default=None, repr=False)
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    """Kind of call → `calls/seconds` or `off`."""


def open_api(frame: Frame, engine: Engine, store: Store, settings: ManagementSettings) -> None:
    """From here on the API answers."""
    authentication = Authentication(engine.catalog, engine.registrar, admin_key=settings.admin_key, clock=monotonic_s)
    limits = Limits(store.call_counts, rates(settings.rate_limits), is_known=store.idempotency.knows)
    frame.open(management_endpoints(engine, store, settings), authentication, limits)


def management_endpoints(engine: Engine, store: Store, settings: ManagementSettings) -> list[Endpoint]:
    """All of them, in the order in which they are described."""
    targets = Targets(engine.catalog, engine.standing.disabled)
    sources = Sources(
        past=store.past,
        letters=store.dead_letters,
        shards=settings.shards,
        refused=engine.door.refused,
        wall_ms=lambda: int(wall_s() * 1000),
    )
    return [
        *replay_endpoints(sources, targets),
        *event_endpoints(store.past, store.attempts_log, engine.catalog),
        *dead_letter_endpoints(store.dead_letters, targets),
        *tenant_endpoints(engine.catalog, engine.registrar),
        *drain_endpoints(store.drain_reports),
    ]
