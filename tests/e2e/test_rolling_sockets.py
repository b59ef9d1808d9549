"""A thousand instances on websockets, two workers, and one rotation after another under load: whatever anybody could read, arrives."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Rig, Worker, percentile, until
from tests.e2e.sink import SECRET
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway
from worker.fake_gateway.streams import Emitted

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(scaled(600, 7_200))]

INSTANCES = tuple(f"s{n}" for n in range(1_000))
SHARDS = 16
PER_S = 300
ROTATIONS = scaled(3, 50)
PATIENCE_S = 60
BUDGET = {"SHUTDOWN__BUDGET_S": "60", "SHUTDOWN__STOP_TIMEOUT_S": "70"}
"""Half of what a platform gives: heirs have to open five hundred connections, on a machine that may be busy."""


def file(fake: FakeGateway, url: str) -> str:
    """One tenant, one broker, a thousand instances on it, one webhook for everything."""
    lines = ["[[tenants]]", 'id = "t"']
    lines += ["[[brokers]]", 'id = "waha"', 'gateway = "waha"', f'url = "{fake.url}"', f'api_key = "{API_KEY}"']
    for name in INSTANCES:
        lines += [
            "[[instances]]",
            f'id = "{name}"',
            'tenant_id = "t"',
            'gateway = "waha"',
            f'gateway_instance = "{name}"',
            'broker = "waha"',
        ]
    lines += ["[[webhooks]]", 'id = "all"', 'tenant_id = "t"', f'url = "{url}"', f'secrets = ["{SECRET}"]']
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Seen:
    """Of all rotations."""

    sent: dict[str, Emitted] = field(default_factory=dict)
    """By the gateway, whether or not anybody read."""
    gaps_s: list[float] = field(default_factory=list)
    """Per shard and move: from its release to its next grant."""
    moves: list[int] = field(default_factory=list)
    """Per rotation: how often that shard moved that moved most."""
    drains_s: list[float] = field(default_factory=list)
    receipts: Counter[str] = field(default_factory=Counter)

    @property
    def heard(self) -> set[str]:
        return {event for event, emitted in self.sent.items() if emitted.readers}


@asynccontextmanager
async def sending(fake: FakeGateway, seen: Seen) -> AsyncIterator[None]:
    """The gateway's events for the length of the block, open loop."""

    async def send() -> None:
        began_s = time.monotonic()
        for number, name in enumerate(itertools.cycle(INSTANCES)):
            await anyio.sleep(max(0.0, began_s + number / PER_S - time.monotonic()))
            [emitted] = fake.emit(name)
            seen.sent[emitted.id] = emitted

    async with anyio.create_task_group() as load:
        load.start_soon(send)
        yield
        load.cancel_scope.cancel()


async def every_instance_is_read(fake: FakeGateway) -> float:
    return await until(lambda: all(fake.readers(name) for name in INSTANCES), PATIENCE_S, "every instance is read")


def grants(*workers: Worker) -> Counter[int]:
    """How often each shard was granted in these lives."""
    return Counter(shard for worker in workers for line in worker.lines("shards_acquired") for shard in line["shards"])


async def all_tokens(*workers: Worker) -> dict[int, int]:
    """Once every shard has an owner."""
    began_s = time.monotonic()
    while True:
        found: dict[int, int] = {}
        for worker in workers:
            found |= await worker.shards()
        if len(found) == SHARDS:
            return found
        assert time.monotonic() - began_s < PATIENCE_S, f"every shard has an owner, not {sorted(found)} alone"
        await anyio.sleep(0.02)


async def replace(leaving: Worker, staying: Worker, coming: Worker, seen: Seen) -> None:
    """The deployment's step: the new one is ready, then the old one is told to go."""
    await coming.start()
    wall_s = time.time()  # the store has the same clock
    code, took_s = await leaving.stop(within_s=70)
    report = leaving.report()
    assert code in {0, 75}, report
    assert report["balances"], report
    assert all(row["released_to"] for row in report["shards"]), report["shards"]
    seen.drains_s.append(took_s)
    seen.receipts.update(report["receipts"])
    granted = await all_tokens(staying, coming)
    # A token is the store's time of its grant in microseconds.
    seen.gaps_s += [granted[row["shard"]] / 1e6 - (wall_s + row["held_after_signal_ms"] / 1000) for row in report["shards"]]


async def test_deployments_lose_nothing_that_anybody_could_read(rig: Rig) -> None:
    rig.sink.identify = lambda event: str(event["raw"]["id"])
    server = await rig.redis()
    async with fake_gateway(Plan(gateway="waha")) as fake:
        for name in INSTANCES:
            fake.instances.make(name).pair("5511900000001")
        toml = file(fake, rig.sink.url("all"))

        def worker(revision: int) -> Worker:
            return rig.worker(toml, REDIS__URL=server.url, REGISTRY__REVISION=str(revision), **BUDGET)

        running = [worker(1), worker(1)]
        for one in running:
            await one.start()
        connected_s = await every_instance_is_read(fake)
        await until_shared(*running)
        seen = Seen()
        async with sending(fake, seen):
            for rotation in range(ROTATIONS):
                running = await rotate(running, worker(2 + rotation // 2), seen)
                await every_instance_is_read(fake)
        await everything_heard_arrives(rig, seen)
        for one in running:
            assert (await one.stop())[0] in {0, 75}
    report(rig, seen, connected_s)
    assert max(seen.moves) <= 1, "each shard moves once in a rotation"


async def rotate(old: list[Worker], coming: Worker, seen: Seen) -> list[Worker]:
    """One task of the two is replaced; two of these are a deployment."""
    leaving, staying = old
    before = grants(*old)
    await replace(leaving, staying, coming, seen)
    moved = grants(*old, coming)
    moved.subtract(before)
    seen.moves.append(max(moved.values()))
    return [staying, coming]


async def everything_heard_arrives(rig: Rig, seen: Seen) -> None:
    """A busy machine may have much to catch up with: what must not happen is that nothing more comes."""
    missing = len(seen.heard - rig.sink.got("all"))
    while missing:
        has_come_on = partial(has_fewer_missing, rig, seen, missing)
        await until(has_come_on, PATIENCE_S, f"everything that anybody could read arrives: {missing} are missing")
        missing = len(seen.heard - rig.sink.got("all"))


def has_fewer_missing(rig: Rig, seen: Seen, than: int) -> bool:
    return len(seen.heard - rig.sink.got("all")) < than


async def until_shared(*workers: Worker) -> None:
    """Each has its fair share, and the other is known to be there."""
    began_s = time.monotonic()
    while {len(await worker.shards()) for worker in workers} != {SHARDS // len(workers)}:
        assert time.monotonic() - began_s < PATIENCE_S, "the shards are shared"
        await anyio.sleep(0.05)


def report(rig: Rig, seen: Seen, connected_s: float) -> None:
    gaps_ms = [gap_s * 1000 for gap_s in seen.gaps_s]
    state(
        "rolling deployments on sockets",
        instances=len(INSTANCES),
        rotations=ROTATIONS,
        sent=len(seen.sent),
        nobody_read=len(seen.sent) - len(seen.heard),
        lost=len(seen.heard - rig.sink.got("all")),
        duplicates=len(rig.sink.repeated("all")),
        connected_s=connected_s,
        no_owner_median_ms=statistics.median(gaps_ms),
        no_owner_p90_ms=percentile(gaps_ms, 0.9),
        no_owner_worst_ms=max(gaps_ms),
        within_100_ms=sum(gap <= 100 for gap in gaps_ms) / len(gaps_ms),
        moves_at_most=max(seen.moves),
        drain_median_s=statistics.median(seen.drains_s),
        receipts=dict(seen.receipts),
    )
    if CHAOS:
        assert statistics.median(gaps_ms) <= 50
        assert sum(gap <= 100 for gap in gaps_ms) >= 0.9 * len(gaps_ms)
