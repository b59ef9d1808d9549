"""A Redis that is nearly full: the door refuses in time, what was taken still moves and leaves, and then the door opens again."""

from __future__ import annotations

import time

import anyio
import orjson
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, everything_arrives, generic_event, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(150, 1200))]

MAXMEMORY_MB = scaled(24, 200)
EVENT_BYTES = 8_000


async def push_until_refused(gateway: Gateway, worker: Worker, within_s: float) -> None:
    """Sixteen pushers; each ends with its first `JOURNAL_FULL`."""

    async def pusher() -> None:
        while True:
            event = gateway.fresh()
            status = await gateway.try_once(worker, orjson.dumps(generic_event(event, pad=EVENT_BYTES)))
            if status == 503:
                return
            assert status == 202
            gateway.accepted[event] = time.monotonic()
            gateway.instance_of[event] = "i"

    with anyio.fail_after(within_s):
        async with anyio.create_task_group() as pushers:
            for _ in range(16):
                pushers.start_soon(pusher)


async def test_at_80_percent_the_door_refuses_and_opens_again_once_all_was_delivered(rig: Rig) -> None:
    redis = await rig.redis(maxmemory=f"{MAXMEMORY_MB}mb")
    hooks = [Hook("crm", rig.sink.url("crm", "500"))]
    worker = rig.worker(declared(hooks), REDIS__URL=redis.url)
    await worker.start()
    gateway = rig.gateway(worker)
    await push_until_refused(gateway, worker, scaled(60, 300))
    fill = (await worker.status())["door"]["memory_fill"]
    refused = await worker.metric("ingest_requests_total", answer="JOURNAL_FULL")
    accepted = len(gateway.accepted)
    assert refused >= 1
    assert gateway.without_retry_after == 0
    # While it is full it is stopped and started: draining, handing over and resuming find the room they need.
    code, _ = await worker.stop()
    assert code == 0, worker.report()
    assert worker.report()["balances"]
    await worker.start()
    healed_s = await everything_arrives(rig, gateway, hooks, scaled(90, 600))
    began_s = time.monotonic()
    while await gateway.try_once(worker, orjson.dumps(generic_event("after"))) != 202:
        assert time.monotonic() - began_s < 60, (await worker.status())["door"]
        await anyio.sleep(0.5)
    opened_s = time.monotonic() - began_s
    await until(lambda: "after" in rig.sink.got("crm"), 10, "what comes after is delivered")
    state(
        "redis nearly full",
        maxmemory_mb=MAXMEMORY_MB,
        fill=fill,
        accepted=accepted,
        lost=0,
        healed_s=healed_s,
        opened_s=opened_s,
        duplicates=len(rig.sink.repeated("crm")),
    )
    assert (await worker.stop())[0] == 0


async def test_what_is_only_remembered_never_closes_the_door(rig: Rig) -> None:
    """Three times as much as the server may hold goes through it; delivered events are kept for an hour, as far as there is room."""
    redis = await rig.redis(maxmemory=f"{MAXMEMORY_MB}mb")
    hooks = [Hook("crm", rig.sink.url("crm"))]
    worker = rig.worker(declared(hooks), REDIS__URL=redis.url)
    await worker.start()
    gateway = rig.gateway(worker)
    began_s = time.monotonic()
    count = 3 * MAXMEMORY_MB * 1_000_000 // (2 * EVENT_BYTES)
    with anyio.fail_after(scaled(90, 900)):
        await gateway.push_many(count, pad=EVENT_BYTES)
    took_s = time.monotonic() - began_s
    await everything_arrives(rig, gateway, hooks, 60)
    state("through a small redis", maxmemory_mb=MAXMEMORY_MB, events=count, took_s=took_s, answers=gateway.answers)
    assert (await worker.stop())[0] == 0
