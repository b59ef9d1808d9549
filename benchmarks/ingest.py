"""HTTP → journal: one event per push through the real door, one push at a time and a hundred at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import uvloop

from benchmarks.load import catalog_of, waha_body
from benchmarks.measuring import Figure, Subject, figure, subject
from tests.real_redis import real_redis

WAITING = (1, 100)
"""Pushes under way at once: about so many wait for each segment, for all go to one instance and so to one shard."""
SLICE_S = 1.0


@dataclass(slots=True)
class _Slices:
    cpu_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    per_segment: list[float] = field(default_factory=list)


def measure(*, rounds: int) -> tuple[str, list[Figure]]:
    """A title and the figures of `rounds` seconds for each number of pushes under way, after one round that is not counted."""
    slices = {waiting: _Slices() for waiting in WAITING}
    numbers = iter(range(1 << 40))
    with real_redis(appendfsync="everysec") as redis, subject("door", redis.url) as door:
        for number in range(1 + rounds):
            for waiting in WAITING:
                told = _slice(door, numbers, waiting)
                if number:
                    slices[waiting].cpu_us.append(told[0])
                    slices[waiting].per_s.append(told[1])
                    slices[waiting].per_segment.append(told[2])
    return f"HTTP → journal, 1 KB bodies, aiohttp.web, AOF every second; {rounds} rounds of {SLICE_S:g} s", _figures(slices)


def _slice(door: Subject, numbers: Iterator[int], waiting: int) -> tuple[float, float, float]:
    """CPU in µs per event, events per second of wall time, events per segment."""
    before, began_s = door.ask("so far"), time.perf_counter()
    uvloop.run(_push(int(door.hello.split()[1]), numbers, waiting))
    after, took_s = door.ask("so far"), time.perf_counter() - began_s
    events = after["events"] - before["events"]
    return (after["cpu_s"] - before["cpu_s"]) / events * 1e6, events / took_s, events / (after["appends"] - before["appends"])


async def _push(port: int, numbers: Iterator[int], connections: int) -> None:
    """Pushes over so many connections, each its next once the last was answered, for one slice."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + SLICE_S
    instance = next(iter(catalog_of([""]).instances.values()))
    head = f"POST /ingest/waha/{instance.id} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    def next_push() -> bytes | None:
        body = waha_body(next(numbers), instance)
        return (head % len(body)).encode() + body if loop.time() < until_s else None

    pushers = [_Pusher(next_push, loop.create_future()) for _ in range(connections)]
    for pusher in pushers:
        await loop.create_connection(lambda pusher=pusher: pusher, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*[pusher.done for pusher in pushers])


class _Pusher(asyncio.Protocol):
    """One connection of a gateway; any answer but a 2xx ends the bench."""

    def __init__(self, next_push: Callable[[], bytes | None], done: asyncio.Future[None]) -> None:
        self._next_push = next_push
        self.done = done
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 2"):
            self.done.set_exception(RuntimeError(f"the door answered {head[:40]!r}"))
            return
        self._answer = b""
        self._send()

    def _send(self) -> None:
        push = self._next_push()
        if push is not None:
            self._transport.write(push)
        elif not self.done.done():
            self._transport.close()
            self.done.set_result(None)


def _figures(slices: dict[int, _Slices]) -> list[Figure]:
    figures = []
    for waiting, of in slices.items():
        name = f"{waiting} at once"
        figures += [
            figure(f"{name}: the door", "µs CPU/event", of.cpu_us),
            figure(f"{name}: accepted per core (1 s ÷ that)", "events/s", [1e6 / cpu_us for cpu_us in of.cpu_us]),
            figure(f"{name}: accepted, as the two cores let it", "events/s", of.per_s),
            figure(f"{name}: in one segment", "events", of.per_segment),
        ]
    return figures
