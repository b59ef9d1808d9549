"""The incident of 2025-10-10, replayed: pictures that never come, a webhook that hangs for ever, a task rotated in the middle.

What broke that day: handlers stuck while pictures were fetched, one slow URL in everybody's way, a task torn down while events arrived
and receipts were still to be sent. What is asked here: nothing lost, nobody else later, no event that finds no handler, each receipt
accounted for.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import anyio
import orjson
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.incident_world import (
    KEPT,
    LOOK_EVERY_S,
    PATIENCE_S,
    PUSHED,
    TOLD,
    UNRECEIPTED,
    Gateways,
    Health,
    Slice,
    all_shards_owned,
    event_of,
    gateways,
    says,
    toml,
)
from tests.e2e.receiver import Receiver
from tests.e2e.rig import Hook, Rig, Worker, percentile, pushing, until
from tests.real_redis import RealRedis
from worker.fake_gateway.troubles import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(240, 3600))]

PUSHED_PER_S = scaled(40, 60)
EMITTED_PER_S = scaled(40, 60)
SLICE_S = scaled(2, 30)
ROTATIONS = scaled(1, 4)


@dataclass(slots=True)
class Seen:
    """Of all rotations."""

    quiet: Slice = field(default_factory=Slice)
    rotated: Slice = field(default_factory=Slice)
    troubled: Slice = field(default_factory=Slice)
    receipts: Counter[str] = field(default_factory=Counter)
    """On the ways down: `heard`, what the gateway told who left; `seen`, what it got from there; `sent`, `handed_over`, as reported."""
    pictures_in_vain: int = 0
    waiting_for_the_hung: int = 0


class Service:
    """Two workers behind a balancer, deployed anew again and again."""

    def __init__(self, rig: Rig, server: RealRedis, streams: Gateways, health: Health) -> None:
        self.rig = rig
        self.streams = streams
        self.health = health
        self.hooks = [
            Hook("told", rig.sink.url("told"), enrich=True),
            Hook("plain", rig.sink.url("plain")),
            Hook("hang", rig.sink.url("hang", "hang"), (*PUSHED[:4], *TOLD[:4], *KEPT[:4]), deadline_s=scaled(6, 30)),
        ]
        self.workers: list[Worker] = []
        self.lives: list[Worker] = []
        self.pushing = rig.gateway()
        self.pushing.name, self.pushing.make = "waha", says
        self._doors: dict[Worker, int] = {}
        self._settings = {"REDIS__URL": server.url, "REGISTRY__LEASE_TTL_S": "5", "SHUTDOWN__BUDGET_S": "8"}

    @classmethod
    async def started(cls, rig: Rig, streams: Gateways, health: Health) -> Self:
        """Both ready, every stream read, all webhooks well."""
        service = cls(rig, await rig.redis(), streams, health)
        rig.sink.identify = event_of
        rig.sink.heal()
        async with anyio.create_task_group() as starting:
            for _ in range(2):
                starting.start_soon(service.deploy, 1)
        await all_shards_owned(service.workers, at_most=8)
        await streams.all_read()
        return service

    async def deploy(self, revision: int) -> None:
        """One worker more, ready."""
        door = await self.streams.one_more_door()
        file = toml(self.hooks, self.streams.waha, door)
        worker = self.rig.worker(file, **self._settings, REGISTRY__REVISION=str(revision))
        await worker.start()
        self._doors[worker] = door
        self.workers.append(worker)
        self.lives.append(worker)
        self.pushing.workers = tuple(self.workers)
        self.health.watch(worker)

    async def settle(self) -> None:
        """Every shard is owned, and every stream is read."""
        await all_shards_owned(self.workers)
        await self.streams.all_read()

    async def rotate(self, seen: Seen, *, is_troubled: bool) -> None:
        """A deployment's step: a newer worker is ready and waits, then the one that has lived longest is told to go."""
        await self.deploy(len(self.lives))
        leaving = self.workers.pop(0)
        self.pushing.workers = tuple(self.workers)  # a balancer that saw /readyz turn
        self.health.excuse(leaving)
        await check_nothing_was_without_a_handler(leaving)
        seen.receipts += await self._leave(leaving, is_troubled=is_troubled)
        assert [line for line in leaving.lines() if line.get("level") in {"error", "critical"}] == []

    async def _leave(self, worker: Worker, *, is_troubled: bool) -> Counter[str]:
        """SIGTERM at an instant at which no receipt is on its way, so that the report can be held against the gateway's own count."""
        streams, door = self.streams, self._doors[worker]
        streams.is_keeper_still = True
        await until(lambda: not streams.owed(), PATIENCE_S, "everything is acknowledged")
        await receipts_rest(worker)
        before = Counter(heard=streams.heard_at[door], seen=streams.kept.receipts[door])
        if is_troubled:
            streams.keeper.trouble(f"POST /instances/{UNRECEIPTED}/events/ack", Kind.STATUS, times=None)
            for name in KEPT[10:]:
                streams.emit(name)
        await worker.start_draining(within_s=30)
        streams.is_keeper_still = False
        for name in KEPT * 3:
            streams.emit(name)
        assert await worker.ended(60) in {0, 75}
        report = worker.report()
        assert report["reason"] == "deployment"
        assert report["balances"]
        assert report["ledger"]["dead"] == 0
        counts = Counter(heard=streams.heard_at[door], seen=streams.kept.receipts[door])
        counts.subtract(before)
        counts.update(report["receipts"])
        assert counts["sent"] <= counts["seen"] <= counts["sent"] + counts["handed_over"], counts
        assert counts["sent"] + counts["handed_over"] == counts["heard"], counts
        return counts

    async def stretch(self, seen: Seen, into: Slice, *, is_rotated: bool, is_troubled: bool = False) -> None:
        """So many seconds of traffic, a worker rotated in the middle of them; at their end all of it has come to whoever answers."""
        began_s = time.monotonic()
        async with pushing(self.pushing, PUSHED_PER_S, PUSHED), self.streams.emitting(EMITTED_PER_S):
            await anyio.sleep(SLICE_S / 2)
            if is_rotated:
                await self.rotate(seen, is_troubled=is_troubled)
            await anyio.sleep(SLICE_S / 2)
        await self.settle()
        await self.all_has_come(self.hooks[:2])
        into.add(self.rig, self.pushing, self.streams, began_s)

    async def the_incident(self, seen: Seen) -> None:
        """The same in trouble."""
        self.rig.sink.is_healed = False
        troubles = self.streams.trouble()
        await self.stretch(seen, seen.troubled, is_rotated=True, is_troubled=True)
        waiting = len(self.missing(self.hooks[2]))
        assert waiting > 0, "a webhook hangs"
        seen.waiting_for_the_hung += waiting
        seen.pictures_in_vain += sum(trouble.seen for trouble in troubles)
        self.rig.sink.heal()
        self.streams.clear()

    def missing(self, hook: Hook) -> set[str]:
        """Events that have to arrive there and have not: of the gateway that pushes, what was accepted."""
        pushed = self.pushing.accepted_for([name for name in hook.instances if name in PUSHED])
        return (pushed - self.rig.sink.got(hook.name)) | self.streams.missing(self.rig, hook)

    async def all_has_come(self, hooks: list[Hook]) -> None:
        """A busy machine may have much to catch up with: what must not happen is that nothing more comes."""
        fewest, since_s = math.inf, time.monotonic()
        while missing := {hook.name: len(self.missing(hook)) for hook in hooks if self.missing(hook)}:
            if sum(missing.values()) < fewest:
                fewest, since_s = sum(missing.values()), time.monotonic()
            assert time.monotonic() - since_s < PATIENCE_S, f"nothing more comes, and there are missing: {missing}"
            await anyio.sleep(LOOK_EVERY_S)

    async def everything_comes_to_rest(self) -> float:
        """All webhooks well: all arrives, all is acknowledged. Answers after how long."""
        began_s = time.monotonic()
        await self.all_has_come(self.hooks)
        await until(lambda: not self.streams.owed(), PATIENCE_S, "everything is acknowledged")
        return time.monotonic() - began_s

    async def stop(self) -> None:
        self.health.excuse(*self.workers)
        for worker in self.workers:
            await check_nothing_was_without_a_handler(worker)
        for worker in self.workers:
            assert (await worker.stop())[0] in {0, 75}


async def receipts_rest(worker: Worker) -> None:
    """What the gateway has answered is counted: the count stands still."""
    told: list[dict[str, int]] = []
    while len(told) < 2 or told[-1] != told[-2]:
        told.append((await worker.status())["sockets"]["receipts"])
        await anyio.sleep(0.1)


async def check_nothing_was_without_a_handler(worker: Worker) -> None:
    """No event that nobody wanted, none given up, none whose attempt failed inside."""
    assert await worker.metric("event_integration_unrouted_total") == 0
    assert await worker.metric("dead_letters_total") == 0
    assert worker.lines("attempt_failed_inside") + worker.lines("contact_not_told") + worker.lines("contact_not_looked_up") == []


async def test_pictures_that_never_come_and_a_webhook_that_hangs_cost_nobody_an_event_nor_another_webhook_its_time(rig: Rig) -> None:
    seen = Seen()
    async with gateways() as streams, anyio.create_task_group() as watching:
        health = Health(watching)
        service = await Service.started(rig, streams, health)
        for _ in range(ROTATIONS):
            await service.stretch(seen, seen.quiet, is_rotated=False)
            await service.stretch(seen, seen.rotated, is_rotated=True)
            await service.the_incident(seen)
        healed_s = await service.everything_comes_to_rest()
        tell(service, seen, healed_s)
        await service.stop()
    assert seen.pictures_in_vain > 0, "pictures were asked for while nobody answered"
    assert seen.receipts["handed_over"] > 0, "somebody left while receipts were owed"
    assert health.unhealthy == {}
    assert health.answers["/readyz", 200] > 0
    assert rig.sink.repeated("plain") == rig.sink.repeated("told") == {}
    assert rig.sink.forged == 0


def tell(service: Service, seen: Seen, healed_s: float) -> None:
    sink, streams, plain_s = service.rig.sink, service.streams, seen.troubled.p99_s("plain")
    ratio = plain_s / seen.rotated.p99_s("plain")
    state(
        "the incident replayed",
        pushed=len(service.pushing.accepted),
        emitted=len(streams.sent),
        nobody_read=sum(not sent.must_arrive for sent in streams.sent.values()),
        lost=0,
        duplicates={hook.name: len(sink.repeated(hook.name)) for hook in service.hooks},
        rotations=2 * ROTATIONS,
        receipts=dict(seen.receipts),
        pictures_in_vain=seen.pictures_in_vain,
        waiting_for_the_hung=seen.waiting_for_the_hung,
        health={f"{page} {status}": count for (page, status), count in sorted(service.health.answers.items())},
        p99_plain_quiet_ms=seen.quiet.p99_s("plain") * 1000,
        p99_plain_rotated_ms=seen.rotated.p99_s("plain") * 1000,
        p99_plain_in_trouble_ms=plain_s * 1000,
        ratio=ratio,
        p50_told_in_trouble_ms=percentile(seen.troubled.of["told"], 0.5) * 1000,
        p99_told_in_trouble_ms=seen.troubled.p99_s("told") * 1000,
        healed_s=healed_s,
    )
    if CHAOS:
        assert ratio <= 1.2
        assert seen.troubled.p99_s("told") <= plain_s + 0.3


async def test_a_webhook_is_told_the_picture_that_its_gateway_knows_and_the_gateway_is_asked_once(rig: Rig) -> None:
    """Through two lives of a worker: the second knows from the store what the first one asked."""
    async with gateways() as streams, Receiver() as receiver:
        hooks = [Hook("told", receiver.url("told"), enrich=True), Hook("plain", receiver.url("plain"))]
        worker = rig.worker(toml(hooks, streams.waha, await streams.one_more_door()))
        pushed = rig.gateway(worker)
        pushed.name, pushed.make = "waha", partial(says, digits="5511900000001")
        for life in (1, 2):
            await worker.start()
            await pushed.push(pushed.fresh(), PUSHED[1])
            await until(lambda life=life: len(receiver.arrived) == 2 * life, 20, "both webhooks got it")  # type: ignore[misc]
            await worker.stop()
    bodies: list[tuple[str, dict[str, Any]]] = [(arrived.webhook, orjson.loads(arrived.body)) for arrived in receiver.arrived]
    told = [body["contact"] for webhook, body in bodies if webhook == "told"]
    assert told[-1] == {"name": "Ana", "picture_url": "https://pps.example.com/5511900000001@c.us.jpg"}
    assert told[0] in (told[-1], {"name": "Ana", "picture_url": None}), "in time, or without"
    assert not any("contact" in body for webhook, body in bodies if webhook == "plain")
    assert streams.waha.requests["GET /api/contacts/profile-picture"] == 1
    assert receiver.forged == 0
