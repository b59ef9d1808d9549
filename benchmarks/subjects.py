"""What is measured, each in a process of its own that does nothing else: `python -m benchmarks.subjects NAME REDIS_URL SINK_URL`.

A name with an ordering behind it (`engine-chat`, `null-none`, `slow-chat`) has one webhook over eight instances that wants it so.

Says `ready`, then answers each line `run COUNT` on standard input with one line of JSON. What it is to deliver is put into its Redis
by whoever asks, while it waits; CPU is counted from the moment it begins to read to the last outcome.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network

import anyio
import anyio.to_thread
import structlog
import uvloop

from benchmarks.load import SHARDS, catalog_of, talk_catalog
from benchmarks.reference import Reference, routes_of
from worker.adapters.clock import rfc3339
from worker.adapters.http import AiohttpTransport
from worker.adapters.redis_store import open_redis_store
from worker.client_registry.registry import Identity
from worker.domain.catalog import Catalog
from worker.domain.deadline import Deadline
from worker.domain.destinations import Destinations
from worker.domain.ids import EventKey, OwnerId
from worker.engine import Engine, EngineSettings, World
from worker.event_integration.pipeline import Clocks
from worker.event_integration.transport import Answer, Request, Stage, Transport
from worker.ingest.door import RoomLimits
from worker.ingest.preparation import Stamps
from worker.lifecycle import calm_collector, monotonic_s

WEBHOOKS = 32
LOOK_EVERY_S = 0.005
SLOW_ANSWER_S = 0.02
ROOM = RoomLimits(max_events=2_000_000, max_bytes=4 << 30, tenant_share=1.0)
Run = Callable[[int], Awaitable[dict[str, int]]]
"""Delivers so many events; answers what went otherwise."""


class NullTransport:
    """Answers 204 at the loop's next turn, or after a while: what is left is everything but the transport."""

    def __init__(self, answers_after_s: float = 0.0) -> None:
        self._answers_after_s = answers_after_s

    async def deliver(self, _request: Request, _deadline: Deadline) -> Answer:
        await asyncio.sleep(self._answers_after_s)
        return Answer(status=204, phases_s={Stage.FIRST_BYTE: 0.0})

    async def close(self) -> None:
        """Holds nothing."""


def world() -> World:
    """The clocks of the real process."""
    clocks = Clocks(monotonic_s=monotonic_s, wall_s=time.time, unit_random=random.SystemRandom().random)
    stamps = Stamps(received_at=lambda: rfc3339(datetime.now(UTC)), fresh_key=lambda: EventKey("ulid:none"))
    return World(clocks=clocks, stamps=stamps)


@asynccontextmanager
async def engine_subject(redis_url: str, catalog: Catalog, transport: Transport) -> AsyncIterator[Run]:
    """The engine as it is, its reader told to wait between runs."""
    identity = Identity(owner=OwnerId("bench"), task="bench", family="", revision=0, sole=True)
    async with open_redis_store(redis_url, shards=SHARDS) as store:
        engine = Engine(store, transport, catalog, identity, EngineSettings(shards=SHARDS, room=ROOM), world())
        engine.reader.is_stopped = True

        async def run(count: int) -> dict[str, int]:
            settling = engine.settling
            until, parked, dead = settling.delivered_count + count, settling.parked_count, settling.dead_count
            engine.reader.is_stopped = False
            engine.reader.poke()
            while settling.delivered_count < until:  # noqa: ASYNC110 -- an event per delivery would be in the figure
                await anyio.sleep(LOOK_EVERY_S)
            engine.reader.is_stopped = True
            engine.reader.poke()
            return {"parked": settling.parked_count - parked, "dead": settling.dead_count - dead}

        async with anyio.create_task_group() as running:
            await running.start(engine.run)
            while len(engine.registry.active()) < SHARDS:  # noqa: ASYNC110 -- the registry tells its hooks, not us
                await anyio.sleep(LOOK_EVERY_S)
            calm_collector()
            yield run
            running.cancel_scope.cancel()


@asynccontextmanager
async def reference_subject(redis_url: str, sink_url: str, *, lean: bool) -> AsyncIterator[Run]:
    reference = Reference(redis_url, routes_of(catalog_of([sink_url] * WEBHOOKS)), lean=lean)
    await reference.open()

    async def run(count: int) -> dict[str, int]:
        await reference.run(count)
        return {}

    yield run
    await reference.close()


async def answer_lines(run: Run) -> None:
    """Until standard input ends."""
    print("ready", flush=True)
    while words := (await anyio.to_thread.run_sync(sys.stdin.readline)).split():
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        others = await run(int(words[1]))
        told = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s, **others}
        print(json.dumps(told), flush=True)


def transport_of(kind: str) -> Transport:
    """`engine`: the real one; `null`: none; `slow`: none, for endpoints that take 20 ms."""
    if kind == "engine":
        return AiohttpTransport(Destinations(allowed_private=[ip_network("127.0.0.0/8")]))
    return NullTransport(SLOW_ANSWER_S if kind == "slow" else 0.0)


async def main(name: str, redis_url: str, sink_url: str) -> None:
    if name in {"reference", "lean"}:
        async with reference_subject(redis_url, sink_url, lean=name == "lean") as run:
            await answer_lines(run)
        return
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    kind, _, ordering = name.partition("-")
    catalog = talk_catalog(sink_url, ordering=ordering) if ordering else catalog_of([sink_url] * WEBHOOKS)
    async with engine_subject(redis_url, catalog, transport := transport_of(kind)) as run:
        await answer_lines(run)
    await transport.close()


if __name__ == "__main__":
    run_on_loop = asyncio.run if sys.argv[1] == "reference" else uvloop.run
    run_on_loop(main(*sys.argv[1:]))
