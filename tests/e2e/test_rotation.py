"""Why a worker was stopped, as its report says it: real processes, and an ECS agent of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from tests.contract.serving import serving
from tests.e2e.rig import Rig, Worker, declared, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

FAMILY = "whatsapp-worker"


class Agent:
    """Tells each task who it is: `/<name>/<revision>/task`. Those in `stopped` are told to stop."""

    def __init__(self) -> None:
        self.url = ""
        self.stopped: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        _, name, revision, page = request.path.split("/")
        assert page == "task"
        return web.json_response(
            {
                "TaskARN": arn(name),
                "Family": FAMILY,
                "Revision": revision,
                "DesiredStatus": "STOPPED" if name in self.stopped else "RUNNING",
                "AvailabilityZone": "sa-east-1a",
                "Cluster": "default",
                "ServiceName": "workers",
                "ClockDrift": {"ClockErrorBound": 0.5},
            }
        )


def arn(name: str) -> str:
    return f"arn:aws:ecs:sa-east-1:111122223333:task/default/{name}"


@asynccontextmanager
async def ecs_agent() -> AsyncIterator[Agent]:
    agent = Agent()
    async with serving(agent.answer) as agent.url:
        yield agent


def task(rig: Rig, redis_url: str, agent_url: str, name: str, revision: int) -> Worker:
    worker = rig.worker(declared([]), REDIS__URL=redis_url)
    worker.more_environment = {"ECS_CONTAINER_METADATA_URI_V4": f"{agent_url}/{name}/{revision}"}
    return worker


async def why(worker: Worker) -> dict[str, Any]:
    """SIGTERM, and the part of the report that says why."""
    assert (await worker.stop())[0] == 0
    report = worker.report()
    [line] = worker.lines("rotation")
    assert {name: line[name] for name in ("reason", "reason_source")} == {name: report[name] for name in ("reason", "reason_source")}
    return {name: report[name] for name in ("reason", "reason_source", "task_arn", "family", "revision", "successor")}


async def heir_of(leaving: Worker, heir: Worker) -> str:
    """The heir's name, once who leaves has heard of it."""
    owner = str((await heir.get("/rolez"))[1]["owner"])
    for _ in range(600):
        if any(row["owner"] == owner and row["ready"] for row in (await leaving.status())["workers"]):
            return owner
        await anyio.sleep(0.05)
    raise AssertionError(f"not heard of within 30 s: {owner}")


async def told_of_a_drain(worker: Worker) -> dict[str, Any]:
    """Its `/status`, once it has read what who left has written."""
    for _ in range(600):
        page = await worker.status()
        if page["last_drain"] is not None:
            return page
        await anyio.sleep(0.05)
    raise AssertionError("no drain was heard of within 30 s")


async def test_ecs_tasks_say_whether_they_were_deployed_away_replaced_or_scaled_in(rig: Rig) -> None:
    server = await rig.redis()
    async with ecs_agent() as agent:
        old, new = (task(rig, server.url, agent.url, *who) for who in (("old", 7), ("new", 8)))
        await old.start()
        await new.start()
        assert await new.metric("worker_clock_error_seconds") == 0.0005
        agent.stopped = {"old"}
        heir = await heir_of(old, new)
        told = {"reason_source": "membership", "family": FAMILY}
        assert await why(old) == {**told, "reason": "deployment", "task_arn": arn("old"), "revision": 7, "successor": heir}
        page = await told_of_a_drain(new)
        drain = page["last_drain"]
        assert (drain["reason"], drain["successor"], drain["exit_code"]) == ("deployment", heir, 0)
        assert (page["ecs"]["arn"], page["ecs"]["zone"], page["ecs"]["clock_error_ms"]) == (arn("new"), "sa-east-1a", 0.5)
        twin = task(rig, server.url, agent.url, "twin", 8)
        await twin.start()
        agent.stopped |= {"new"}
        heir = await heir_of(new, twin)
        assert await why(new) == {**told, "reason": "replacement", "task_arn": arn("new"), "revision": 8, "successor": heir}
        agent.stopped |= {"twin"}
        assert await why(twin) == {**told, "reason": "scale_in", "task_arn": arn("twin"), "revision": 8, "successor": None}


async def test_a_revision_that_is_set_orders_deployments_where_there_is_no_ecs(rig: Rig) -> None:
    server = await rig.redis()
    old, new = (rig.worker(declared([]), REDIS__URL=server.url, REGISTRY__REVISION=revision) for revision in ("1", "2"))
    await old.start()
    await new.start()
    heir = await heir_of(old, new)
    nowhere = {"reason_source": "membership", "task_arn": None, "family": ""}
    assert await why(old) == {**nowhere, "reason": "deployment", "revision": 1, "successor": heir}
    assert await why(new) == {**nowhere, "reason": "scale_in", "revision": 2, "successor": None}


async def test_a_worker_nobody_manages_was_stopped_locally(rig: Rig) -> None:
    worker = rig.worker(declared([]))
    await worker.start()
    assert await why(worker) == {
        "reason": "local",
        "reason_source": "membership",
        "task_arn": None,
        "family": "",
        "revision": 0,
        "successor": None,
    }


async def test_a_silent_agent_costs_a_second_and_one_line(rig: Rig) -> None:
    """At the start; what is asked again at the signal is as bounded, and the drain does not wait for it."""
    server = await rig.redis()
    asked: list[str] = []

    async def hangs(request: web.Request) -> web.Response:
        asked.append(request.path)
        await anyio.sleep_forever()
        raise AssertionError

    async with serving(hangs) as url:
        worker = task(rig, server.url, url, "silent", 3)
        await worker.start()
        assert asked == ["/silent/3/task"]
        assert [line["cause"] for line in worker.lines("ecs_metadata_unknown")] == ["no answer within 1 s"]
        report = await why(worker)
        await until(lambda: len(asked) == 2, 30, "asked again at the signal")
    assert (report["reason"], report["task_arn"], report["revision"]) == ("scale_in", None, 0)
