"""A primary and its replica behind one address that a test owns: a failover is a SIGKILL, a promotion, an address that points elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import redis.asyncio
from anyio import to_thread

from tests.e2e.rig import free_port
from tests.real_redis import RealRedis

SYNCED_WITHIN_S = 20.0


class Address:
    """A TCP proxy. `seen(pattern)` waits for bytes on their way to the server; `point_at` cuts every line and forwards to another port."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._target = port
        self._lines: set[asyncio.StreamWriter] = set()
        self._pattern = b""
        self._seen = anyio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        async with server:
            yield
            self._cut()

    async def seen(self, pattern: bytes) -> None:
        self._pattern, self._seen = pattern, anyio.Event()
        await self._seen.wait()

    def point_at(self, port: int) -> None:
        self._target = port
        self._cut()

    def _cut(self) -> None:
        for line in self._lines:
            line.transport.abort()
        self._lines.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._lines |= {writer, far_writer}
            async with anyio.create_task_group() as both:
                both.start_soon(self._pump, reader, far_writer, True)
                both.start_soon(self._pump, far_reader, writer, False)
        writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_outward: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if is_outward and self._pattern and self._pattern in data:
                    self._pattern = b""
                    self._seen.set()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


class Pair:
    """Two servers, one of them serving. `fail_over` swaps them, and starts the dead one again as the replica of the other."""

    def __init__(self, first: RealRedis, second: RealRedis) -> None:
        self.primary, self.replica = first, second
        self.address = Address(first.port)

    def operator(self, server: RealRedis) -> redis.asyncio.Redis:
        """A line of one's own to one of the two."""
        return redis.asyncio.Redis.from_url(server.url, socket_timeout=5, decode_responses=True)

    async def replicate(self) -> None:
        """Returns once the replica is in step."""
        async with self.operator(self.replica) as replica:
            await replica.replicaof("127.0.0.1", self.primary.port)
            began_s = time.monotonic()
            while (await replica.info("replication")).get("master_link_status") != "up":
                assert time.monotonic() - began_s < SYNCED_WITHIN_S, "the replica is in step"
                await anyio.sleep(0.05)

    async def fail_over(self) -> None:
        await anyio.sleep(random.uniform(0, 0.004))
        await to_thread.run_sync(self.primary.kill)
        self.primary, self.replica = self.replica, self.primary
        async with self.operator(self.primary) as promoted:
            await promoted.replicaof("NO", "ONE")
        self.address.point_at(self.primary.port)
        await to_thread.run_sync(self.replica.start)
        await self.replicate()


@asynccontextmanager
async def redis_pair(first: RealRedis, second: RealRedis) -> AsyncIterator[Pair]:
    pair = Pair(first, second)
    await pair.replicate()
    async with pair.address.listening():
        yield pair
