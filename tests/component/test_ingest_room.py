"""Whom ingest turns away, and how: no room in the store, at the door or in the writer, and a worker that leaves."""

from __future__ import annotations

import anyio
import pytest

from tests.component.ingest_world import ACME, message, told, world
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull
from worker.ingest.door import REFRESH_DEADLINE_S, RoomLimits
from worker.ingest.reply import Reply
from worker.ingest.segments import WriterLimits

pytestmark = pytest.mark.anyio


async def test_a_store_that_refuses_to_grow_is_journal_full() -> None:
    async def refuse(script: str) -> None:
        if script == "append":
            raise StoreFull("maxmemory")

    async with world() as it:
        it.store.faults.before = refuse
        answer = await it.push("sales", message("k1"))
    assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_FULL")


async def test_a_tenant_beyond_its_share_is_refused_while_another_is_served() -> None:
    async with world(room=RoomLimits(max_events=10, max_bytes=1 << 20, tenant_share=0.5)) as it:
        codes = [told(await it.push("sales", message(f"k{n}"))).get("code") for n in range(6)]
        other = await it.push("foreign", message("k"))
    assert codes == [None] * 5 + ["TENANT_BACKLOG_FULL"]
    assert other.status == 202


async def test_a_full_journal_is_refused_before_anything_is_stored() -> None:
    async with world(room=RoomLimits(max_events=5, max_bytes=1 << 20, tenant_share=1.0)) as it:
        await it.push("sales", [message(f"k{n}") for n in range(4)])
        answer = await it.push("foreign", message("k"))
        assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_FULL")
        assert len(await it.records()) == 4


async def test_a_worker_without_room_spends_no_time_on_what_it_refuses() -> None:
    async with world(room=RoomLimits(max_events=0, max_bytes=0, tenant_share=1.0)) as it:
        assert told(await it.push("sales", b"not even json"))["code"] == "JOURNAL_FULL"
        assert told(await it.push("signed", message("k1")))["code"] == "JOURNAL_FULL"


async def test_the_figures_are_read_anew_each_second_so_that_room_made_elsewhere_opens_the_door() -> None:
    async with world(room=RoomLimits(max_events=10, max_bytes=1 << 20, tenant_share=1.0)) as it, anyio.create_task_group() as tasks:
        await tasks.start(it.door.run)
        it.door.count(ACME, 8, 0)
        assert told(await it.push("sales", message("k1")))["code"] == "JOURNAL_FULL"
        await anyio.sleep(1.1)  # noqa: TID251 -- virtual time
        assert (await it.push("sales", message("k1"))).status == 202
        it.door.shut()


async def test_a_store_that_hangs_holds_up_a_refresh_for_its_deadline_at_most() -> None:
    async with world() as it:
        it.store.faults.stall()
        started_s = anyio.current_time()
        assert not await it.door.refresh()
        assert anyio.current_time() - started_s == pytest.approx(REFRESH_DEADLINE_S, abs=0.01)


async def test_a_leaving_worker_still_journals_and_closes_each_connection() -> None:
    async with world() as it:
        it.door.leave()
        answer = await it.push("sales", message("k1"))
        assert (answer.status, answer.headers["Connection"]) == (202, "close")
        assert (await it.push("nobody", message("k1"))).headers["Connection"] == "close"


async def test_from_teardown_on_every_push_is_503_draining() -> None:
    async with world() as it:
        it.door.shut()
        answer = await it.push("sales", message("k1"))
        assert (answer.status, told(answer)["code"], answer.headers["Connection"]) == (503, "DRAINING", "close")
        assert await it.records() == []


async def test_a_closed_writer_is_503_draining() -> None:
    async with world() as it:
        assert await it.writer.close(Deadline(name="test", at_s=anyio.current_time() + 1))
        assert told(await it.push("sales", message("k1")))["code"] == "DRAINING"


async def test_what_waits_for_the_journal_is_bounded_and_refused_beyond() -> None:
    async with world(limits=WriterLimits(shard_events=100, shard_bytes=8_000, total_bytes=20_000)) as it:
        it.store.faults.stall()
        answers: list[Reply] = []

        async def push(n: int) -> None:
            answers.append(await it.push("sales", message(f"k{n}", text="x" * 1_000)))

        async with anyio.create_task_group() as pushes:
            for n in range(20):
                pushes.start_soon(push, n)
            await anyio.wait_all_tasks_blocked()
            assert it.writer.held_bytes <= 8_000
            assert {told(answer)["code"] for answer in answers} == {"JOURNAL_UNAVAILABLE"}
            refused = len(answers)
            it.store.faults.resume()
        assert sorted(answer.status for answer in answers) == [202] * (20 - refused) + [503] * refused
        assert 0 < refused < 20


async def test_a_body_that_could_never_wait_at_once_is_413() -> None:
    async with world(limits=WriterLimits(shard_events=10, shard_bytes=1 << 20, total_bytes=1 << 20)) as it:
        answer = await it.push("sales", [message(f"k{n}") for n in range(11)])
        assert (answer.status, told(answer)["code"]) == (413, "BODY_TOO_LARGE")
        assert (await it.push("sales", message("k"))).status == 202
