"""Streams of gateways, read by one worker: to the journal first, then the receipt; what interrupts them, and what is then told."""

from __future__ import annotations

import pytest

from tests.component.rig import pass_time, rig, until
from worker.adapters.memory_sockets import MemoryGateway

pytestmark = pytest.mark.anyio


def keeps_events() -> MemoryGateway:
    """A gateway that wants a receipt for each event, and resumes."""
    return MemoryGateway(gateway="generic", transport="sse", wants_receipts=True)


def forgets() -> MemoryGateway:
    """A gateway that tells whoever reads at that moment."""
    return MemoryGateway(gateway="generic")


async def test_what_a_gateway_tells_its_readers_is_delivered() -> None:
    gateway = forgets()
    async with rig(gateway=gateway) as it:
        await it.owning()
        await until(lambda: sum(gateway.reading(f"phone-{n}") for n in range(4)) == 4, within_s=5, what="all are read")
        assert it.tell(40) == 40
        await it.all_delivered()
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_every_event_gets_its_receipt() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway) as it:
        worker = await it.owning()
        it.tell(40)
        await it.all_delivered()
        await until(lambda: len(gateway.receipts) == 40, within_s=5, what="all receipts")
        assert worker.engine.streams.sessions.receipts.sent == 40
        await pass_time(5)
        assert len(gateway.receipts) == 40
