"""A gateway that keeps what nobody acknowledged (baileys-acessuswpp): whatever breaks or dies, all of it arrives and is acknowledged."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.conftest import scaled
from tests.e2e.rig import Hook, Rig, Worker, declared, until
from worker.fake_gateway.baileys_events import BaileysStream
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(scaled(240, 3_600))]

INSTANCES = tuple(f"i{n}" for n in range(20))
PER_S = 100
PATIENCE_S = 90.0
ROUNDS = scaled(1, 20)


@asynccontextmanager
async def sending(fake: FakeGateway, sent: set[str], seed: int) -> AsyncIterator[None]:
    """The gateway's events for the length of the block, open loop."""
    chance = random.Random(seed)

    async def send() -> None:
        began_s = time.monotonic()
        while True:
            sent.update(event.id for event in fake.emit(chance.choice(INSTANCES)))
            await anyio.sleep(max(0.0, began_s + len(sent) / PER_S - time.monotonic()))

    async with anyio.create_task_group() as load:
        load.start_soon(send)
        yield
        load.cancel_scope.cancel()


async def every_instance_is_read(fake: FakeGateway) -> None:
    await until(lambda: all(fake.readers(name) for name in INSTANCES), PATIENCE_S, "every instance is read")


async def trouble(fake: FakeGateway, chance: random.Random) -> None:
    """All that a gateway does to those who read, one thing after the other."""
    for name in INSTANCES:
        chance.choice((fake.drop_streams, fake.close_streams))(name)
    fake.trouble("POST */events/ack", "status", status=503, times=5)
    fake.trouble("POST */events/ack", "lose_answer", times=5)
    fake.trouble("GET */events", "status", status=500, times=5)
    fake.trouble("GET /stream", "reset", times=5)
    await every_instance_is_read(fake)
    await fake.refuse()
    for name in INSTANCES[::2]:
        fake.drop_streams(name)
    await anyio.sleep(1.0)
    await fake.accept()
    await every_instance_is_read(fake)


async def test_everything_arrives_and_is_acknowledged_whatever_breaks_or_dies(rig: Rig) -> None:
    rig.sink.identify = lambda event: str(event["raw"]["id"])
    server, chance, sent = await rig.redis(), random.Random(11), set[str]()
    async with fake_gateway(Plan(gateway="baileys")) as fake:
        stream = fake.stream
        assert isinstance(stream, BaileysStream)
        for name in INSTANCES:
            fake.instances.make(name)
        broker = ["[[brokers]]", 'id = "b"', 'gateway = "baileys"', f'url = "{fake.url}"', f'api_key = "{API_KEY}"', ""]
        toml = "\n".join(broker) + declared([Hook("all", rig.sink.url("all"))], INSTANCES, gateway="baileys", broker="b")
        before = {event.id for name in INSTANCES for event in fake.emit(name, 250)}
        workers = [rig.worker(toml, REDIS__URL=server.url, REGISTRY__LEASE_TTL_S="5") for _ in range(2)]
        for worker in workers:
            await worker.start()
        for number in range(ROUNDS):
            async with sending(fake, sent, number):
                await every_instance_is_read(fake)
                await trouble(fake, chance)
                dying = chance.choice(workers)
                await dying.kill()
                await anyio.sleep(1.0)
                await dying.start()
                await every_instance_is_read(fake)
        await until(lambda: (sent | before) <= rig.sink.got("all"), PATIENCE_S, "everything sent arrives")
        await until(lambda: not owed(stream), PATIENCE_S, "everything is acknowledged")
        assert rig.sink.got("all") == sent | before
        await both_leave(workers)


def owed(stream: BaileysStream) -> dict[str, int]:
    return {name: count for name in INSTANCES if (count := len(stream.unacknowledged(name)))}


async def both_leave(workers: list[Worker]) -> None:
    for worker in workers:
        code, _ = await worker.stop()
        report = worker.report()
        assert code in {0, 75}, report
        assert report["balances"], report
