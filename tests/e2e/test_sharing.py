"""Real workers come and go on one Redis under load: each gets its share, and a shard is without an owner for moments only."""

from __future__ import annotations

import re
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, everything_arrives, percentile, pushing
from tests.real_redis import RealRedis

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(180, 3600))]

SHARDS = 16
INSTANCES = tuple(f"i{n}" for n in range(32))
ROTATIONS = scaled(2, 50)
PER_S = 100


class LeaseTable:
    """What the server does to the leases, by its own clock, as `MONITOR` shows it. Knows the inside of the store.

    Read by a thread: it is every command there is, and would starve a loop that has other things to do.
    """

    LEASE = re.compile(rb'\+(\d+\.\d+) \[0 lua\] "(HSET|HDEL)" "\{wa:(\d+)\}:lease" "owner"')

    def __init__(self, server: RealRedis) -> None:
        self._server = server
        self.gaps_s: list[float] = []
        """From a release in favour of somebody until the shard's next grant."""
        self.grants: Counter[int] = Counter()
        self._released_at_s: dict[int, float] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._server.socket))
            line.sendall(b"MONITOR\r\n")
            reader = threading.Thread(target=self._watch, args=(line,))
            reader.start()
            yield
            line.shutdown(socket.SHUT_RDWR)
            reader.join(10)

    def _watch(self, line: socket.socket) -> None:
        for told in line.makefile("rb"):
            if (match := self.LEASE.match(told)) is not None:
                self._see(float(match[1]), is_grant=match[2] == b"HSET", shard=int(match[3]))

    def _see(self, at_s: float, *, is_grant: bool, shard: int) -> None:
        if not is_grant:
            self._released_at_s[shard] = at_s
            return
        self.grants[shard] += 1
        if shard in self._released_at_s:
            self.gaps_s.append(at_s - self._released_at_s.pop(shard))


async def shared(workers: list[Worker], within_s: float = 60) -> None:
    """Every shard has one owner, and nobody holds more than its share."""
    share, began_s = -(-SHARDS // len(workers)), time.monotonic()
    while True:
        held = [await worker.shards() for worker in workers]
        if sum(map(len, held)) == SHARDS == len(set().union(*held)) and max(map(len, held)) <= share:
            return
        assert time.monotonic() - began_s < within_s, f"shared: {[sorted(shards) for shards in held]}"
        await anyio.sleep(0.05)


async def rotate(rig: Rig, gateway: Gateway, workers: list[Worker], fresh: Worker) -> Worker:
    """A new one comes and gets its share; then the eldest goes. Answers the one that left, checked."""
    await fresh.start()
    await shared([*workers, fresh])
    eldest, *stay = [*workers, fresh]
    gateway.workers = stay
    assert (await eldest.stop())[0] in {0, 75}
    report = eldest.report()
    assert report["balances"]
    assert {row["released_to"] is not None for row in report["shards"]} == {True}, report["shards"]
    await shared(stay)
    return eldest


async def test_workers_that_come_and_go_hand_shards_over_in_moments(rig: Rig) -> None:
    server = await rig.redis()
    hooks = [Hook("all", rig.sink.url("all"))]
    workers = [rig.worker(declared(hooks, INSTANCES), REDIS__URL=server.url, SHUTDOWN__BUDGET_S="10") for _ in range(3)]
    *serving, spare = workers
    for worker in serving:
        await worker.start()
    gateway, table = rig.gateway(*serving), LeaseTable(server)
    most_moves = 0
    async with pushing(gateway, per_s=PER_S, instances=INSTANCES):
        await shared(serving)
        with table.watched():
            for _ in range(ROTATIONS):
                table.grants.clear()
                left = await rotate(rig, gateway, serving, spare)
                serving, spare = [*serving[1:], spare], left
                most_moves = max([most_moves, *table.grants.values()])
    await everything_arrives(rig, gateway, hooks, 60)
    state(
        "shards handed over, live and at exit",
        rotations=ROTATIONS,
        handovers=len(table.gaps_s),
        accepted=len(gateway.accepted),
        lost=0,
        duplicates=len(rig.sink.repeated("all")),
        without_owner_median_ms=statistics.median(table.gaps_s) * 1000,
        without_owner_p90_ms=percentile(table.gaps_s, 0.9) * 1000,
        without_owner_worst_ms=max(table.gaps_s) * 1000,
        within_100_ms=sum(gap <= 0.1 for gap in table.gaps_s) / len(table.gaps_s),
        most_moves_of_a_shard=most_moves,
    )
    assert rig.sink.repeated("all") == {}
    assert len(table.gaps_s) >= ROTATIONS * SHARDS // 2
    # Workers that say no revision are a scale-out and then a scale-in to each other: the second evens out, once what was given has rested.
    assert most_moves <= 2
    if CHAOS:
        assert statistics.median(table.gaps_s) <= 0.05
        assert sum(gap <= 0.1 for gap in table.gaps_s) >= 0.9 * len(table.gaps_s)
    for worker in serving:
        assert (await worker.stop())[0] in {0, 75}
