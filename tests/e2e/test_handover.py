"""Two workers on one Redis: the owner frozen and continued, the owner told to go with an endpoint that hangs for ever."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import redis.asyncio

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, everything_arrives, percentile, pushing, until
from worker.adapters.redis_keys import ShardKeys
from worker.domain.ids import InstanceId, Shard, shard_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 3600))]

SHARDS = 16
INSTANCES = tuple(f"i{n}" for n in range(20))
FREEZE_S = scaled(8, 30)
LEASE_TTL_S = scaled(5, 15)
TAKEN_WITHIN_S = 40


async def owner_and_other(workers: list[Worker]) -> tuple[Worker, Worker]:
    """Once each holds half: the one that owns the first instance, and the other."""
    began_s, first = time.monotonic(), shard_of(InstanceId(INSTANCES[0]), SHARDS)
    while True:
        held = [await worker.shards() for worker in workers]
        if {len(shards) for shards in held} == {SHARDS // 2} and len(held[0] | held[1]) == SHARDS:
            return (workers[0], workers[1]) if first in held[0] else (workers[1], workers[0])
        assert time.monotonic() - began_s < 60, f"each holds half: {[sorted(shards) for shards in held]}"
        await anyio.sleep(0.02)


class Journals:
    """What the store says of all shards: the token that may write, and how far each journal is done. Knows the inside."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def read(self) -> dict[int, tuple[int, int]]:
        """Shard → (fence, token of the newest checkpoint)."""
        found = {}
        for number in range(SHARDS):
            keys = ShardKeys(Shard(number))
            fence, saved = await self._client.get(keys.fence), await self._client.hget(keys.cursor, "checkpoint")
            found[number] = (int(fence or 0), int(str(saved or "0:0").split(":")[0]))
        return found


@asynccontextmanager
async def journals_of(url: str) -> AsyncIterator[Journals]:
    async with redis.asyncio.Redis.from_url(url, socket_timeout=5, decode_responses=True) as client:
        yield Journals(client)


async def test_an_owner_frozen_beyond_its_lease_writes_nothing_more_and_nothing_is_lost(rig: Rig) -> None:
    """It is frozen with attempts under way that fail: what it wants to write first, when it goes on, is an outcome under its old token."""
    server = await rig.redis()
    hooks = [Hook("all", rig.sink.url("all")), Hook("late", rig.sink.url("late", "fail-700"), deadline_s=1.5)]
    toml = declared(hooks, INSTANCES)
    workers = [rig.worker(toml, REDIS__URL=server.url, REGISTRY__LEASE_TTL_S=str(LEASE_TTL_S)) for _ in range(2)]
    for worker in workers:
        await worker.start()
    gateway = rig.gateway(*workers)
    async with pushing(gateway, per_s=100, instances=INSTANCES), journals_of(server.url) as journals:
        owner, standby = await owner_and_other(workers)
        await until(lambda: len(rig.sink.got("all")) > 300, 20, "events arrive")
        old = await owner.shards()
        owner.send(signal.SIGSTOP)
        gateway.workers = [standby]
        await anyio.sleep(FREEZE_S)
        new, fenced = await all_shards(standby), await journals.read()
        owner.send(signal.SIGCONT)
        gateway.workers = workers
        await anyio.sleep(3)
        after = await journals.read()
    refused = await owner.metric("client_registry_stale_writes_refused_total")
    healed_s = await everything_arrives(rig, gateway, hooks, 90)
    figures = {"frozen_s": FREEZE_S, "accepted": len(gateway.accepted), "lost": 0, "duplicates": len(rig.sink.repeated("all"))}
    state("owner frozen", **figures, stale_writes_refused=refused, healed_s=healed_s)
    check_only_the_newer_token_wrote(old, new, fenced, after)
    assert refused >= 1, "the old owner tried, and was refused"
    for worker in workers:
        assert (await worker.stop())[0] in {0, 75}


async def all_shards(taker: Worker) -> dict[int, int]:
    """What it owns, once that is everything: the frozen one counts as live until its announcement ends."""
    began_s = time.monotonic()
    while len(held := await taker.shards()) < SHARDS:
        assert time.monotonic() - began_s < TAKEN_WITHIN_S, f"the other took over, but for {SHARDS - len(held)} shards"
        await anyio.sleep(0.1)
    return held


def check_only_the_newer_token_wrote(
    old: dict[int, int], new: dict[int, int], fenced: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]
) -> None:
    """`old`, `new`: tokens of both owners; `fenced`, `after`: the store before the old one goes on, and some seconds later."""
    assert set(new) == set(range(SHARDS)), "the other took over"
    assert all(new[shard] > old[shard] for shard in old)
    assert new == {shard: fence for shard, (fence, _) in fenced.items()}
    assert all(after[shard][0] >= new[shard] for shard in new), "what was given back since was given under newer tokens"
    assert all(written in {0, old.get(shard), new[shard]} for shard, (_, written) in fenced.items())
    assert all(after[shard][1] >= fenced[shard][1] for shard in after)
    assert sum(after[shard][1] >= new[shard] for shard in after) > SHARDS // 2, "checkpoints go on under the new tokens"


class Handovers:
    """What was measured over all runs, in seconds."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        """Per run, of its best shard: from the release (or a later push) to the successor's first delivery."""
        self.shard_gaps: list[float] = []
        """The same of every shard."""
        self.handing: list[float] = []
        self.quiet: list[float] = []
        """From push to the healthy webhook, around a handover and without one."""


def latencies(rig: Rig, gateway: Gateway, from_s: float, to_s: float) -> list[float]:
    """Of the events pushed between two instants, from their push to their arrival at the healthy webhook."""
    pushed = {event: at_s for event, at_s in gateway.pushed_at_s.items() if from_s <= at_s < to_s}
    arrived = rig.sink.arrivals["all"]
    return [arrived[event][0].at_s - at_s for event, at_s in pushed.items() if event in arrived]


def gaps(rig: Rig, gateway: Gateway, released_at_s: dict[int, float], tokens: dict[int, int]) -> list[float]:
    """Per shard, how long its first event at the new owner had to wait."""
    shard_by_token = {token: shard for shard, token in tokens.items() if shard in released_at_s}
    first: dict[int, tuple[float, float]] = {}
    for event, [arrival, *_] in rig.sink.arrivals["all"].items():
        shard = shard_by_token.get(arrival.token)
        if shard is not None:
            waited_s = arrival.at_s - max(released_at_s[shard], gateway.pushed_at_s[event])
            first[shard] = min(first.get(shard, (arrival.at_s, waited_s)), (arrival.at_s, waited_s))
    return [waited_s for _, waited_s in first.values()]


async def hand_over_once(rig: Rig, gateway: Gateway, workers: list[Worker], seen: Handovers) -> None:
    owner, standby = await owner_and_other(workers)
    await until(lambda: rig.sink.in_flight["hang"] > 0, 60, "the endpoint hangs")
    began_s = time.monotonic()
    await anyio.sleep(2)
    seen.quiet += latencies(rig, gateway, began_s, began_s + 1.5)
    gateway.workers = [standby]  # a balancer that saw /readyz turn
    signal_at_s = time.monotonic()
    assert (await owner.stop())[0] in {0, 75}
    await anyio.sleep(max(0.0, signal_at_s + 2.5 - time.monotonic()))
    report = owner.report()
    assert report["balances"]
    assert all(shard["released_to"] for shard in report["shards"]), report["shards"]
    released_at_s = {row["shard"]: signal_at_s + row["held_after_signal_ms"] / 1000 for row in report["shards"]}
    waited_s = gaps(rig, gateway, released_at_s, await standby.shards())
    seen.gaps.append(min(waited_s))
    seen.shard_gaps += waited_s
    seen.handing += latencies(rig, gateway, signal_at_s, signal_at_s + 1.5)
    await owner.start()
    gateway.workers = workers


async def test_a_drain_with_an_endpoint_that_hangs_hands_over_in_moments(rig: Rig) -> None:
    server = await rig.redis()
    hooks = [Hook("all", rig.sink.url("all")), Hook("hang", rig.sink.url("hang", "hang"), INSTANCES[:1], deadline_s=scaled(3, 30))]
    toml = declared(hooks, INSTANCES)
    workers = [rig.worker(toml, REDIS__URL=server.url, SHUTDOWN__BUDGET_S="10") for _ in range(2)]
    for worker in workers:
        await worker.start()
    gateway = rig.gateway(*workers)
    seen = Handovers()
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        for _ in range(scaled(2, 50)):
            await hand_over_once(rig, gateway, workers, seen)
    await everything_arrives(rig, gateway, hooks, scaled(60, 180))
    ratio = percentile(seen.handing, 0.99) / percentile(seen.quiet, 0.99)
    state(
        "handover with a hanging endpoint",
        runs=len(seen.gaps),
        accepted=len(gateway.accepted),
        lost=0,
        duplicates_healthy=len(rig.sink.repeated("all")),
        first_delivery_median_ms=statistics.median(seen.gaps) * 1000,
        first_delivery_worst_ms=max(seen.gaps) * 1000,
        within_100_ms=sum(gap <= 0.1 for gap in seen.gaps) / len(seen.gaps),
        any_shard_worst_ms=max(seen.shard_gaps) * 1000,
        p99_quiet_ms=percentile(seen.quiet, 0.99) * 1000,
        p99_handover_ms=percentile(seen.handing, 0.99) * 1000,
        ratio=ratio,
    )
    assert rig.sink.repeated("all") == {}
    if CHAOS:
        assert sum(gap <= 0.1 for gap in seen.gaps) >= 0.9 * len(seen.gaps)
        assert ratio <= 1.5
    for worker in workers:
        assert (await worker.stop())[0] in {0, 75}
