"""The incident of 2025-10-10, replayed: pictures that never come, a webhook that hangs for ever, a task rotated in the middle.

What broke that day: handlers stuck while pictures were fetched, one slow URL in everybody's way, a task torn down while events arrived.
What is asked here: nothing lost, nobody else later, no event that finds no handler.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import orjson
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.receiver import Receiver
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, everything_arrives, percentile, pushing, until
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway
from worker.fake_gateway.troubles import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(180, 3600))]

INSTANCES = tuple(f"i{number}" for number in range(20))
PER_S = scaled(60, 200)
SLICE_S = scaled(3, 30)
ROTATIONS = scaled(1, 6)
WARM_S = 1.0
PICTURE = "GET /api/contacts/profile-picture"
SETTLED_WITHIN_S = 60


def toml(hooks: list[Hook], broker_url: str) -> str:
    broker = ["[[brokers]]", 'id = "main"', 'gateway = "waha"', f'url = "{broker_url}"', f'api_key = "{API_KEY}"', "sockets = false", ""]
    return declared(hooks, INSTANCES, gateway="waha", broker="main") + "\n".join(broker)


@asynccontextmanager
async def waha() -> AsyncIterator[FakeGateway]:
    """All instances made and paired."""
    async with fake_gateway(Plan(gateway="waha")) as fake:
        for name in INSTANCES:
            fake.instances.make(name)
            fake.pair(name)
        yield fake


def says(event: str, instance: str, pad: int, *, digits: str | None = None) -> dict[str, Any]:
    """As WAHA pushes it. Everybody writes once: no picture of theirs is known, each would have to be asked for."""
    chat = f"{digits or f'55119{zlib.crc32(event.encode()) % 10**8:08d}'}@c.us"
    payload = {"id": f"false_{chat}_{event}", "timestamp": int(time.time()), "from": chat, "fromMe": False, "body": "x" * pad}
    return {"event": "message", "session": instance, "payload": payload | {"_data": {"pushName": "Ana"}}}


def waha_gateway(rig: Rig, *workers: Worker) -> Gateway:
    gateway = rig.gateway(*workers)
    gateway.name, gateway.make = "waha", says
    return gateway


async def all_shards_owned(workers: list[Worker]) -> None:
    """Each by one of them; who holds how many is not asked here."""
    began_s = time.monotonic()
    while sorted([shard for worker in workers for shard in await worker.shards()]) != list(range(16)):
        assert time.monotonic() - began_s < SETTLED_WITHIN_S, f"every shard owned once: {[await worker.shards() for worker in workers]}"
        await anyio.sleep(0.05)


class Slice:
    """So many seconds of traffic: from the push of each event to its arrival, by webhook."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = {"told": [], "plain": []}

    def add(self, rig: Rig, gateway: Gateway, from_s: float) -> None:
        for name, latencies in self.of.items():
            arrived = rig.sink.arrivals[name]
            latencies += [arrived[e][0].at_s - at_s for e, at_s in gateway.pushed_at_s.items() if at_s > from_s + WARM_S and e in arrived]

    def p99_s(self, name: str) -> float:
        return percentile(self.of[name], 0.99)


async def rotate(worker: Worker) -> dict[str, Any]:
    """SIGTERM, and the next life of the task. Answers the drain report."""
    code, _ = await worker.stop()
    report = worker.report()
    assert code in {0, 75}
    assert report["balances"]
    assert report["ledger"]["dead"] == 0
    await worker.start()
    return report


async def stretch(rig: Rig, gateway: Gateway, workers: list[Worker], seen: Slice, *, is_rotated: bool) -> None:
    """So many seconds of traffic; the worker that has lived longest is rotated in the middle of them."""
    began_s = time.monotonic()
    async with pushing(gateway, PER_S, INSTANCES):
        await anyio.sleep(SLICE_S / 2)
        if is_rotated:
            gateway.workers = workers[1:]  # a balancer that saw /readyz turn
            await rotate(workers[0])
            gateway.workers = workers
            workers.append(workers.pop(0))
        await anyio.sleep(SLICE_S / 2)
    await all_shards_owned(workers)
    seen.add(rig, gateway, began_s)


async def the_incident(rig: Rig, gateway: Gateway, fake: FakeGateway, workers: list[Worker], seen: Slice) -> int:
    """The same in trouble. Answers how many pictures were asked for in vain."""
    rig.sink.is_healed = False
    trouble = fake.trouble(PICTURE, Kind.HANG, times=None)
    await stretch(rig, gateway, workers, seen, is_rotated=True)
    assert rig.sink.in_flight["hang"] > 0, "a webhook hangs"
    rig.sink.heal()
    fake.clear()
    return trouble.seen


async def test_pictures_that_never_come_and_a_webhook_that_hangs_cost_nobody_an_event_nor_another_webhook_its_time(rig: Rig) -> None:
    server = await rig.redis()
    hooks = [
        Hook("told", rig.sink.url("told"), enrich=True),
        Hook("plain", rig.sink.url("plain")),
        Hook("hang", rig.sink.url("hang", "hang"), INSTANCES[:4], deadline_s=scaled(6, 30)),
    ]
    quiet, rotated, troubled, in_vain = Slice(), Slice(), Slice(), 0
    async with waha() as fake:
        settings = {"REDIS__URL": server.url, "REGISTRY__LEASE_TTL_S": "5", "SHUTDOWN__BUDGET_S": "8"}
        workers = [rig.worker(toml(hooks, fake.url), **settings) for _ in range(2)]
        for worker in workers:
            await worker.start()
        await all_shards_owned(workers)
        gateway = waha_gateway(rig, *workers)
        rig.sink.heal()
        for _ in range(ROTATIONS):
            await stretch(rig, gateway, workers, quiet, is_rotated=False)
            await stretch(rig, gateway, workers, rotated, is_rotated=True)
            in_vain += await the_incident(rig, gateway, fake, workers, troubled)
        healed_s = await everything_arrives(rig, gateway, hooks, scaled(60, 300))
        await check_nothing_was_without_a_handler(workers)
    ratio = troubled.p99_s("plain") / rotated.p99_s("plain")
    state(
        "the incident replayed",
        accepted=len(gateway.accepted),
        lost=0,
        duplicates={hook.name: len(rig.sink.repeated(hook.name)) for hook in hooks},
        rotations=2 * ROTATIONS,
        pictures_in_vain=in_vain,
        p99_plain_quiet_ms=quiet.p99_s("plain") * 1000,
        p99_plain_rotated_ms=rotated.p99_s("plain") * 1000,
        p99_plain_in_trouble_ms=troubled.p99_s("plain") * 1000,
        ratio=ratio,
        p50_told_in_trouble_ms=percentile(troubled.of["told"], 0.5) * 1000,
        p99_told_in_trouble_ms=troubled.p99_s("told") * 1000,
        healed_s=healed_s,
    )
    assert in_vain > 0, "pictures were asked for while nobody answered"
    assert rig.sink.repeated("plain") == rig.sink.repeated("told") == {}
    assert rig.sink.forged == 0
    if CHAOS:
        assert ratio <= 1.2
        assert troubled.p99_s("told") <= troubled.p99_s("plain") + 0.3
    for worker in workers:
        assert (await worker.stop())[0] in {0, 75}


async def check_nothing_was_without_a_handler(workers: list[Worker]) -> None:
    """No event that nobody wanted, none given up, none whose attempt failed inside."""
    for worker in workers:
        assert await worker.metric("event_integration_unrouted_total") == 0
        assert await worker.metric("dead_letters_total") == 0
        assert worker.lines("attempt_failed_inside") + worker.lines("contact_not_told") + worker.lines("contact_not_looked_up") == []


async def test_a_webhook_is_told_the_picture_that_its_gateway_knows_and_the_gateway_is_asked_once(rig: Rig) -> None:
    """Through two lives of a worker: the second knows from the store what the first one asked."""
    async with waha() as fake, Receiver() as receiver:
        hooks = [Hook("told", receiver.url("told"), enrich=True), Hook("plain", receiver.url("plain"))]
        worker = rig.worker(toml(hooks, fake.url))
        gateway = waha_gateway(rig, worker)
        gateway.make = partial(says, digits="5511900000001")
        for life in (1, 2):
            await worker.start()
            await gateway.push(gateway.fresh(), "i1")
            await until(lambda life=life: len(receiver.arrived) == 2 * life, 20, "both webhooks got it")  # type: ignore[misc]
            await worker.stop()
    bodies = [(arrived.webhook, orjson.loads(arrived.body)) for arrived in receiver.arrived]
    told = [body["contact"] for webhook, body in bodies if webhook == "told"]
    assert told[-1] == {"name": "Ana", "picture_url": "https://pps.example.com/5511900000001@c.us.jpg"}
    assert told[0] in (told[-1], {"name": "Ana", "picture_url": None}), "in time, or without"
    assert not any("contact" in body for webhook, body in bodies if webhook == "plain")
    assert fake.requests[PICTURE] == 1
    assert receiver.forged == 0
