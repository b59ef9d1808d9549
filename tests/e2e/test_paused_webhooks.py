"""A webhook is paused for thousands of events and resumed: all arrive, nobody else noticed, its tenant alone is refused at its share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import aiohttp
import anyio
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, Worker, everything_arrives, percentile, pushing, until
from tests.e2e.sink import SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(150, 1_200))]

EVENTS = scaled(2_000, 10_000)
SHARE = 0.25
BEYOND = EVENTS // 4
"""How many more than those fit into the tenant's share."""
PER_S = scaled(40, 100)
ADMIN_KEY = "the-operator-of-this-test-0123456789"


def two_tenants(hooks: Sequence[Hook]) -> str:
    """Each webhook with a tenant and an instance of its own, all of one name."""
    lines = []
    for hook in hooks:
        lines += ["[[tenants]]", f'id = "{hook.name}"']
        lines += ["[[instances]]", f'id = "{hook.name}"', f'tenant_id = "{hook.name}"', 'gateway = "generic"']
        lines += ["[[webhooks]]", f'id = "{hook.name}"', f'tenant_id = "{hook.name}"', f'url = "{hook.url}"', f'secrets = ["{SECRET}"]']
    return "\n".join(lines) + "\n"


async def call(worker: Worker, session: aiohttp.ClientSession, method: str, path: str, tenant: str, body: Any = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "x-tenant-id": tenant}
    async with session.request(method, worker.url + path, json=body, headers=headers) as answer:
        told = await answer.json()
        assert answer.status < 300, told
        return dict(told["data"])


async def latencies(rig: Rig, gateway: Gateway, quiet: Hook, meanwhile: Callable[[], Awaitable[object]]) -> list[float]:
    """Of the quiet webhook's events, from the push to the arrival, while something else goes on."""
    began_s = time.monotonic()
    async with pushing(gateway, PER_S, quiet.instances):
        await meanwhile()
    mine = [event for event in gateway.accepted_for(quiet.instances) if gateway.pushed_at_s.get(event, 0) >= began_s]
    await until(lambda: all(event in rig.sink.arrivals[quiet.name] for event in mine), scaled(60, 300), "the quiet one has all of its own")
    return [rig.sink.arrivals[quiet.name][event][0].at_s - gateway.pushed_at_s[event] for event in mine]


async def test_a_pause_loses_nothing_and_nobody_else_notices(rig: Rig) -> None:
    loud, quiet = (Hook(name, rig.sink.url(name), (name,)) for name in ("loud", "quiet"))
    worker = rig.worker(
        two_tenants([loud, quiet]),
        HTTP__ADMIN_KEY=ADMIN_KEY,
        JOURNAL__MAX_BACKLOG_EVENTS=str(int((EVENTS + BEYOND) / SHARE)),
        JOURNAL__MAX_BACKLOG_SHARE_PER_TENANT=str(SHARE),
    )
    await worker.start()
    gateway = rig.gateway(worker)
    push_many = partial(gateway.push_many, EVENTS, loud.instances)
    before = await latencies(rig, gateway, quiet, push_many)
    await until(lambda: gateway.accepted_for(loud.instances) <= rig.sink.got("loud"), 60, "the loud one got all that came before")
    received = len(rig.sink.got("loud"))

    told = await call(worker, rig.session, "POST", "/api/webhooks/loud/pause", "loud")
    assert told["paused"]
    during = await latencies(rig, gateway, quiet, push_many)
    assert len(rig.sink.got("loud")) == received
    refused = await full_at_its_share(rig, worker, gateway)
    assert len(rig.sink.got("loud")) == received
    resumed_s = time.monotonic()
    await call(worker, rig.session, "POST", "/api/webhooks/loud/resume", "loud")
    after = await latencies(rig, gateway, quiet, partial(all_that_waited_arrives, rig, len(gateway.accepted_for(loud.instances))))
    released_in_s = time.monotonic() - resumed_s
    await everything_arrives(rig, gateway, [loud, quiet], 10)
    p99_ms = {name: percentile(some, 0.99) * 1000 for name, some in (("before", before), ("paused", during), ("released", after))}
    ratio = max(p99_ms["paused"], p99_ms["released"]) / p99_ms["before"]
    state("pause", events=EVENTS, p99_ms=p99_ms, ratio=ratio, refused_at=refused, released_in_s=released_in_s)
    assert not rig.sink.repeated("loud")
    assert not rig.sink.repeated("quiet")
    assert ratio <= 1.2 or not CHAOS
    attempts = (await call(worker, rig.session, "GET", "/api/webhooks/loud/attempts", "loud"))["attempts"]
    assert [one["status"] for one in attempts] == [200] * 100
    code, _ = await worker.stop()
    assert code == 0
    assert worker.report()["balances"]


async def all_that_waited_arrives(rig: Rig, expected: int) -> None:
    """Counted, not compared: this process is the receiver too, and looks a hundred times a second."""
    await until(lambda: len(rig.sink.arrivals["loud"]) >= expected, scaled(90, 600), "all that waited arrives")


async def full_at_its_share(rig: Rig, worker: Worker, gateway: Gateway) -> int:
    """Pushes for the paused webhook until its tenant is refused, while the other one is not. Answers how many events waited then."""

    async def is_refused(instance: str) -> bool:
        event = gateway.fresh()
        body = b'{"type": "message", "message_ids": ["%s"]}' % event.encode()
        async with rig.session.post(f"{worker.url}/ingest/generic/{instance}", data=body) as answer:
            if answer.status == 202:
                gateway.accepted[event] = time.monotonic()
                gateway.instance_of[event] = instance
                return False
            assert (answer.status, (await answer.json())["code"]) == (503, "TENANT_BACKLOG_FULL")
            assert "retry-after" in answer.headers
            return True

    with anyio.fail_after(60):
        while not await is_refused("loud"):
            assert not await is_refused("quiet")
    assert not await is_refused("quiet")
    waiting = (await worker.status())["door"]["waiting_events"]
    assert waiting >= EVENTS
    return int(waiting)
