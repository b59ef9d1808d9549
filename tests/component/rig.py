"""A small world for component tests: engines over one twin of the store, scripted endpoints, virtual time, and a verdict.

Several engines on one store are several workers. Each has a line of its own to the store, so that one can be cut off, stopped at
a step or killed while the others go on. Killing one (`Worker.kill`) is a SIGKILL: everything it ran ends where it stands, and
nothing of it reaches the store any more.

The verdict is taken from outside: what the endpoints answered, what the store still holds. An event is known by its text.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson

from tests.component.seat import Seat
from worker.adapters.clock import rfc3339
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_sockets import MemoryGateway
from worker.adapters.memory_store import MemoryStore
from worker.adapters.memory_transport import Answers, MemoryTransport, Step
from worker.client_registry.registry import Identity
from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.deadline import Deadline
from worker.domain.ids import EventKey, InstanceId, OwnerId, Shard, TenantId, Token, WebhookId, shard_of
from worker.engine import Engine, EngineSettings, World
from worker.event_integration.pipeline import Clocks
from worker.event_integration.retry_queue import DeadLetter
from worker.event_integration.settling import LINGER_S
from worker.event_integration.transport import Answer, Failure, Request
from worker.ingest.preparation import Stamps
from worker.ingest.reply import Reply
from worker.shutdown import Shutdown

ACME = TenantId("acme")
BROKER = "main"
WALL_AT_ZERO_S = 1_763_790_000.0
NEWEST = Token(2**53 - 1)
"""Passes every fence: for looking only."""


def webhook(name: str, **more: Any) -> Webhook:
    return Webhook(id=WebhookId(name), tenant_id=ACME, url=url(name), **more)


def instance(number: int, *, broker: str | None = None) -> Instance:
    return Instance(id=InstanceId(f"i{number}"), tenant_id=ACME, gateway="generic", gateway_instance=f"phone-{number}", broker=broker)


def url(name: str) -> str:
    return f"http://{name}.example/hook"


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def pass_time(seconds: float) -> None:
    """Virtual: nothing is waited for but the clock."""
    with anyio.move_on_after(seconds):
        await anyio.sleep_forever()


async def until(is_so: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Looks every 10 virtual milliseconds, later less often."""
    started_s = now_s()
    while not is_so():
        assert now_s() < started_s + within_s, f"not within {within_s} s: {what}"
        await pass_time(max(0.01, (now_s() - started_s) / 50))


@dataclass(frozen=True, slots=True)
class Answered:
    """A 2xx as its endpoint gave it."""

    at_s: float
    webhook: str
    text: str
    shard: Shard


class Wire:
    """The transport of one worker: the shared endpoints, and a note of every 2xx."""

    def __init__(self, endpoints: MemoryTransport, shards: int, counts: dict[str, Counter[str]]) -> None:
        self._endpoints = endpoints
        self._shards = shards
        self._counts = counts
        self.answered: list[Answered] = []

    async def deliver(self, request: Request, deadline: Deadline) -> Answer | Failure:
        result = await self._endpoints.deliver(request, deadline)
        if isinstance(result, Answer) and 200 <= result.status < 300:
            shard = shard_of(InstanceId(request.headers["x-whatsapp-instance"]), self._shards)
            self.answered.append(Answered(now_s(), request.url, text_of(request), shard))
            self._counts.setdefault(request.url, Counter())[self.answered[-1].text] += 1
        return result

    async def close(self) -> None:
        """The endpoints outlive a worker."""


def text_of(request: Request) -> str:
    return str(orjson.loads(request.body)["text"])


class Worker:
    """One engine, running."""

    def __init__(self, name: str, engine: Engine, faults: StoreFaults, wire: Wire) -> None:
        self.name = name
        self.engine = engine
        self.faults = faults
        self.wire = wire
        self.scope = anyio.CancelScope()
        self.is_over = False
        self.saved_at_s: dict[Shard, float] = {}
        """When the last checkpoint of each shard that arrived was sent."""

    @property
    def owner(self) -> OwnerId:
        return self.engine.registry.identity.owner

    @property
    def holds(self) -> set[Shard]:
        return {tenure.shard for tenure in self.engine.registry.active()}

    async def kill(self) -> int:
        """SIGKILL. Answers how many deliveries may come twice: in flight, or answered and not in a checkpoint yet."""
        self.is_over = True
        self.faults.away = True
        in_flight = self.engine.pipeline.in_flight + self.engine.settling.pending
        unsaved = sum(a.at_s >= self.saved_at_s.get(a.shard, 0.0) for a in self.wire.answered)
        self.scope.cancel()
        await self.engine.under_way.cancel_all(within_s=1)
        return in_flight + unsaved


@dataclass
class Rig:
    """`start` workers, `push` events, look at what came of it."""

    shards: int
    store: MemoryStore
    endpoints: MemoryTransport
    catalog: Catalog
    settings: EngineSettings
    tasks: anyio.abc.TaskGroup
    workers: list[Worker] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    """Texts of the events that got a 2xx."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """By URL: texts of the events that were answered with a 2xx, and how often."""
    number: int = 0
    gateway: MemoryGateway | None = None
    """Whose streams every worker reads."""

    # -- workers -------------------------------------------------------------------------------------------------------

    async def start(
        self,
        name: str = "a",
        *,
        revision: int = 1,
        prepare: Callable[[StoreFaults], None] = lambda _faults: None,
        catalog: Catalog | None = None,
        equip: Callable[[Engine], None] = lambda _engine: None,
    ) -> Worker:
        """A new worker, once its loops run; `prepare` sets its faults before it first reaches the store. `catalog`: one of its own.

        `equip` is given the engine before it runs.
        """
        faults = StoreFaults()
        prepare(faults)
        wire = Wire(self.endpoints, self.shards, self.counts)
        chance = random.Random(f"{name}-{len(self.workers)}").random
        owner = OwnerId(f"{name}-{len(self.workers)}")
        seat = Seat(self.store, faults)
        engine = Engine(
            seat,
            wire,
            catalog or self.catalog,
            Identity(owner=owner, task=name, family="worker", revision=revision, sole=False),
            self.settings,
            World(
                clocks=Clocks(monotonic_s=now_s, wall_s=wall_s, unit_random=chance),
                stamps=Stamps(received_at=received_at, fresh_key=self._fresh_key),
                connectors={} if self.gateway is None else {BROKER: self.gateway.connector(name)},
            ),
        )
        worker = Worker(name, engine, faults, wire)
        note_saves(worker, seat.checkpoints)
        equip(engine)
        self.workers.append(worker)
        started = anyio.Event()
        self.tasks.start_soon(self._run, worker, started)
        await started.wait()
        return worker

    async def owning(self, name: str = "a", **more: Any) -> Worker:
        """A new worker that holds every shard."""
        worker = await self.start(name, **more)
        await until(lambda: len(worker.holds) == self.shards, within_s=40, what=f"{name} owns all shards")
        return worker

    async def _run(self, worker: Worker, started: anyio.Event) -> None:
        with worker.scope:
            async with anyio.create_task_group() as inside:
                await inside.start(worker.engine.run)
                started.set()
        started.set()

    async def shut_down(self, worker: Worker, *, budget_s: float = 110.0, spill: Callable[[], bool] = lambda: False) -> Shutdown:
        """SIGTERM, until the process would exit. What it held in memory is gone from there by then, or somebody forgot it."""
        shutdown = worker.engine.shutdown(signal_at_s=now_s(), budget_s=budget_s, spill_asked=spill)
        await shutdown.run()
        await self.leave(worker)
        return shutdown

    async def leave(self, worker: Worker) -> None:
        """The rest of a process' end."""
        await worker.engine.under_way.cancel_all(within_s=1)
        worker.is_over = True
        worker.faults.away = True
        worker.scope.cancel()
        buffer = worker.engine.buffer
        counted = (buffer.events, buffer.deliveries, buffer.bytes, buffer.waiting, worker.engine.pipeline.in_flight)
        held = worker.engine.settling.pending
        assert counted == (held and counted[0], held, held and counted[2], 0, 0), f"{worker.name} still counts {counted}, {held} unwritten"

    # -- events --------------------------------------------------------------------------------------------------------

    async def push(self, worker: Worker, count: int = 1, *, instance: str | None = None, **more: Any) -> list[Reply]:
        """`count` events, one body each, over the instances in turn (or into one); notes which were accepted."""
        replies = []
        for _ in range(count):
            self.number += 1
            name = instance or f"i{self.number % len(self.catalog.instances)}"
            replies.append(await self.push_one(worker, name, f"e{self.number}", **more))
        return replies

    async def push_one(self, worker: Worker, instance: str, text: str, **more: Any) -> Reply:
        body = orjson.dumps({"type": "message", "event_key": text, "text": text, **more})
        reply = await worker.engine.ingest.accept("generic", instance, {"content-type": "application/json"}, body)
        if reply.is_accepted:
            self.accepted.append(text)
        return reply

    def tell(self, count: int = 1, *, number: int | None = None) -> int:
        """`count` events on the gateway's streams, over the instances in turn (or of one); answers how many anybody read.

        What was read is as good as accepted, and so is what the gateway keeps until there is a receipt for it.
        """
        assert self.gateway is not None
        read = 0
        for _ in range(count):
            self.number += 1
            text = f"e{self.number}"
            body = orjson.dumps({"type": "message", "event_key": text, "text": text})
            name = f"phone-{self.number % len(self.catalog.instances) if number is None else number}"
            is_read = self.gateway.tell(name, body, text if self.gateway.wants_receipts else None) > 0
            read += is_read
            if is_read or self.gateway.wants_receipts:
                self.accepted.append(text)
        return read

    def _fresh_key(self) -> EventKey:
        self.number += 1
        return EventKey(f"ulid:{self.number}")

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def answer(self, name: str, *steps: Step) -> None:
        self.endpoints.script(url(name), *(steps or (Answers(),)))

    def deliveries(self, name: str) -> Counter[str]:
        """Texts of the events that an endpoint answered with a 2xx, and how often."""
        return self.counts.get(url(name), Counter())

    def latencies_s(self, name: str) -> dict[str, float]:
        """From the start of the virtual world to the first 2xx, by text."""
        first: dict[str, float] = {}
        for worker in self.workers:
            for a in worker.wire.answered:
                if a.webhook == url(name):
                    first[a.text] = min(a.at_s, first.get(a.text, a.at_s))
        return first

    def attempts(self, name: str) -> list[Request]:
        return [a.request for a in self.endpoints.attempts if a.request.url == url(name)]

    # -- the verdict ---------------------------------------------------------------------------------------------------

    def duplicates(self) -> int:
        return sum(count - 1 for hook in self.catalog.webhooks for count in self.deliveries(hook).values())

    def missing(self, *names: str) -> set[tuple[str, str]]:
        """(webhook, text) that were accepted and never delivered."""
        counts = {name: self.deliveries(name) for name in names or self.catalog.webhooks}
        return {(name, text) for name, count in counts.items() for text in self.accepted if text not in count}

    async def all_delivered(self, *names: str, within_s: float = 120.0) -> None:
        """Nothing lost: every accepted event came to each of these webhooks (none named: to all)."""
        await until(lambda: not self.missing(*names), within_s=within_s, what="all is delivered")

    async def nothing_waits(self, *, within_s: float = 120.0) -> None:
        """Nothing stuck: no event waits in the journal or the queue, and none is counted as waiting."""
        ends_s = now_s() + within_s
        while rest := await self.waiting():
            assert now_s() < ends_s, f"still waiting after {within_s} s: {rest}"
            await pass_time(0.05)

    async def waiting(self) -> dict[str, int]:
        """Where something waits, and how much; dead letters are not counted."""
        shards = [Shard(n) for n in range(self.shards)]
        dead = await self.dead_letters()
        counted = sum(w.events for tenants in (await self.store.room.waiting(shards)).values() for w in tenants.values())
        found = {"counted": counted - len({letter.event_key for letter in dead}), "journal": 0, "queue": 0}
        for shard in shards:
            state = self.store.checkpoints._shards[shard]  # noqa: SLF001 -- the twin has nothing to hide from a verdict
            found["journal"] += state.next_position - state.prefix
            found["queue"] += len(state.deliveries)
        return {name: count for name, count in found.items() if count}

    async def dead_letters(self) -> list[DeadLetter]:
        """What the store has once the outcomes that linger have been written."""
        await pass_time(2 * LINGER_S)
        return [letter for n in range(self.shards) for letter in await self.store.room.dead_letters(Shard(n), limit=10_000)]


def note_saves(worker: Worker, checkpoints: Any) -> None:
    """Remembers when the last checkpoint of each shard was sent that the store has."""
    save = checkpoints.save

    async def noted(checkpoint: Any) -> Any:
        sent_s = now_s()
        tail = await save(checkpoint)
        worker.saved_at_s[checkpoint.shard] = sent_s
        return tail

    checkpoints.save = noted


def wall_s() -> float:
    return WALL_AT_ZERO_S + now_s()


def received_at() -> str:
    """Also asked from threads, which have no loop: these get the first instant."""
    try:
        at_s = wall_s()
    except RuntimeError:
        at_s = WALL_AT_ZERO_S
    return rfc3339(datetime.fromtimestamp(at_s, UTC))


SETTINGS = EngineSettings(shards=4)


@asynccontextmanager
async def rig(*webhooks: Webhook, instances: int = 4, gateway: MemoryGateway | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """A world with these webhooks, whose endpoints answer 200 at once. At its end every worker left is shut down and counted.

    With a `gateway` the instances are read from its streams.
    """
    engine_settings = replace(SETTINGS, **settings)
    hooks = webhooks or (webhook("crm"),)
    catalog = Catalog(
        [Tenant(id=ACME)],
        [instance(n, broker=None if gateway is None else BROKER) for n in range(instances)],
        hooks,
    )
    store = MemoryStore(shards=engine_settings.shards, clock=now_s, epoch_s=WALL_AT_ZERO_S)
    async with anyio.create_task_group() as tasks:
        it = Rig(engine_settings.shards, store, MemoryTransport(), catalog, engine_settings, tasks, gateway=gateway)
        for hook in hooks:
            it.endpoints.script(hook.url, Answers())
        yield it
        for worker in it.workers:
            if not worker.is_over:
                worker.faults.before = worker.faults.after = None
                await it.shut_down(worker)
        tasks.cancel_scope.cancel()
