"""Virtual time without idle turns: nothing here has sockets or threads to wait for, so that a virtual minute takes a tenth of a second."""

from __future__ import annotations

from typing import Any

import looptime
import pytest

VIRTUAL_WITHOUT_IDLE_TURNS = ("asyncio", {"loop_factory": lambda: looptime.new_event_loop(noop_cycles=1)})


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return VIRTUAL_WITHOUT_IDLE_TURNS
