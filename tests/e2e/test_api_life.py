"""The API over the life of a worker: before its store is open, while it drains, and what a drain leaves to read."""

from __future__ import annotations

from contextlib import suppress

import aiohttp
import anyio
import pytest
from anyio import to_thread

from tests.e2e.rig import Hook, Rig, Worker, declared

pytestmark = pytest.mark.anyio

ADMIN_KEY = "the-operator-of-these-tests"


async def ask(rig: Rig, worker: Worker, path: str) -> tuple[int, dict[str, object], str | None]:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "X-Tenant-Id": "t"}
    async with rig.session.get(worker.url + path, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers.get("Retry-After")


async def answers(rig: Rig, worker: Worker, path: str) -> None:
    """Returns once it does with 200."""
    with anyio.fail_after(20):
        while True:
            with suppress(aiohttp.ClientError):
                if (await ask(rig, worker, path))[0] == 200:
                    return
            await anyio.sleep(0.02)


async def test_until_the_store_is_there_the_api_says_that_it_starts(rig: Rig) -> None:
    redis = await rig.redis()
    await to_thread.run_sync(redis.stop)
    worker = rig.worker(declared([]), REDIS__URL=redis.url, HTTP__ADMIN_KEY=ADMIN_KEY)
    await worker.launch()
    await answers(rig, worker, "/livez")
    status, body, retry_after = await ask(rig, worker, "/api/tenants")
    assert (status, body["error"]["code"], retry_after) == (503, "STARTING", "1")  # type: ignore[index]
    await to_thread.run_sync(redis.start)
    await answers(rig, worker, "/api/tenants")


async def test_a_draining_worker_answers_and_its_report_is_there_for_the_next(rig: Rig) -> None:
    hook = Hook("slow", rig.sink.url("slow", "slow-2000"))
    redis = await rig.redis()
    worker = rig.worker(declared([hook]), REDIS__URL=redis.url, HTTP__ADMIN_KEY=ADMIN_KEY)
    await worker.start()
    await rig.gateway(worker).push_many(3)
    await worker.start_draining()
    assert (await ask(rig, worker, "/api/webhooks"))[0] == 200
    assert (await ask(rig, worker, "/api/drains"))[1]["data"] == {"drains": []}
    code = await worker.ended(40)
    [reported] = worker.lines("drain report")
    successor = rig.worker(declared([hook]), REDIS__URL=redis.url, HTTP__ADMIN_KEY=ADMIN_KEY)
    await successor.start()
    _, body, _ = await ask(rig, successor, "/api/drains")
    [kept] = body["data"]["drains"]  # type: ignore[index]
    assert kept["owner"] == worker.lines("worker_starts")[0]["owner"]
    assert kept["report"] | {"message": "drain report"} == reported
    assert kept["report"]["exit_code"] == code


async def test_a_store_that_is_away_at_the_end_costs_the_kept_report_and_nothing_else(rig: Rig) -> None:
    redis = await rig.redis()
    worker = rig.worker(declared([]), REDIS__URL=redis.url, HTTP__ADMIN_KEY=ADMIN_KEY, SHUTDOWN__BUDGET_S="6")
    await worker.start()
    await to_thread.run_sync(redis.kill)
    await worker.stop(within_s=30)
    assert worker.report()["exit_code"] != 124
    assert worker.lines("drain_report_not_kept")
