"""A worker that stood still, and gateways that send without end: neither closes a healthy stream or holds up another's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import anyio
import looptime
import pytest

from tests.component.rig import ACME, now_s, pass_time, until
from tests.component.sockets_world import another, forgets, sockets_world
from worker.domain.ids import TenantId
from worker.ingest.door import Refusal
from worker.websocket import patience
from worker.websocket.states import State

pytestmark = pytest.mark.anyio


def freeze(seconds: float) -> None:
    """As `docker pause` does: the clock goes on, and nothing of ours runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, looptime.LoopTimeEventLoop)
    loop.setup_looptime(start=now_s() + seconds, noop_cycles=1)


async def test_a_freeze_is_no_stall_though_what_was_in_hand_is_older_than_one() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        texts = it.tell(3)
        await pass_time(0.1)
        freeze(patience.STALL_S + 2)
        await pass_time(2.5)
        it.store.faults.resume()
        await it.journalled(texts)
        assert it.state() is State.OPEN
        assert len(gateway.connects) == 1


async def test_a_stall_after_a_freeze_is_one_by_what_was_seen() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.away = True
        it.tell(3)
        await pass_time(0.1)
        freeze(60)
        started_s = now_s()
        await until(lambda: not gateway.reading("phone-0"), within_s=30, what="closed")
        assert patience.STALL_S - 3 <= now_s() - started_s <= patience.STALL_S + 2


async def test_after_a_freeze_a_gateway_has_the_whole_time_to_be_heard() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        await pass_time(10)
        freeze(patience.CLOSE_AFTER_S * 10)
        await pass_time(10)
        texts = it.tell(1)
        await it.journalled(texts)
        assert it.state() is State.OPEN
        assert len(gateway.connects) == 1


async def test_a_gap_after_a_freeze_begins_when_the_gateway_was_last_heard() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        await it.journalled(it.tell(1))
        freeze(20)
        await pass_time(3)
        gateway.drop()
        await it.reading()
        (gap,) = it.gaps()
        assert gap["seconds"] >= 23


async def test_signs_of_life_that_come_all_at_once_do_not_hold_the_loop() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.signs = 2_000
        texts = it.tell(1)
        left = [gateway.troubles.signs]
        while left[-1] and len(left) < 10_000:
            await anyio.lowlevel.checkpoint()
            left.append(gateway.troubles.signs)
        assert left[-1] == 0
        assert max(before - after for before, after in pairwise(left)) <= 64
        await it.journalled(texts)


async def test_hands_that_others_have_filled_stop_no_tenants_reading() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        it.catalog.put(replace(another(77), tenant_id=TenantId("beta")))
        await it.reading()
        it.streams.sessions._around.desk.hands.max_bytes = 100  # noqa: SLF001 -- a small one, to fill it with little
        it.door.refused = lambda tenant: Refusal.TENANT_BACKLOG_FULL if tenant == ACME else None  # type: ignore[method-assign, assignment]
        it.tell(3)
        await pass_time(1)
        for _ in range(10):
            await it.journalled(it.tell(5, "phone-77"))
            await pass_time(1)
        assert gateway.reading("phone-77") == 1
        assert [line["instance"] for line in it.lines("socket_lost")] == ["i0"]
