"""A call with its key is one call: who runs it, who waits, who goes on (contract 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.component.instances_rig import ACME, later
from worker.adapters.memory_store import MemoryStore
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreUnavailable
from worker.instances.idempotency import Repeatable
from worker.instances.once import KeyReused, Once, StillRunning

pytestmark = pytest.mark.anyio

CALL = Repeatable(ACME, "key", "a" * 64)
Work = Callable[[bytes], Awaitable[bytes]]


class Two:
    """Two workers over one store."""

    def __init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.store = MemoryStore(shards=1, clock=self.clock)
        self.one = Once(self.store.idempotency, self.clock)
        self.other = Once(self.store.idempotency, self.clock)

    def within(self, seconds: float) -> Deadline:
        return Deadline("create", self.clock() + seconds)


@pytest.fixture
async def two() -> Two:
    return Two()


def work(runs: list[bytes], *, takes_s: float = 0.0) -> Work:
    async def run(plan: bytes) -> bytes:
        runs.append(plan)
        await later(takes_s)
        return b"made by " + plan

    return run


async def test_a_repeated_call_is_answered_from_what_was_kept(two: Two) -> None:
    runs: list[bytes] = []
    answers = [
        await once.run(CALL, plan, work(runs), two.within(20)) for once, plan in ((two.one, b"1"), (two.one, b"2"), (two.other, b"3"))
    ]
    assert answers == [b"made by 1"] * 3
    assert runs == [b"1"]


async def test_the_other_worker_waits_for_the_answer_however_long_the_lease_is_renewed(two: Two) -> None:
    runs: list[bytes] = []
    answers: list[bytes] = []

    async def ask(once: Once, plan: bytes) -> None:
        try:
            answers.append(await once.run(CALL, plan, work(runs, takes_s=18), two.within(20)))
        except StillRunning:
            answers.append(b"nothing in time")

    async with anyio.create_task_group() as askers:
        askers.start_soon(ask, two.one, b"1")
        await anyio.wait_all_tasks_blocked()
        askers.start_soon(ask, two.other, b"2")
    assert answers == [b"made by 1"] * 2
    assert runs == [b"1"]


async def test_whoever_waits_longer_than_its_deadline_is_told_that_it_still_runs(two: Two) -> None:
    async with anyio.create_task_group() as running:
        running.start_soon(two.one.run, CALL, b"1", work([], takes_s=100), two.within(200))
        await anyio.wait_all_tasks_blocked()
        begun_s = two.clock()
        with pytest.raises(StillRunning):
            await two.other.run(CALL, b"2", work([]), two.within(20))
        assert two.clock() - begun_s == pytest.approx(20, abs=0.6)
        running.cancel_scope.cancel()


async def test_a_worker_that_dies_is_followed_by_another_with_the_same_plan(two: Two) -> None:
    """A kill writes nothing: its lease ends by itself, before the waiter's deadline."""
    runs: list[bytes] = []
    async with anyio.create_task_group() as dying:
        dying.start_soon(two.one.run, CALL, b"1", work(runs, takes_s=1_000), two.within(20))
        await anyio.wait_all_tasks_blocked()
        two.store.faults.away = True
        dying.cancel_scope.cancel()
    two.store.faults.away = False
    assert await two.other.run(CALL, b"2", work(runs), two.within(20)) == b"made by 1"
    assert runs == [b"1", b"1"]


async def test_what_failed_is_no_final_answer(two: Two) -> None:
    async def fail(_plan: bytes) -> bytes:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await two.one.run(CALL, b"1", fail, two.within(20))
    begun_s = two.clock()
    assert await two.other.run(CALL, b"2", work([]), two.within(20)) == b"made by 1"
    assert two.clock() == begun_s, "it was left, so nobody waits for a lease"


async def test_the_failure_of_one_is_told_to_all_who_waited_for_it_here(two: Two) -> None:
    runs: list[bytes] = []
    told: list[str] = []

    async def fail(plan: bytes) -> bytes:
        runs.append(plan)
        await later(1)
        raise StoreUnavailable("away")

    async def ask() -> None:
        with pytest.raises(StoreUnavailable):
            await two.one.run(CALL, b"1", fail, two.within(20))
        told.append("away")

    async with anyio.create_task_group() as askers:
        for _ in range(20):
            askers.start_soon(ask)
    assert (len(runs), len(told)) == (1, 20)


async def test_another_body_is_refused_while_the_first_runs_and_afterwards(two: Two) -> None:
    other = CALL._replace(body_sha256="b" * 64)
    async with anyio.create_task_group() as running:
        running.start_soon(two.one.run, CALL, b"1", work([], takes_s=5), two.within(20))
        await anyio.wait_all_tasks_blocked()
        for once in (two.one, two.other):
            with pytest.raises(KeyReused):
                await once.run(other, b"2", work([]), two.within(20))
    with pytest.raises(KeyReused):
        await two.other.run(other, b"2", work([]), two.within(20))


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(two: Two) -> None:
    async def away_afterwards(plan: bytes) -> bytes:
        two.store.faults.fail_next(1)
        return plan

    assert await two.one.run(CALL, b"1", away_afterwards, two.within(20)) == b"1"


async def test_a_lease_that_was_lost_means_that_the_others_answer_counts(two: Two) -> None:
    """A worker that was frozen for longer than its lease: somebody else has answered meanwhile."""
    answers: list[bytes] = []

    async def frozen(_plan: bytes) -> bytes:
        two.store.faults.away = True  # it renews nothing
        await later(15)
        two.store.faults.away = False
        answers.append(await two.other.run(CALL, b"2", work([]), two.within(20)))
        return b"too late"

    assert await two.one.run(CALL, b"1", frozen, two.within(60)) == b"made by 1"
    assert answers == [b"made by 1"]
