"""Deadlines of attempts, kept to the moment at every stage an endpoint can hang in: through the transport, and in the real process.

A body is no such stage: an answer counts at its status line, and a body that does not end is cut after a second.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import anyio
import pytest

from tests.conftest import CHAOS, UVLOOP, scaled
from tests.contract import hostile_endpoint as hostile
from tests.contract.transport_worlds import Sockets
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, declared, until
from worker.domain.deadline import Deadline
from worker.event_integration.transport import Cause, Failure, Request, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DEADLINES_S = (1, scaled(2, 30))
LATE_S = 0.05 if CHAOS else 1.0
"""What the issue allows on a machine of its own, and what a busy one needs."""
HANGS = {
    Stage.DNS: "name server that is silent",
    Stage.CONNECT: "backlog that is full",
    Stage.TLS: "hello that is not answered",
    Stage.SEND: "body that is not read",
    Stage.FIRST_BYTE: "request that is not answered",
}


@pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])
async def test_an_attempt_ends_at_its_deadline_in_whatever_stage_it_hangs(anyio_backend: object) -> None:
    late_ms: dict[str, float] = {}

    async def attempt(world: Sockets, stage: Stage, url: str, deadline_s: float) -> None:
        body = b"x" * 16_000_000 if stage is Stage.SEND else b"{}"
        deadline = Deadline(name="webhook_attempt", at_s=anyio.current_time() + deadline_s)
        failure = await world.transport.deliver(Request(url=url, headers={}, body=body), deadline)
        late_ms[f"{stage} {deadline_s}s"] = (anyio.current_time() - deadline.at_s) * 1000
        assert isinstance(failure, Failure)
        assert (failure.stage, failure.cause) == (stage, Cause.TIMEOUT)

    async with AsyncExitStack() as stack:
        world = Sockets(stack)
        stack.push_async_callback(world.transport.close)
        urls = {(stage, deadline_s): await world.url(behaviour) for stage, behaviour in HANGS.items() for deadline_s in DEADLINES_S}
        async with anyio.create_task_group() as attempts:
            for (stage, deadline_s), url in urls.items():
                attempts.start_soon(attempt, world, stage, url, deadline_s)
    state("deadline kept, ms late", **late_ms)
    assert len(late_ms) == len(HANGS) * len(DEADLINES_S)
    assert all(-10 <= late <= LATE_S * 1000 for late in late_ms.values()), late_ms


async def test_in_the_real_process_too_and_its_metrics_name_the_stage(rig: Rig) -> None:
    short_s, long_s = DEADLINES_S
    with hostile.full_backlog() as unaccepting, hostile.deaf() as deaf:
        hooks = [
            Hook("connect", f"http://127.0.0.1:{unaccepting}/", deadline_s=short_s),
            Hook("tls", f"https://127.0.0.1:{deaf}/", deadline_s=short_s),
            Hook("short", rig.sink.url("short", "hang"), deadline_s=short_s),
            Hook("long", rig.sink.url("long", "hang"), deadline_s=long_s),
            Hook("drip", rig.sink.url("drip", "drip"), deadline_s=long_s),
        ]
        # One attempt each within the test's time.
        worker = rig.worker(declared(hooks), DELIVERY__RETRY_SCHEDULE_S="[3600]")
        await worker.start()
        gateway = rig.gateway(worker)
        await gateway.push("E1")
        pushed_at_s = time.monotonic()
        await until(lambda: bool(rig.sink.hung_for_s["long"]), long_s + 10, "the long one ends")
        await anyio.sleep(max(0.0, pushed_at_s + 2.5 - time.monotonic()))
        stages = {
            stage: await worker.metric("event_integration_deadline_exceeded_total", stage=stage)
            for stage in ("connect", "tls", "first_byte")
        }
        delivered = await worker.metric("webhook_attempts_total", webhook="drip", outcome="delivered")
        code, _ = await worker.stop()
    [short], [long] = rig.sink.hung_for_s["short"], rig.sink.hung_for_s["long"]
    state("deadline in the process, ms late", short=(short - short_s) * 1000, long=(long - long_s) * 1000, by_stage=stages)
    assert stages == {"connect": 1, "tls": 1, "first_byte": 2}
    assert short - short_s <= LATE_S
    assert long - long_s <= LATE_S
    assert (delivered, len(rig.sink.arrivals["drip"]["E1"])) == (1, 1)
    assert rig.sink.in_flight["drip"] == 0, "a body without end is cut"
    assert code == 0
