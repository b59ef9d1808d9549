"""What every test shares: the event loop, the guard against blocking calls, hypothesis profiles, the chaos switch.

A test runs on plain asyncio unless it says otherwise:

* `tests/component/` runs in virtual time (`looptime`): an hour of sleep takes no time;
* `@pytest.mark.parametrize("anyio_backend", [UVLOOP])` runs one test on uvloop, the loop of production.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import looptime
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

CHAOS = os.environ.get("CHAOS") == "1"
"""True under `make chaos`: the same code with larger numbers."""

ASYNCIO: tuple[str, dict[str, Any]] = ("asyncio", {})
VIRTUAL = ("asyncio", {"loop_factory": looptime.new_event_loop})
UVLOOP = ("asyncio", {"use_uvloop": True})

COMPONENT = Path(__file__).parent / "component"

hypothesis.settings.register_profile("default", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("chaos", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("chaos" if CHAOS else "ci" if os.environ.get("CI") else "default")


def scaled(short: int, long: int) -> int:
    """`short` in the default suite, `long` under `make chaos`."""
    return long if CHAOS else short


@pytest.fixture
def chaos() -> bool:
    return CHAOS


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Virtual time for component tests, the default loop elsewhere."""
    return VIRTUAL if request.path.is_relative_to(COMPONENT) else ASYNCIO


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """A blocking call of ours inside a coroutine fails the test that made it."""
    if request.node.get_closest_marker("anyio") is None:
        yield None
        return
    with blockbuster_ctx("worker") as guard:
        yield guard
