"""Many websockets on which nothing happens: what one takes in memory, and what thousands take of a core.

Memory: of a process that holds so many and does nothing else, the resident set at two counts, and the difference between them: the library
alone with its defaults, our connection over it, a whole session around that. What the kernel takes for a socket is not in it.
Idle CPU: of the whole worker (`worker run`), on a Redis, with a fake WAHA that pings as the real one does; beside it the same worker with
the same instances and no sockets. A slice lasts one round of those pings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measuring import Figure, Subject, figure, subject
from benchmarks.socket_subjects import instance
from benchmarks.whole import cpu_s, proc, status, worker
from tests.real_redis import real_redis
from worker.domain.catalog import Catalog, Tenant
from worker.domain.ids import TenantId
from worker.fake_gateway.server import API_KEY
from worker.lifecycle import raise_open_files

ROLES = {"library": "aiohttp alone, its defaults", "connection": "our connection", "session": "our session"}
FIRST, LAST = 200, 1_200
"""Connections at which memory is read: what the first of anything costs is in neither difference."""
SLICE_S = 60.0
SETTLE_S = 20.0
CONNECT_WITHIN_S = 300.0
LOOK_EVERY_S = 0.5
MIB_KIB = 1024


def measure(*, rounds: int, instances: int) -> tuple[str, list[Figure]]:
    raise_open_files()
    figures = [found for tls in (False, True) for found in _memory(rounds, tls=tls)]
    return f"Idle websockets: memory of one, and a worker with {instances:,} instances", [*figures, *_idle(instances)]


def _memory(rounds: int, *, tls: bool) -> Iterator[Figure]:
    found: dict[str, list[float]] = {role: [] for role in ROLES}
    with a_gateway(LAST, tls=tls) as gateway:
        for _ in range(rounds):
            for role, taken in found.items():
                with subject("socket_subjects", role, gateway.hello.strip()) as holding:
                    before, after = (holding.ask("hold", count)["rss_kib"] for count in (FIRST, LAST))
                    taken.append((after - before) / (LAST - FIRST))
    for role, taken in found.items():
        goal = "goal ≤ 60" if role == "session" and not tls else ""
        yield figure(f"{'TLS' if tls else 'plain'}, {ROLES[role]}", "KiB", taken, goal)


def _idle(instances: int) -> Iterator[Figure]:
    for wanted in (0, instances):
        with a_gateway(instances) as gateway, real_redis(appendonly="no") as redis:
            broker = {"id": "fake", "gateway": "waha", "url": gateway.hello.strip(), "api_key": API_KEY, "sockets": wanted > 0}
            catalog = Catalog([Tenant(id=TenantId("tenant"))], [instance(number) for number in range(instances)], [])
            with worker(redis, catalog, brokers=[broker]) as (process, port):
                began_s = time.monotonic()
                _wait_until_connected(port, wanted)
                took_s = time.monotonic() - began_s
                time.sleep(SETTLE_S)
                theirs, ours = gateway.ask("cpu")["cpu_s"], cpu_s(process.pid)
                time.sleep(SLICE_S)
                theirs, ours = gateway.ask("cpu")["cpu_s"] - theirs, cpu_s(process.pid) - ours
                name = f"{wanted:,} sockets"
                yield figure(f"{name}: worker, of a core", "%", [100 * ours / SLICE_S])
                yield figure(f"{name}: worker RSS", "MiB", [proc(process.pid, "VmRSS") / MIB_KIB])
                if wanted:
                    yield figure(f"{name}: the gateway beside it, of a core", "%", [100 * theirs / SLICE_S])
                    yield figure(f"{name}: from ready to all connected", "s", [took_s])


@contextmanager
def a_gateway(instances: int, *, tls: bool = False) -> Iterator[Subject]:
    with subject("socket_subjects", "gateway", str(instances), *(["tls"] if tls else [])) as gateway:
        yield gateway


def _wait_until_connected(port: int, wanted: int) -> None:
    began_s = time.monotonic()
    while (connected := status(port)["sockets"]["connected"]) < wanted:
        if time.monotonic() - began_s > CONNECT_WITHIN_S:
            raise RuntimeError(f"{connected} of {wanted} sockets are connected after {CONNECT_WITHIN_S:g} s")
        time.sleep(LOOK_EVERY_S)
