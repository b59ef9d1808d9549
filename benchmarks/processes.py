"""One process against two, on two cores: how many events a second are delivered, and what an event costs, slice by slice in turn.

The journal is full before the workers start, so that no generator runs beside them; the sink is the one in C. What is left beside
the workers on the same cores is Redis and the sink, and both are told: with them, two cores are less than twice one. A slice begins when
every process is ready and holds its share of the shards, and lasts so many seconds of a backlog that does not end before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.load import SHARDS, catalog_of, prefill_at
from benchmarks.measuring import Figure, figure, ratio
from benchmarks.sink import Sink, sink
from benchmarks.whole import children_of, cpu_s, free_port, status, worker
from tests.real_redis import RealRedis, real_redis
from worker.domain.catalog import Catalog

WEBHOOKS = 64
SETTLE_S = 2.0
"""A new owner recounts what waits in its shards, which costs Redis, not the worker, and is over after this."""
SLICE_S = 5.0
EVENTS_PER_SLICE = 100_000
"""What waits at the start: two processes must not come to its end."""
SHARED_OUT_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Per second, and CPU in µs per event."""

    per_s: float
    workers_us: float
    redis_us: float
    sink_us: float
    busy_cores: float
    """Of all who take part, together."""


def measure(*, rounds: int) -> tuple[str, list[Figure]]:
    with sink() as endpoint:
        one, two = [], []
        for _ in range(rounds):
            one.append(_slice(endpoint, 1))
            two.append(_slice(endpoint, 2))
        cores = len(os.sched_getaffinity(0))
        figures = [
            figure("one process: delivered", "events/s", [s.per_s for s in one]),
            figure("two processes: delivered", "events/s", [s.per_s for s in two]),
            ratio("two / one", [s.per_s for s in two], [s.per_s for s in one], "goal ≥ 1.7"),
            figure("one process: worker CPU", "µs/event", [s.workers_us for s in one]),
            figure("two processes: worker CPU", "µs/event", [s.workers_us for s in two]),
            ratio("two / one, worker CPU", [s.workers_us for s in two], [s.workers_us for s in one], "1: nothing is paid for the second"),
            figure("Redis beside them", "µs/event", [s.redis_us for s in two]),
            figure("sink beside them", "µs/event", [s.sink_us for s in two]),
            figure("two processes: cores kept busy by all of these", "", [s.busy_cores for s in two], f"of {cores}"),
            figure(f"what {cores} cores allow two / one at most", "", [_at_most(a, b, cores) for a, b in zip(one, two, strict=True)]),
        ]
    return f"One process against two ({endpoint.made_of} sink, {SLICE_S:g} s slices of a backlog, {WEBHOOKS} webhooks)", figures


def _at_most(one: Slice, two: Slice, cores: int) -> float:
    """All cores shared by workers, Redis and sink, against one core of one worker."""
    return cores * one.workers_us / (two.workers_us + two.redis_us + two.sink_us)


def _slice(endpoint: Sink, processes: int) -> Slice:
    with real_redis(appendonly="no") as redis:
        catalog = catalog_of([endpoint.fast_url] * WEBHOOKS)
        uvloop.run(prefill_at(redis.url, catalog, EVENTS_PER_SLICE))
        return _measured(endpoint, redis, catalog, processes)


def _measured(endpoint: Sink, redis: RealRedis, catalog: Catalog, processes: int) -> Slice:
    own = free_port()
    words = [] if processes == 1 else ["--processes", str(processes), "--process-ports", str(own)]
    with worker(redis, catalog, *words) as (process, port):
        ports = [port] if processes == 1 else [own + index for index in range(processes)]
        _wait_until_shared_out(ports)
        time.sleep(SETTLE_S)
        pids = [process.pid] if processes == 1 else children_of(process.pid)
        before, began_s = (_delivered(ports), *_cpu(pids, redis, endpoint)), time.monotonic()
        time.sleep(SLICE_S)
        after, took_s = (_delivered(ports), *_cpu(pids, redis, endpoint)), time.monotonic() - began_s
        events, *spent_s = [end - begin for begin, end in zip(before, after, strict=True)]
        if after[0] > 0.95 * EVENTS_PER_SLICE:
            raise RuntimeError("the backlog ended within the slice: make EVENTS_PER_SLICE larger")
        workers_us, redis_us, sink_us = (seconds / events * 1e6 for seconds in spent_s)
        return Slice(per_s=events / took_s, workers_us=workers_us, redis_us=redis_us, sink_us=sink_us, busy_cores=sum(spent_s) / took_s)


def _cpu(pids: Sequence[int], redis: RealRedis, endpoint: Sink) -> tuple[float, float, float]:
    return sum(map(cpu_s, pids)), cpu_s(redis.pid), cpu_s(endpoint.pid)


def _delivered(ports: Sequence[int]) -> int:
    return sum(status(port)["settling"]["delivered"] for port in ports)


def _wait_until_shared_out(ports: Sequence[int]) -> None:
    """Every shard owned, each by its share; raises where that does not come about."""
    began_s = time.monotonic()
    share = SHARDS // len(ports)
    while True:
        held = [_held(port) for port in ports]
        if sum(held) == SHARDS and min(held) >= share:
            return
        if time.monotonic() - began_s > SHARED_OUT_WITHIN_S:
            raise RuntimeError(f"the shards were not shared out: {held}")
        time.sleep(LOOK_EVERY_S)


def _held(port: int) -> int:
    try:
        return len(status(port, "/rolez")["shards"])
    except OSError:
        return 0
