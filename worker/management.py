"""The management side: everything the HTTP API offers, collected from engine, store and settings. Wires; decides nothing.

Each slice offers its endpoints as one list; whatever is added here is served, guarded, limited, described and tested like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.api.endpoints import Endpoint
from worker.engine import Engine, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """What the endpoints need of the settings, each in the unit of its name."""


def management_endpoints(engine: Engine, store: Store, settings: ManagementSettings) -> list[Endpoint]:
    """All of them, in the order in which they are described."""
    del engine, store, settings
    return []
