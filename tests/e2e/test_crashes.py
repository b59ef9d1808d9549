"""Crashes under load: the worker killed again and again, its store killed again and again, its store away for a while.

What got its 2xx arrives. What arrives twice was under way at the crash, or had been answered after the last checkpoint.
"""

from __future__ import annotations

import os
import random
import signal
import time

import anyio
import pytest
from anyio import to_thread

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, Worker, children_of, command_of, declared, everything_arrives, pushing, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 3600))]

HOOKS = {"ok0": "ok", "ok1": "ok", "ok2": "slow-20", "ok3": "slow-50"}
"""The healthy ones, and how they answer."""
CHECKPOINT_S = 0.25
SAVING_S = 0.25 if CHAOS else 1.0
"""What saving the checkpoints of all shards may take: on a machine of its own, and beside other tests."""


INSTANCES = ("i", "i", "i", "i", "i", "i", "i", "bad")
"""One event in eight also goes to a webhook that hangs and to one that fails."""


def tempers(rig: Rig) -> list[Hook]:
    healthy = [Hook(name, rig.sink.url(name, mode), deadline_s=2) for name, mode in HOOKS.items()]
    return [
        *healthy,
        Hook("hang", rig.sink.url("hang", "hang"), ("bad",), deadline_s=2),
        Hook("fail", rig.sink.url("fail", "500"), ("bad",), deadline_s=2),
    ]


async def test_killed_again_and_again_it_loses_nothing_and_repeats_only_what_was_under_way(rig: Rig) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    hooks = tempers(rig)
    worker = rig.worker(declared(hooks, INSTANCES[-2:]))
    await worker.start()
    gateway = rig.gateway(worker)
    kills: list[float] = []
    in_flight = settled_lately = 0
    async with pushing(gateway, per_s=150, instances=INSTANCES):
        for _ in range(scaled(3, 30)):
            await anyio.sleep(chance.uniform(0.5, 2.5))
            in_flight += sum(rig.sink.in_flight[name] for name in HOOKS)
            killed_at_s = time.monotonic()
            worker.send(signal.SIGKILL)
            settled_lately += sum(arrived_after(rig, name, killed_at_s - CHECKPOINT_S - SAVING_S) for name in HOOKS)
            kills.append(killed_at_s)
            await worker.ended(10)
            await worker.start()
    healed_s = await everything_arrives(rig, gateway, hooks, scaled(60, 300))
    repeats = [arrived for name in HOOKS for arrived in rig.sink.repeated(name).values()]
    ages_s = [min(kill - arrived[0].at_s for kill in kills if kill > arrived[0].at_s - 0.05) for arrived in repeats]
    duplicates = sum(len(arrived) - 1 for arrived in repeats)
    state(
        "sigkill under load",
        kills=len(kills),
        accepted=len(gateway.accepted),
        lost=0,
        duplicates=duplicates,
        in_flight=in_flight,
        settled_since_checkpoint=settled_lately,
        oldest_repeat_s=max(ages_s, default=0.0),
        healed_s=healed_s,
    )
    assert duplicates <= in_flight + settled_lately, f"seed {seed}"
    assert max(ages_s, default=0.0) <= CHECKPOINT_S + SAVING_S, f"seed {seed}: a delivery answered long before the kill came again"
    assert (await worker.stop())[0] == 0


def arrived_after(rig: Rig, webhook: str, instant_s: float) -> int:
    return sum(arrived[-1].at_s >= instant_s for arrived in rig.sink.arrivals[webhook].values())


def server_of(worker: Worker) -> int | None:
    return next((pid for pid in children_of(worker.pid) if "redis-server" in command_of(pid)), None)


async def test_its_embedded_redis_killed_again_and_again_nothing_accepted_is_lost(rig: Rig) -> None:
    hooks = tempers(rig)
    worker = rig.worker(declared(hooks, INSTANCES[-2:]))
    await worker.start()
    gateway = rig.gateway(worker)
    back_s = []
    async with pushing(gateway, per_s=150, instances=INSTANCES):
        for _ in range(scaled(2, 5)):
            await anyio.sleep(1.5)
            server = server_of(worker)
            assert server is not None
            accepted = len(gateway.accepted)
            os.kill(server, signal.SIGKILL)
            await until(lambda server=server: server_of(worker) not in {None, server}, 10, "another server")  # type: ignore[misc]
            back_s.append(await until(lambda n=accepted: len(gateway.accepted) > n + 150, 30, "accepted again"))  # type: ignore[misc]
    healed_s = await everything_arrives(rig, gateway, hooks, scaled(60, 300))
    duplicates = sum(len(rig.sink.repeated(name)) for name in HOOKS)
    code, _ = await worker.stop()
    state(
        "embedded redis killed",
        kills=len(back_s),
        accepted=len(gateway.accepted),
        lost=0,
        duplicates=duplicates,
        back_s=max(back_s),
        healed_s=healed_s,
        answers=gateway.answers,
    )
    assert code == 0
    assert worker.report()["balances"]
    assert gateway.without_retry_after == 0


async def test_its_redis_away_for_a_while_it_refuses_lives_on_and_catches_up(rig: Rig) -> None:
    away_s = scaled(20, 60)
    redis = await rig.redis()
    hooks = tempers(rig)
    worker = rig.worker(declared(hooks, INSTANCES[-2:]), REDIS__URL=redis.url)
    await worker.start()
    gateway = rig.gateway(worker)
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        await until(lambda: len(gateway.accepted) > 200, 20, "accepted")
        await to_thread.run_sync(redis.stop)
        stopped_at_s = time.monotonic()
        before = dict(gateway.answers)
        while time.monotonic() - stopped_at_s < away_s:
            assert (await worker.get("/livez"))[0] == 200
            await anyio.sleep(0.5)
        assert gateway.answers.get(503, 0) > before.get(503, 0)
        assert {s: n for s, n in gateway.answers.items() if s not in {202, 503}} == {}
        await to_thread.run_sync(redis.start)
        accepted = len(gateway.accepted)
        back_s = await until(lambda: len(gateway.accepted) > accepted + 100, 30, "accepted again")
    caught_up_s = await everything_arrives(rig, gateway, hooks, scaled(60, 300))
    assert gateway.without_retry_after == 0
    repeats = {name: len(rig.sink.repeated(name)) for name in HOOKS}
    code, _ = await worker.stop()
    state(
        "redis away",
        away_s=away_s,
        accepted=len(gateway.accepted),
        lost=0,
        duplicates=repeats,
        back_s=back_s,
        caught_up_s=caught_up_s,
        answers=gateway.answers,
    )
    assert code == 0
    assert worker.report()["balances"]


async def test_told_to_go_while_its_redis_is_away_it_goes_in_time_and_the_next_one_has_everything(rig: Rig) -> None:
    budget_s = 8
    redis = await rig.redis()
    hooks = tempers(rig)
    worker = rig.worker(declared(hooks, INSTANCES[-2:]), REDIS__URL=redis.url, SHUTDOWN__BUDGET_S=str(budget_s))
    await worker.start()
    gateway = rig.gateway(worker)
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        await until(lambda: len(gateway.accepted) > 200, 20, "accepted")
        await to_thread.run_sync(redis.kill)
        code, took_s = await worker.stop()
        report = worker.report()
        await to_thread.run_sync(redis.start)
        await worker.start()
    healed_s = await everything_arrives(rig, gateway, hooks, 90)
    duplicates = sum(len(rig.sink.repeated(name)) for name in HOOKS)
    state(
        "drain without redis",
        exit_code=code,
        shutdown_s=took_s,
        accepted=len(gateway.accepted),
        lost=0,
        duplicates=duplicates,
        healed_s=healed_s,
    )
    assert code == 75, "leases were left to their time"
    assert took_s < budget_s + 2
    assert report["exit_code"] == 75
    assert (await worker.stop())[0] == 0
