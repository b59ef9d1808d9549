"""The gateways of the incident, what each sent and who heard of it; what the workers say of their health meanwhile.

Three kinds of instances: WAHA pushes of the first, of the second it tells whoever reads its websocket, and baileys-acessuswpp keeps
the events of the third until somebody acknowledges them.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import anyio.abc
from aiohttp import web

from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, free_port, percentile, until
from worker.fake_gateway.baileys_events import BaileysStream
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway
from worker.fake_gateway.troubles import Kind, Trouble

PUSHED, TOLD, KEPT = (tuple(f"{kind}{number}" for number in range(20)) for kind in "ptk")
UNRECEIPTED = "k1*"
"""Of those kept, whose acknowledgements the gateway refuses in trouble; the others' it takes."""
WARM_S = 1.0
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.25


class Sent(NamedTuple):
    """`must_arrive`: somebody heard of it, or its gateway keeps it until somebody has."""

    at_s: float
    instance: str
    must_arrive: bool


class Gateways:
    """Both, and their books. `is_keeper_still`: the one that keeps its events has none for now."""

    def __init__(self, waha: FakeGateway, keeper: FakeGateway) -> None:
        self.waha = waha
        self.keeper = keeper
        self.sent: dict[str, Sent] = {}
        self.heard_at: Counter[int] = Counter()
        """How often an event of the keeper was told to who came by this door (`Reader.door`)."""
        self.is_keeper_still = False
        assert isinstance(keeper.stream, BaileysStream)
        self.kept = keeper.stream

    async def one_more_door(self) -> int:
        """The keeper listens there too: a worker that comes that way can be told from the others."""
        port = free_port()
        await web.TCPSite(self.keeper.runner, "127.0.0.1", port).start()
        return port

    def emit(self, name: str) -> None:
        fake, keeps = (self.keeper, True) if name in KEPT else (self.waha, False)
        if keeps:
            self.heard_at.update(reader.door for reader in fake.streams.of(name) if reader.is_heard)
        [emitted] = fake.emit(name)
        self.sent[emitted.id] = Sent(time.monotonic(), name, keeps or emitted.readers > 0)

    @asynccontextmanager
    async def emitting(self, per_s: float) -> AsyncIterator[None]:
        """For the length of the block, open loop, of each stream's instances in turn."""

        async def emit() -> None:
            began_s = time.monotonic()
            for number, pair in enumerate(itertools.cycle(zip(TOLD, KEPT, strict=True))):
                for name in pair:
                    if not (self.is_keeper_still and name in KEPT):
                        self.emit(name)
                await anyio.sleep(max(0.0, began_s + 2 * (number + 1) / per_s - time.monotonic()))

        async with anyio.create_task_group() as load:
            load.start_soon(emit)
            yield
            load.cancel_scope.cancel()

    def missing(self, rig: Rig, hook: Hook) -> set[str]:
        """What has to arrive there and has not."""
        wanted = {event for event, sent in self.sent.items() if sent.must_arrive and sent.instance in (hook.instances or (*TOLD, *KEPT))}
        return wanted - rig.sink.got(hook.name)

    def owed(self) -> int:
        """Events that nobody has acknowledged."""
        return sum(len(self.kept.unacknowledged(name)) for name in KEPT)

    def trouble(self) -> list[Trouble]:
        """Nobody gets a picture any more."""
        asked = ((self.waha, "GET /api/contacts/profile-picture"), (self.keeper, "GET /instances/*/profile-pic"))
        return [fake.trouble(match, Kind.HANG, times=None) for fake, match in asked]

    def clear(self) -> None:
        self.waha.clear()
        self.keeper.clear()

    async def all_read(self) -> None:
        """Somebody hears of each instance that has a stream."""
        await until(lambda: all(self.waha.readers(name) for name in TOLD), PATIENCE_S, "each websocket is read")
        await until(lambda: all(self.keeper.readers(name) for name in KEPT), PATIENCE_S, "each event stream is read")


@asynccontextmanager
async def gateways() -> AsyncIterator[Gateways]:
    """All instances made and paired."""
    async with fake_gateway(Plan(gateway="waha")) as waha, fake_gateway(Plan(gateway="baileys")) as keeper:
        for fake, names in ((waha, PUSHED + TOLD), (keeper, KEPT)):
            for name in names:
                fake.instances.make(name).pair("5511900000000")
        yield Gateways(waha, keeper)


def toml(hooks: Sequence[Hook], waha: FakeGateway, keeper_port: int) -> str:
    """Three brokers, one for each kind of instance; the first of them has no streams for us."""
    lines = []
    for broker, gateway, url in (
        ("pushing", "waha", waha.url),
        ("telling", "waha", waha.url),
        ("keeping", "baileys", f"http://127.0.0.1:{keeper_port}"),
    ):
        lines += ["[[brokers]]", f'id = "{broker}"', f'gateway = "{gateway}"', f'url = "{url}"', f'api_key = "{API_KEY}"']
        lines += ["sockets = false"] if broker == "pushing" else []
    for names, gateway, broker in ((TOLD, "waha", "telling"), (KEPT, "baileys", "keeping")):
        for name in names:
            lines += ["[[instances]]", f'id = "{name}"', 'tenant_id = "t"', f'gateway = "{gateway}"', f'broker = "{broker}"']
            lines += [f'gateway_instance = "{name}"']
    return declared(hooks, PUSHED, gateway="waha", broker="pushing") + "\n".join(lines) + "\n"


def says(event: str, instance: str, pad: int, *, digits: str | None = None) -> dict[str, Any]:
    """As WAHA pushes it. Everybody writes once: no picture of theirs is known, each would have to be asked for."""
    chat = f"{digits or f'55119{zlib.crc32(event.encode()) % 10**8:08d}'}@c.us"
    payload = {"id": f"false_{chat}_{event}", "timestamp": int(time.time()), "from": chat, "fromMe": False, "body": "x" * pad}
    return {"event": "message", "session": instance, "payload": payload | {"_data": {"pushName": "Ana"}}}


def event_of(body: dict[str, Any]) -> str:
    """The id in our books: a stream's own, or the message's of what was pushed."""
    return str(body["raw"].get("id") or body["message_ids"][0])


class Slice:
    """So many seconds of traffic: from the sending of each event to its arrival, by webhook."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = {"told": [], "plain": []}

    def add(self, rig: Rig, pushing: Gateway, streams: Gateways, from_s: float) -> None:
        sent = {**pushing.pushed_at_s, **{event: sent.at_s for event, sent in streams.sent.items()}}
        for name, latencies in self.of.items():
            arrived = rig.sink.arrivals[name]
            latencies += [arrived[event][0].at_s - at_s for event, at_s in sent.items() if at_s > from_s + WARM_S and event in arrived]

    def p99_s(self, name: str) -> float:
        return percentile(self.of[name], 0.99)


class Health:
    """Asks those who should be well, again and again. `answers`: how often each page said what; status 0: no answer within 2 s."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group
        self._excused: set[Worker] = set()
        self.answers: Counter[tuple[str, int]] = Counter()

    def watch(self, worker: Worker) -> None:
        """From now on."""
        self._group.start_soon(self._watch, worker)

    def excuse(self, *workers: Worker) -> None:
        """They are told to go."""
        self._excused.update(workers)

    @property
    def unhealthy(self) -> dict[tuple[str, int], int]:
        return {asked: count for asked, count in self.answers.items() if asked[1] not in {0, 200}}

    async def _watch(self, worker: Worker) -> None:
        for page in itertools.cycle(("/livez", "/readyz")):
            status = (await worker.get(page))[0]
            if worker in self._excused:
                return
            self.answers[page, status] += 1
            await anyio.sleep(LOOK_EVERY_S)


async def all_shards_owned(workers: Iterable[Worker], at_most: int = 16) -> None:
    """Each by one of them, and nobody holds more than so many."""
    began_s = time.monotonic()
    while True:
        held = [await worker.shards() for worker in workers]
        if sorted(itertools.chain(*held)) == list(range(16)) and max(map(len, held)) <= at_most:
            return
        assert time.monotonic() - began_s < PATIENCE_S, f"every shard owned once, {at_most} by one at most: {held}"
        await anyio.sleep(0.05)
