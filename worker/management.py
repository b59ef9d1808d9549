"""The management side: everything the HTTP API offers, collected from engine, store and settings. Wires; decides nothing.

Each slice offers its endpoints as one list; whatever is added here is served, guarded, limited, described and tested like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.adapters.clock import wall_s
from worker.api.dead_letters import dead_letter_endpoints
from worker.api.endpoints import Endpoint
from worker.api.events import event_endpoints
from worker.api.replay import Sources, replay_endpoints
from worker.api.targets import Targets
from worker.engine import Engine, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """What the endpoints need of the settings, each in the unit of its name."""

    shards: int


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
    ]
