"""The two ends of many idle websockets, each in a process of its own: `python -m benchmarks.socket_subjects ROLE …`.

`gateway N [tls]` serves a fake WAHA with N instances; its first line is its address. The others connect to it: `ROLE URL`.
`library` holds aiohttp's websockets with the library's defaults, each with a task that receives; `connection` ours, likewise;
`session` whole sessions. Each line on standard input, `hold N`, is answered with one line of JSON once N are connected: the memory that
the process has then, in KiB, and its CPU seconds.
"""

from __future__ import annotations

import gc
import json
import os
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import cast

import aiohttp
import anyio
import anyio.abc
import anyio.to_thread
import uvloop

from benchmarks.whole import proc
from tests.contract.hostile_endpoint import CERTIFICATE
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_resume_points import MemoryResumePoints
from worker.adapters.sockets import open_connector
from worker.domain.catalog import Instance
from worker.domain.ids import InstanceId, Shard, TenantId
from worker.fake_gateway.server import API_KEY, Plan, fake_gateway
from worker.ingest.frames import Frames
from worker.instances.broker import BrokerConfig
from worker.lifecycle import calm_collector, raise_open_files
from worker.metrics import Metrics
from worker.websocket.chronicle import Clocks
from worker.websocket.port import Connector
from worker.websocket.resume_points import Bookmarks
from worker.websocket.sessions import Ask, Sessions

AT_A_TIME = 50
CONNECT_S = 60.0
Hold = Callable[[int], Awaitable[None]]
"""Connects until so many are, and no more."""


class Held:
    """Connections that stay: one task each, started by `connect`, which says when it reads."""

    def __init__(self, tasks: anyio.abc.TaskGroup, read: Callable[[int, anyio.abc.TaskStatus[None]], Awaitable[None]]) -> None:
        self._tasks = tasks
        self._read = read
        self._count = 0

    async def hold(self, wanted: int) -> None:
        slots = anyio.CapacityLimiter(AT_A_TIME)

        async def one(number: int) -> None:
            async with slots:
                await self._tasks.start(self._start, number)

        async with anyio.create_task_group() as connecting:
            for number in range(self._count, wanted):
                connecting.start_soon(one, number)
        self._count = max(self._count, wanted)

    async def _start(self, number: int, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        await self._read(number, task_status)


def instance(number: int) -> Instance:
    name = f"instance-{number}"
    return Instance(id=InstanceId(name), tenant_id=TenantId("tenant"), gateway="waha", gateway_instance=name, broker="fake")


def trusting(url: str) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=str(CERTIFICATE)) if url.startswith("https") else None


async def library(url: str, stack: AsyncExitStack) -> Hold:
    connector = aiohttp.TCPConnector(limit=0, ssl=trusting(url) or True)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)

    async def read(number: int, told: anyio.abc.TaskStatus[None]) -> None:
        query = {"session": f"instance-{number}", "events": "*", "x-api-key": API_KEY}
        async with session.ws_connect(f"{url}/ws", params=query) as socket:
            told.started()
            async for _ in socket:
                pass

    return Held(tasks, read).hold


async def connection(url: str, stack: AsyncExitStack) -> Hold:
    connector = await connector_to(url, stack)
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)

    async def read(number: int, told: anyio.abc.TaskStatus[None]) -> None:
        held = await connector.connect(instance(number), after=None, timeout_s=CONNECT_S)
        told.started()
        while True:
            await held.receive()

    return Held(tasks, read).hold


async def session(url: str, stack: AsyncExitStack) -> Hold:
    connector = await connector_to(url, stack)
    turns = anyio.CapacityLimiter(AT_A_TIME)
    clocks = Clocks(monotonic_s=time.monotonic, unit_random=random.random, wall=str)
    ask = Ask(owns=lambda _shard: True, turn=lambda _connector: turns)
    sessions = Sessions(
        cast("Frames", None), Bookmarks(MemoryResumePoints(StoreFaults(), time.monotonic)), clocks, ask, Metrics()
    )  # no frame comes
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    await tasks.start(sessions.run)
    started = 0

    async def hold(wanted: int) -> None:
        nonlocal started
        for number in range(started, wanted):
            sessions.start(instance(number), Shard(0), connector)
        started = max(started, wanted)
        with anyio.fail_after(CONNECT_S * 10):
            while sessions.connected().get(("waha",), 0) < wanted:  # noqa: ASYNC110 - nobody is told of the last one
                await anyio.sleep(0.05)

    return hold


async def connector_to(url: str, stack: AsyncExitStack) -> Connector:
    made = open_connector(BrokerConfig(id="fake", gateway="waha", url=url, api_key=API_KEY), tls=trusting(url))
    assert made is not None
    stack.push_async_callback(made.close)
    return made


async def gateway(instances: int, tls: ssl.SSLContext | None) -> None:
    """Until its standard input ends; each line is answered with what it has cost so far."""
    async with fake_gateway(Plan(gateway="waha", tls=tls)) as fake:
        for number in range(instances):
            fake.instances.make(f"instance-{number}")
        print(fake.url, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps({"cpu_s": time.process_time(), "readers": sum(1 for _ in fake.streams)}), flush=True)


async def serve(role: str, url: str) -> None:
    roles = {"library": library, "connection": connection, "session": session}
    async with AsyncExitStack() as stack:
        hold = await roles[role](url, stack)
        calm_collector()
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            await hold(int(line.split()[1]))
            gc.collect()
            print(json.dumps({"rss_kib": proc(os.getpid(), "VmRSS"), "cpu_s": time.process_time()}), flush=True)


def main() -> None:
    raise_open_files()
    role, *words = sys.argv[1:]
    if role != "gateway":
        uvloop.run(serve(role, words[0]))
        return
    tls = None
    if words[1:] == ["tls"]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(CERTIFICATE)
    uvloop.run(gateway(int(words[0]), tls))


if __name__ == "__main__":
    main()
