"""Every test of a store's contract runs on the in-memory twin and on a real Redis: what one says the other must say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from tests.contract.samples import Store
from worker.adapters.memory_store import MemoryStore

SHARDS = 4


@pytest.fixture(params=["twin"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store."""
    async with MemoryStore(shards=SHARDS, clock=time.monotonic) as twin:
        yield twin
