"""Group commit: batches of what waits, one call at a time, every item answered exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from worker.domain.deadline import Deadline
from worker.journal.group_commit import GroupCommit, GroupCommitClosed, GroupCommitFull, Limits

pytestmark = pytest.mark.anyio

LIMITS = Limits(max_items=4, max_bytes=100, capacity_items=20, capacity_bytes=1_000)


class Store:
    """Remembers each call; answers when its gate is open, doubled, or raises what it was told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.under_way = 0

    async def flush(self, items: list[int]) -> Sequence[int]:
        assert self.under_way == 0, "two calls at once"
        self.calls.append(items)
        self.under_way += 1
        try:
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            return [item * 2 for item in items]
        finally:
            self.under_way -= 1


@asynccontextmanager
async def running(store: Store, limits: Limits = LIMITS) -> AsyncIterator[GroupCommit[int, int]]:
    commit: GroupCommit[int, int] = GroupCommit("test", store.flush, limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit.run)
        yield commit
        store.gate.set()
        tasks.cancel_scope.cancel()


async def reached(store: Store, calls: int) -> None:
    with anyio.fail_after(2):
        while len(store.calls) < calls:
            await checkpoint()


async def test_an_item_alone_goes_out_at_once_and_gets_its_own_answer() -> None:
    store = Store()
    async with running(store) as commit:
        assert await commit.submit(21) == 42
    assert store.calls == [[21]]


async def test_what_is_submitted_in_one_turn_goes_out_in_one_call_in_order() -> None:
    store = Store()
    async with running(store) as commit:
        answers = [commit.submit_nowait(n) for n in (1, 2, 3)]
        assert [await answer for answer in answers] == [2, 4, 6]
    assert store.calls == [[1, 2, 3]]


async def test_while_a_call_is_under_way_the_others_gather() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        first = commit.submit_nowait(1)
        await reached(store, 1)
        rest = [commit.submit_nowait(n) for n in (2, 3)]
        store.gate.set()
        assert await first == 2
        assert [await answer for answer in rest] == [4, 6]
    assert store.calls == [[1], [2, 3]]


async def test_no_call_carries_more_items_than_allowed() -> None:
    store = Store()
    async with running(store) as commit:
        answers = [commit.submit_nowait(n) for n in range(9)]
        await answers[-1]
    assert [len(call) for call in store.calls] == [4, 4, 1]


async def test_no_call_carries_more_bytes_than_allowed_except_a_larger_item_alone() -> None:
    store = Store()
    async with running(store) as commit:
        answers = [commit.submit_nowait(n, size) for n, size in enumerate((60, 60, 500, 10, 90))]
        await answers[-1]
    assert store.calls == [[0], [1], [2], [3, 4]]


async def test_an_error_fails_exactly_the_items_of_its_batch() -> None:
    store = Store()
    store.fault = OSError("away")
    async with running(store) as commit:
        answers = [commit.submit_nowait(n) for n in (1, 2)]
        for answer in answers:
            with pytest.raises(OSError, match="away"):
                await answer
        store.fault = None
        assert await commit.submit(3) == 6


async def test_an_answer_of_the_wrong_length_fails_the_batch_rather_than_leave_it_waiting() -> None:
    async def short(items: list[int]) -> list[int]:
        return items[1:]

    commit: GroupCommit[int, int] = GroupCommit("test", short, LIMITS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit.run)
        answers = [commit.submit_nowait(n) for n in (1, 2)]
        with anyio.fail_after(1), pytest.raises(ValueError, match="zip"):
            await answers[1]
        tasks.cancel_scope.cancel()


async def test_a_submitter_that_leaves_does_not_cancel_the_batch() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        leaving, staying = commit.submit_nowait(1), commit.submit_nowait(2)
        await reached(store, 1)
        leaving.cancel()
        store.gate.set()
        assert await staying == 4
    assert store.calls == [[1, 2]]


async def test_an_item_given_up_before_it_goes_out_is_left_out_and_its_bytes_come_back() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        first = commit.submit_nowait(1, 10)
        await reached(store, 1)
        commit.submit_nowait(2, 10).cancel()
        third = commit.submit_nowait(3, 10)
        store.gate.set()
        await first
        await third
        assert commit.held_bytes == 0
        assert commit.statistics()["abandoned"] == 1
    assert store.calls == [[1], [3]]


async def test_beyond_its_capacity_it_refuses_and_takes_again_once_there_is_room() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        answers = [commit.submit_nowait(n) for n in range(20)]
        with pytest.raises(GroupCommitFull, match="try again"):
            commit.submit_nowait(99)
        store.gate.set()
        await answers[-1]
        assert await commit.submit(5) == 10


async def test_waiting_bytes_are_bounded() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        commit.submit_nowait(1, 900)
        assert commit.has_room(1, 100)
        assert not commit.has_room(1, 101)
        with pytest.raises(GroupCommitFull):
            commit.submit_nowait(2, 101)


async def test_an_item_larger_than_all_capacity_is_taken_when_nothing_else_is_held() -> None:
    store = Store()
    async with running(store) as commit:
        assert await commit.submit(1, 5_000) == 2


async def test_close_waits_for_what_was_taken_and_takes_nothing_more() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: GroupCommit[int, int] = GroupCommit("test", store.flush, LIMITS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit.run)
        answers = [commit.submit_nowait(n) for n in range(6)]
        await reached(store, 1)
        store.gate.set()
        assert await commit.close(Deadline(name="test", at_s=anyio.current_time() + 2))
        with pytest.raises(GroupCommitClosed):
            commit.submit_nowait(7)
    assert [answer.result() for answer in answers] == [0, 2, 4, 6, 8, 10]


async def test_close_does_not_wait_beyond_its_deadline() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with running(store) as commit:
        commit.submit_nowait(1)
        await reached(store, 1)
        assert not await commit.close(Deadline(name="test", at_s=anyio.current_time()))


async def test_a_driver_that_is_cancelled_answers_everybody() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: GroupCommit[int, int] = GroupCommit("test", store.flush, LIMITS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit.run)
        answers = [commit.submit_nowait(n) for n in range(6)]
        await reached(store, 1)
        tasks.cancel_scope.cancel()
    assert all(isinstance(answer.exception(), GroupCommitClosed) for answer in answers)
    assert commit.held_bytes == 0


async def test_every_item_is_answered_once_whatever_is_cancelled_in_between() -> None:
    store = Store()
    async with running(store, Limits(max_items=7, max_bytes=50, capacity_items=10_000, capacity_bytes=1 << 20)) as commit:
        answers: list[asyncio.Future[int]] = []
        for n in range(500):
            answers.append(commit.submit_nowait(n, n % 60))
            if n % 5 == 0:
                answers[n // 2].cancel()
            if n % 13 == 0:
                await checkpoint()
        for n, answer in enumerate(answers):
            if not answer.cancelled():
                assert await answer == 2 * n
        await commit.close(Deadline(name="test", at_s=anyio.current_time() + 2))
        assert commit.held_bytes == 0
    sent = [n for call in store.calls for n in call]
    assert sent == sorted(set(sent))
