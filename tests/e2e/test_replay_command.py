"""What died is brought back by one command: a real worker, its API, and `whatsapp-worker replay` beside it."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.e2e.rig import AT_A_TERMINAL, Hook, Rig, Worker, declared, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

KEY = "the operator's key of this test"
DIES_SOON = "[0.2]"
"""Two attempts, then dead."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as it:
        yield it


async def worker_of(rig: Rig, *hooks: Hook, **settings: str) -> Worker:
    worker = rig.worker(declared(hooks, ("i", "quiet")), HTTP__ADMIN_KEY=KEY, DELIVERY__RETRY_SCHEDULE_S=DIES_SOON, **settings)
    await worker.start()
    return worker


async def api(rig: Rig, worker: Worker, path: str) -> Any:
    async with rig.session.get(worker.url + path, headers={"authorization": f"Bearer {KEY}", "x-tenant-id": "t"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def letters(rig: Rig, worker: Worker) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await api(rig, worker, f"/api/dead-letters?limit=100{cursor}")
        rows += page["data"]["deadLetters"]
        if page["meta"]["nextCursor"] is None:
            return rows
        cursor = f"&cursor={page['meta']['nextCursor']}"


async def eventually(probe: Callable[[], Awaitable[bool]], what: str) -> None:
    """Asks the worker again and again: it tells nobody when something has been written."""
    for _ in range(300):
        if await probe():
            return
        await anyio.sleep(0.1)
    raise AssertionError(f"not within 30 s: {what}")


async def all_died(rig: Rig, worker: Worker, count: int) -> list[dict[str, Any]]:
    async def is_so() -> bool:
        return len(await letters(rig, worker)) >= count

    await eventually(is_so, f"{count} dead letters")
    return await letters(rig, worker)


async def command(worker: Worker, *words: str, key: str | None = KEY) -> tuple[int, str, str]:
    """Exit code, stdout, stderr. The admin key comes from the environment, as the worker's own does."""
    environment = {name: value for name, value in worker.environment.items() if name != "WORKER_HTTP__ADMIN_KEY"}
    if key is not None:
        environment["WORKER_HTTP__ADMIN_KEY"] = key
    with anyio.fail_after(60):
        ended = await anyio.run_process([sys.executable, "-m", "worker", "replay", *words], env=environment, check=False)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_what_died_while_an_endpoint_failed_is_brought_back_by_one_command(rig: Rig) -> None:
    worker = await worker_of(rig, Hook("crm", rig.sink.url("crm", "500")))
    gateway = rig.gateway(worker)
    await gateway.push_many(2)
    assert len(await all_died(rig, worker, 2)) == 2
    rig.sink.heal()
    code, told, faults = await command(worker, "--tenant", "t", "--rate", "200")
    assert (code, faults) == (0, "")
    assert told.splitlines()[-1] == "2 replayed, 0 skipped"
    await until(lambda: rig.sink.got("crm") == set(gateway.accepted), 30, "all arrive")
    assert await letters(rig, worker) == []
    assert await command(worker, "--tenant", "t") == (0, "0 replayed, 0 skipped (100%)\n0 replayed, 0 skipped\n", "")


async def test_the_past_of_one_webhook_is_given_to_it_again(rig: Rig) -> None:
    worker = await worker_of(rig, Hook("crm", rig.sink.url("crm")))
    gateway = rig.gateway(worker)
    await gateway.push_many(40)
    await until(lambda: rig.sink.got("crm") == set(gateway.accepted), 30, "all arrive")

    async def journal_is_done() -> bool:
        return int((await worker.status())["door"]["waiting_events"]) == 0

    await eventually(journal_is_done, "nothing waits")
    code, told, faults = await command(
        worker, "--events", "--webhook", "crm", "--since", "2026-01-01T00:00:00Z", "--tenant", "t", "--rate", "500"
    )
    assert (code, faults) == (0, "")
    assert told.splitlines()[-1] == "40 replayed, 0 skipped"
    await until(lambda: len(rig.sink.repeated("crm")) == 40, 30, "all came twice")


async def test_the_timeline_of_an_event_tells_how_it_died(rig: Rig) -> None:
    worker = await worker_of(rig, Hook("bad", rig.sink.url("bad", "503")), Hook("crm", rig.sink.url("crm")))
    await rig.gateway(worker).push_many(1)
    [letter] = await all_died(rig, worker, 1)
    event: dict[str, Any] = {}

    async def attempts_are_logged() -> bool:
        event.update((await api(rig, worker, f"/api/events/{letter['eventKey']}"))["data"])
        return all(len(one["log"]) == one["attempts"] for one in event["deliveries"])

    await eventually(attempts_are_logged, "the attempts log, written each second")
    assert event["acceptedAt"] == letter["receivedAt"]
    assert event["journaled"]["position"] == 1
    bad, crm = event["deliveries"]
    assert (bad["webhookId"], bad["state"], bad["attempts"], bad["reason"]) == ("bad", "dead", 2, "attempts_exhausted")
    assert [(one["attempt"], one["status"]) for one in bad["log"]] == [(2, 503), (1, 503)]
    assert (crm["state"], crm["attempts"]) == ("delivered", 1)
    shown = (await api(rig, worker, f"/api/dead-letters/{letter['id']}"))["data"]
    assert shown["event"]["message_ids"] == ["E0000000"]


FORBIDDEN = Hook("inside", "http://169.254.169.254/hook", instances=("i",))
"""Its deliveries are dead letters at once, however many."""


async def test_a_replay_stopped_by_ctrl_c_has_lost_nothing_and_says_how_to_go_on(rig: Rig) -> None:
    """At one a second the first page alone (of one shard: 250) would keep the command for minutes."""
    worker = await worker_of(rig, FORBIDDEN, Hook("crm", rig.sink.url("crm"), instances=("quiet",)))
    gateway = rig.gateway(worker)
    await gateway.push_many(300)
    await all_died(rig, worker, 300)
    words = [*AT_A_TERMINAL, sys.executable, "-m", "worker", "replay", "--tenant", "t", "--to-webhook", "crm", "--rate", "1"]
    async with await anyio.open_process(words, env=worker.environment) as replay:
        assert replay.stdout is not None
        with anyio.fail_after(30):
            first = (await replay.stdout.receive()).decode()
            assert first.startswith("250 replayed, 0 skipped (")
            replay.send_signal(signal.SIGINT)
            told = b"".join([chunk async for chunk in replay.stdout]).decode()
            assert await replay.wait() == 130
    assert "stopped: 250 replayed, 0 skipped" in told
    assert len(await letters(rig, worker)) == 50
    cursor = told.split("--cursor ")[1].split()[0]
    code, told, _ = await command(worker, "--tenant", "t", "--to-webhook", "crm", "--rate", "1000", "--cursor", cursor)
    assert (code, told.splitlines()[-1]) == (0, "50 replayed, 0 skipped")
    assert await letters(rig, worker) == []
    await until(lambda: len(rig.sink.got("crm")) >= 50, 30, "the last page arrives")


async def test_what_is_wrong_is_said_in_a_line(rig: Rig) -> None:
    worker = await worker_of(rig, Hook("crm", rig.sink.url("crm")))
    assert await command(worker, key=None) == (78, "", "--key: not given: allowed: a key of the tenant, or WORKER_HTTP__ADMIN_KEY\n")
    code, _, told = await command(worker, "--events", "--reason", "poison")
    assert (code, told.splitlines()) == (
        78,
        [
            "--webhook: not given: allowed: the webhook's id",
            "--since: not given: allowed: RFC 3339, as 2026-11-22T07:45:38Z",
            "--reason: not with --events: allowed: with --dead-letters",
        ],
    )
    code, _, told = await command(worker, "--key", "a wrong one", "--tenant", "t")
    assert code == 1
    assert told.startswith("401 ")
    code, _, told = await command(worker, "--tenant", "t", "--since", "yesterday")
    assert code == 1
    assert told.startswith("400 INVALID_REQUEST: since: ")
