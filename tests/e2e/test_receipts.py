"""A gateway that keeps what nobody acknowledged (baileys-acessuswpp): whatever breaks or dies, all of it arrives and is acknowledged."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import redis.asyncio

from tests.conftest import scaled
from tests.e2e.rig import Hook, Rig, Worker, declared, until
from worker.fake_gateway.baileys_events import BaileysStream
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway
from worker.websocket.resume_points import SAVE_EVERY_S

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


async def forget_keys(url: str) -> None:
    """What the store does when the window of its memory has passed."""
    async with redis.asyncio.Redis.from_url(url, socket_timeout=5) as client:
        names = [name async for name in client.scan_iter("{wa:*}:seen*")]
        assert await client.delete(*names) > 0


@pytest.mark.parametrize("how", ["left", "killed"])
async def test_a_restart_long_after_the_last_event_delivers_nothing_twice(rig: Rig, how: str) -> None:
    """The gateway repeats its newest 200 events to a new reader, acknowledged ones too, and nobody remembers their keys any more."""
    rig.sink.identify = lambda event: str(event["raw"]["id"])
    server = await rig.redis()
    async with fake_gateway(Plan(gateway="baileys")) as fake:
        stream = fake.stream
        assert isinstance(stream, BaileysStream)
        worker = rig.worker(made(rig, fake), REDIS__URL=server.url, REGISTRY__LEASE_TTL_S="5")
        await worker.start()
        await every_instance_is_read(fake)
        sent = {event.id for name in INSTANCES for event in fake.emit(name, 50)}
        await until(lambda: sent <= rig.sink.got("all") and not owed(stream), PATIENCE_S, "all is delivered and acknowledged")
        await anyio.sleep(3 * SAVE_EVERY_S)
        if how == "left":
            assert (await worker.stop())[0] == 0
        else:
            await worker.kill()
        await forget_keys(server.url)
        await worker.start()
        await every_instance_is_read(fake)
        more = {event.id for name in INSTANCES for event in fake.emit(name, 5)}
        await until(lambda: more <= rig.sink.got("all") and not owed(stream), PATIENCE_S, "what came since is delivered too")
        assert rig.sink.got("all") == sent | more
        assert not rig.sink.repeated("all")
        assert (await worker.status())["journal"]["events_read"] == len(more)
        await both_leave([worker])


async def test_everything_arrives_and_is_acknowledged_whatever_breaks_or_dies(rig: Rig) -> None:
    rig.sink.identify = lambda event: str(event["raw"]["id"])
    server, chance, sent = await rig.redis(), random.Random(11), set[str]()
    async with fake_gateway(Plan(gateway="baileys")) as fake:
        stream = fake.stream
        assert isinstance(stream, BaileysStream)
        toml = made(rig, fake)
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


def made(rig: Rig, fake: FakeGateway) -> str:
    """Makes the instances at the gateway; answers a worker's file that declares them."""
    for name in INSTANCES:
        fake.instances.make(name)
    broker = ["[[brokers]]", 'id = "b"', 'gateway = "baileys"', f'url = "{fake.url}"', f'api_key = "{API_KEY}"', ""]
    return "\n".join(broker) + declared([Hook("all", rig.sink.url("all"))], INSTANCES, gateway="baileys", broker="b")


def owed(stream: BaileysStream) -> dict[str, int]:
    return {name: count for name in INSTANCES if (count := len(stream.unacknowledged(name)))}


async def both_leave(workers: list[Worker]) -> None:
    for worker in workers:
        code, _ = await worker.stop()
        report = worker.report()
        assert code in {0, 75}, report
        assert report["balances"], report
