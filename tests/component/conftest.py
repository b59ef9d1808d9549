"""Virtual time without idle turns: nothing here has sockets or threads to wait for, so that a virtual minute takes a tenth of a second."""

from __future__ import annotations

from typing import Any

import looptime
import pytest

from worker.client_registry import handing, presence, registry, renewal
from worker.event_integration import checkpointer, housekeeping, reader, retry_pump, standing, sweep
from worker.ingest import door

VIRTUAL_WITHOUT_IDLE_TURNS = ("asyncio", {"loop_factory": lambda: looptime.new_event_loop(noop_cycles=1)})


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return VIRTUAL_WITHOUT_IDLE_TURNS


@pytest.fixture
def slow_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops that only look turn slower, or a long wait in there would be long out here."""
    for module in (sweep, checkpointer):
        monkeypatch.setattr(module, "EVERY_S", 3.0)
    for module in (standing, housekeeping):
        monkeypatch.setattr(module, "EVERY_S", 30.0)
    monkeypatch.setattr(sweep, "IDLE_EVERY_S", 3.0)
    monkeypatch.setattr(retry_pump, "TURN_S", 3.0)
    monkeypatch.setattr(renewal, "LOOK_EVERY_S", 1.0)
    for looking in (registry, handing):
        monkeypatch.setattr(looking, "LOOK_AGAIN_S", 30.0)
    monkeypatch.setattr(presence, "HEARTBEAT_EVERY_S", 20.0)
    monkeypatch.setattr(presence, "HEARTBEAT_TTL_S", 60.0)
    monkeypatch.setattr(door, "REFRESH_EVERY_S", 30.0)
    monkeypatch.setattr(reader, "BLOCK_S", 5.0)
