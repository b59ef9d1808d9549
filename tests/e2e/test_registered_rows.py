"""Two real workers on one Redis follow what is registered at run time: while they run, and after everything was killed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import anyio
import pytest
from anyio import to_thread

from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, until
from tests.e2e.sink import SECRET
from tests.real_redis import RealRedis
from worker.adapters.redis_store import open_redis_store
from worker.directory.port import Directory, Kind, Revision
from worker.domain.catalog import Instance, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

NEW = Revision(0)
LATE = TenantId("late")
PHONE = Instance(id=InstanceId("late-phone"), tenant_id=LATE, gateway="generic", gateway_instance="phone")
LEASE_TTL_S = 5
PATIENCE_S = 30
"""For a machine that is busy with everything else; how long it took is among the figures."""


class Place(NamedTuple):
    """`directory`: as a third worker has it. `hook` is registered, at revision `written`."""

    redis: RealRedis
    workers: list[Worker]
    gateway: Gateway
    directory: Directory
    hook: Webhook
    written: Revision

    async def pushed(self, instance: str, count: int = 20) -> set[str]:
        """That many events, accepted."""
        events = {self.gateway.fresh() for _ in range(count)}
        for event in events:
            await self.gateway.push(event, instance)
        return events


@asynccontextmanager
async def late_tenant(rig: Rig) -> AsyncIterator[Place]:
    """Two workers with one tenant in their file run; another tenant, its instance and its webhook come while they do."""
    redis = await rig.redis()
    file = declared([Hook("declared", rig.sink.url("declared"))])
    workers = [rig.worker(file, REDIS__URL=redis.url, REGISTRY__LEASE_TTL_S=str(LEASE_TTL_S)) for _ in range(2)]
    for worker in workers:
        await worker.start()
    async with open_redis_store(redis.url, shards=16) as store:
        hook = Webhook(id=WebhookId("hook"), tenant_id=LATE, url=rig.sink.url("first"), secrets=(SECRET,))
        written = await store.directory.put(hook, expected=NEW)
        await store.directory.put(Tenant(id=LATE), expected=NEW)
        await store.directory.put(PHONE, expected=NEW)
        yield Place(redis, workers, rig.gateway(*workers), store.directory, hook, written)


async def test_two_workers_follow_what_is_registered_moved_and_removed(rig: Rig) -> None:
    async with late_tenant(rig) as place:
        events = await place.pushed(PHONE.id)  # at once: who has not heard of the instance asks the store
        await until(lambda: events <= rig.sink.got("first"), PATIENCE_S, "what a registered instance sends reaches a registered webhook")

        moved_at = await place.directory.put(replace(place.hook, url=rig.sink.url("second")), expected=place.written)
        await until_heard(place, lambda told: told["revision"] >= moved_at)
        moved = await place.pushed(PHONE.id)
        await until(lambda: moved <= rig.sink.got("second"), PATIENCE_S, "attempts go to the new address")
        assert not moved & rig.sink.got("first")

        assert await place.directory.remove(Kind.WEBHOOK, place.hook.id, LATE)
        await until_heard(place, lambda told: told["registered"] == 2)
        asked = rig.sink.asked["second"]
        await place.pushed(PHONE.id)
        others = await place.pushed("i")
        await until(lambda: others <= rig.sink.got("declared"), PATIENCE_S, "others go on")
        assert rig.sink.asked["second"] == asked, "nothing is routed to a webhook that is gone"
    for worker in place.workers:
        assert (await worker.status())["directory"]["registered"] == 2
        assert (await worker.stop())[0] == 0


async def test_what_was_registered_is_known_after_every_process_was_killed(rig: Rig) -> None:
    async with late_tenant(rig) as place:
        await until_heard(place, lambda told: told["registered"] == 3)
        for worker in place.workers:
            await worker.kill()
        await to_thread.run_sync(place.redis.kill)
        await to_thread.run_sync(place.redis.start)
        for worker in place.workers:
            await worker.start()
        await until_heard(place, lambda told: told["registered"] == 3)
        events = await place.pushed(PHONE.id)
        await until(lambda: events <= rig.sink.got("first"), 3 * LEASE_TTL_S + PATIENCE_S, "it is served as before")


async def until_heard(place: Place, has_heard: Callable[[dict[str, Any]], bool]) -> None:
    """By each worker, as far as its `/status` tells of the directory."""
    began_s = time.monotonic()
    for worker in place.workers:
        while not has_heard((await worker.status())["directory"]):
            assert time.monotonic() - began_s < PATIENCE_S, "news of the directory reach every worker"
            await anyio.sleep(0.02)
    state("news of the directory", heard_within_ms=(time.monotonic() - began_s) * 1000)
