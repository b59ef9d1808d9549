"""A stream that resumes goes on where it was, also for the next process: never behind what is durable, and never in the way."""

from __future__ import annotations

import anyio
import pytest

from tests.component.rig import Rig, pass_time, rig, until
from tests.component.sockets_world import SocketsWorld, keeps_events, sockets_world
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_resume_points import MemoryResumePoints
from worker.adapters.memory_sockets import MemoryGateway
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId
from worker.websocket.port import CloseReason
from worker.websocket.resume_points import MAX_ID_CHARS, SAVED_AT_ONCE, Bookmarks

pytestmark = pytest.mark.anyio

I0 = InstanceId("i0")
INSTANCES = 6
WINDOW_S = 21_600.0
"""For so long the store remembers keys; whatever comes after is new to it."""


async def point(it: SocketsWorld) -> str | None:
    return await it.store.resume_points.load_point(I0)


def failing(it: SocketsWorld, *scripts: str) -> None:
    """The store does everything but these."""

    async def before(script: str) -> None:
        if script in scripts:
            raise StoreUnavailable(f"{script}: not now")

    it.store.faults.before = before


# -- what is saved, and when -------------------------------------------------------------------------------------------


async def test_what_is_not_durable_yet_is_no_place_to_go_on_from() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        first = it.tell(3)
        await it.journalled(first)
        await pass_time(2)
        assert await point(it) == first[-1]
        failing(it, "append")
        rest = it.tell(3)
        await pass_time(30)
        assert await point(it) == first[-1]
        it.store.faults.before = None
        await it.journalled(rest)
        await pass_time(2)
        assert await point(it) == rest[-1]


async def test_a_point_is_durable_whenever_it_is_looked_at() -> None:
    """Through stalls, losses and receipts refused: of all that was told up to the saved id, everything is in the journal."""
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        appends = 0

        async def after(script: str) -> None:
            nonlocal appends
            appends += script == "append"
            if script == "append" and appends % 3 == 0:
                raise StoreUnavailable("append: the answer was lost")

        it.store.faults.after = after
        it.own()
        await it.reading()
        seen = set()
        for turn in range(60):
            it.tell(7)
            if turn % 7 == 0:
                gateway.drop(CloseReason.BROKEN)
            gateway.troubles.refuse_receipts = turn % 3 == 0
            failing(it, *["append"] * (turn % 4 < 2))
            await pass_time(0.6)
            saved = it.store.resume_points._kept.get(I0)  # noqa: SLF001 -- looked at without another call
            if saved is not None:
                seen.add(saved[0])
                assert set(it.told[: it.told.index(saved[0]) + 1]) <= set(await it.texts())
        assert len(seen) > 5


async def test_all_sessions_together_are_saved_about_once_a_second() -> None:
    async with sockets_world(keeps_events(), instances=40) as it:
        it.own()
        await it.reading()
        it.store.faults.calls.clear()
        for _ in range(100):
            for number in range(40):
                it.tell(1, f"phone-{number}")
            await pass_time(0.1)
        assert 8 <= it.store.faults.calls.count("save_points") <= 12
        assert it.store.faults.calls.count("load_point") == 0


async def test_who_tells_nothing_costs_no_call() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        await pass_time(60)
        assert it.store.faults.calls.count("save_points") == 0


async def test_at_the_end_everything_durable_is_saved_at_once() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        await pass_time(1.05)
        texts = it.tell(3)
        await it.journalled(texts, within_s=0.5)
        await it.streams.tear_down(5)
        assert await point(it) == texts[-1]


async def test_a_gateway_that_wants_no_receipts_has_nothing_to_go_on_from() -> None:
    async with sockets_world(MemoryGateway(gateway="generic")) as it:
        it.own()
        await it.reading()
        it.gateway.tell("phone-0", b'{"type":"message","event_key":"x","text":"x"}', "x")
        await it.journalled(["x"])
        await pass_time(3)
        assert not {"load_point", "save_points"} & set(it.store.faults.calls)


# -- a store that is away ----------------------------------------------------------------------------------------------


async def test_a_store_that_takes_no_points_holds_up_neither_reading_nor_receipts() -> None:
    async with sockets_world(keeps_events()) as it:
        failing(it, "load_point", "save_points")
        it.own()
        await it.reading()
        texts = it.tell(100)
        await until(lambda: it.receipts() == texts, within_s=1, what="receipts")
        await pass_time(10)
        it.store.faults.before = None
        await pass_time(2)
        assert await point(it) == texts[-1]


async def test_a_store_that_never_answers_is_not_waited_for() -> None:
    async with sockets_world(keeps_events()) as it:

        async def before(script: str) -> None:
            if script in {"load_point", "save_points"}:
                await anyio.sleep_forever()

        it.store.faults.before = before
        it.own()
        await until(lambda: it.gateway.reading("phone-0") > 0, within_s=3, what="read all the same")
        texts = it.tell(100)
        await until(lambda: it.receipts() == texts, within_s=1, what="receipts")
        await it.streams.tear_down(3)


async def test_a_fault_of_the_store_ends_no_session() -> None:
    async with sockets_world(keeps_events()) as it:

        async def before(script: str) -> None:
            if script in {"load_point", "save_points"}:
                raise ZeroDivisionError

        it.store.faults.before = before
        it.own()
        await it.reading()
        texts = it.tell(3)
        await until(lambda: it.receipts() == texts, within_s=1, what="receipts")
        await pass_time(3)
        assert it.lines("resume_point_failed")
        assert it.lines("resume_points_failed")


async def test_very_many_points_are_saved_in_portions_and_what_is_no_id_is_left_out() -> None:
    faults = StoreFaults()
    points = MemoryResumePoints(faults, lambda: 0.0)
    bookmarks = Bookmarks(points)
    names = [InstanceId(f"i{number}") for number in range(2 * SAVED_AT_ONCE + 1)]
    for name in names:
        bookmarks.note(name, "old")
        bookmarks.note(name, f"of-{name}")
    bookmarks.note(names[0], "x" * (MAX_ID_CHARS + 1))
    await bookmarks.save()
    assert faults.calls == ["save_points"] * 3
    assert [await points.load_point(name) for name in names] == [f"of-{name}" for name in names]
    await bookmarks.save()
    assert faults.calls.count("save_points") == 3


async def test_what_was_noted_while_a_save_was_under_way_is_saved_by_the_next() -> None:
    faults = StoreFaults()
    points = MemoryResumePoints(faults, lambda: 0.0)
    bookmarks = Bookmarks(points)
    bookmarks.note(I0, "e-1")

    async def before(_script: str) -> None:
        faults.before = None
        bookmarks.note(I0, "e-2")

    faults.before = before
    await bookmarks.save()
    assert await bookmarks.of(I0) == "e-2"
    await bookmarks.save()
    assert await points.load_point(I0) == "e-2"


# -- whole workers -----------------------------------------------------------------------------------------------------


async def told_and_settled(it: Rig, count: int) -> None:
    it.tell(count)
    await it.all_delivered()
    await it.nothing_waits()


async def all_read(gateway: MemoryGateway) -> None:
    await until(lambda: all(gateway.reading(f"phone-{n}") for n in range(INSTANCES)), within_s=60, what="all are read")


@pytest.mark.parametrize("how", ["left", "killed"])
async def test_a_restart_when_the_store_has_forgotten_the_keys_delivers_nothing_twice(how: str) -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        await told_and_settled(it, 120)
        await until(lambda: len(gateway.receipts) == 120, within_s=10, what="all receipts")
        await pass_time(2)
        if how == "left":
            await it.shut_down(first)
        else:
            await first.kill()
        await pass_time(2 * WINDOW_S)
        await it.owning("b")
        await all_read(gateway)
        await told_and_settled(it, 60)
        await pass_time(5)
        assert it.duplicates() == 0
        kept = [one for events in gateway.kept.values() for one in events]
        await until(lambda: all(one.is_acknowledged for one in kept), within_s=60, what="a receipt for each")


async def test_what_is_told_while_nobody_reads_comes_all_the_same() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        await told_and_settled(it, 60)
        await pass_time(2)
        await first.kill()
        it.tell(3_000)
        await pass_time(2 * WINDOW_S)
        await it.owning("b")
        await it.all_delivered()
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_receipts_still_owed_are_sent_though_their_stream_goes_on_behind_them() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        gateway.troubles.refuse_receipts = True
        await told_and_settled(it, 60)
        await it.shut_down(first)
        gateway.troubles.refuse_receipts = False
        await it.owning("b")
        await all_read(gateway)
        await until(lambda: not any(gateway.unacknowledged(f"phone-{n}") for n in range(INSTANCES)), within_s=60, what="all receipts")
        assert it.duplicates() == 0
