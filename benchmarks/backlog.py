"""A large backlog waits at the start: the real process (`worker run`) delivers it, all endpoints healthy, then one of ten hung.

What is asked: how many deliveries were parked (none where all are healthy; where one hangs at most its own), how much memory the worker
took, and how fast it went.
"""

from __future__ import annotations

import socket
import time

import uvloop

from benchmarks.load import catalog_of, prefill_at
from benchmarks.measuring import Figure, figure
from benchmarks.sink import sink
from benchmarks.whole import cpu_s, proc, status, worker
from tests.real_redis import RealRedis, real_redis
from worker.domain.catalog import Catalog

WEBHOOKS = 10
STALLED_S = 30.0
LOOK_EVERY_S = 0.25
MIB = 1 << 20


def measure(*, events: int) -> tuple[str, list[Figure]]:
    figures = []
    with sink() as endpoint:
        for hung, name in ((0, "all healthy"), (1, "one of ten hung")):
            with real_redis(appendonly="no") as redis:
                catalog = catalog_of([endpoint.hang_url] * hung + [endpoint.fast_url] * (WEBHOOKS - hung))
                uvloop.run(prefill_at(redis.url, catalog, events))
                told = _deliver(redis, catalog, events - hung * (events // WEBHOOKS))
            parked = f"goal ≤ {hung * -(-events // WEBHOOKS):,}: its own" if hung else "goal 0"
            figures += [
                _one(f"{name}: parked", "deliveries", told["parked"], parked),
                _one(f"{name}: worker RSS at its highest", "MiB", told["rss_bytes"] / MIB, "goal ≤ 200"),
                _one(f"{name}: Redis memory before", "MiB", told["redis_bytes"] / MIB),
                _one(f"{name}: delivered", "events/s", told["per_s"]),
                _one(f"{name}: worker CPU", "µs/event", told["cpu_us"]),
            ]
    return f"A backlog of {events:,} events in the journal at the start, {WEBHOOKS} webhooks, the whole process", figures


def _one(name: str, unit: str, value: float, goal: str = "") -> Figure:
    return figure(name, unit, [value], goal)


def _deliver(redis: RealRedis, catalog: Catalog, expected: int) -> dict[str, float]:
    redis_bytes = _redis_bytes(redis)
    with worker(redis, catalog) as (process, port):
        began_s, moved_s, delivered, shown = time.monotonic(), time.monotonic(), 0, {}
        while delivered < expected:
            time.sleep(LOOK_EVERY_S)
            shown = status(port)
            now_s = time.monotonic()
            if shown["settling"]["delivered"] > delivered:
                delivered, moved_s = shown["settling"]["delivered"], now_s
            if process.poll() is not None or now_s - moved_s > STALLED_S:
                raise RuntimeError(f"the worker stopped at {delivered} of {expected} deliveries (exit code {process.poll()})")
        took_s = time.monotonic() - began_s
        return {
            "parked": shown["settling"]["parked"],
            "rss_bytes": proc(process.pid, "VmHWM") * 1024,
            "redis_bytes": redis_bytes,
            "per_s": delivered / took_s,
            "cpu_us": cpu_s(process.pid) / delivered * 1e6,
        }


def _redis_bytes(redis: RealRedis) -> int:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(redis.socket))
        asking.sendall(b"INFO memory\r\n")
        text = asking.recv(1 << 16).decode()
    return next(int(line.partition(":")[2]) for line in text.splitlines() if line.startswith("used_memory:"))
