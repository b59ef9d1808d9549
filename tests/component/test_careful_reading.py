"""An event that ends the process is one dead letter, `poison`, after a few starts; nothing else ever is, and nothing is lost.

`Lethal` stands for a fault below Python: whoever works on one of its texts is gone at that instant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.component.rig import ACME, Rig, Worker, pass_time, rig, until, webhook
from tests.component.steps import StopAt
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_transport import Hangs
from worker.domain.ids import InstanceId, Shard, shard_of
from worker.event_integration import careful, pipeline
from worker.event_integration.request import PreparedWebhook
from worker.event_integration.retry_queue import DeadReason
from worker.journal.care import CAREFUL_EVENTS, STRIKES, TENURES_WITHOUT_PROGRESS

pytestmark = pytest.mark.anyio

STARTS = TENURES_WITHOUT_PROGRESS + STRIKES + 1
"""The last of them lives."""


class Died(Exception):
    """Nobody sees it: what caught it is dead as well."""


class Lethal:
    """`deaths`: by which text, in order."""

    def __init__(self, it: Rig, *texts: str) -> None:
        self._it = it
        self._texts = texts
        self.deaths: list[str] = []

    def arm(self, patch: pytest.MonkeyPatch, where: str) -> None:
        """In `decode`, or where a request is built."""
        if where == "decode":
            patch.setattr(pipeline, "decode", self._around(pipeline.decode, lambda args: args[0]))  # type: ignore[attr-defined]
            patch.setattr(careful, "decode", self._around(careful.decode, lambda args: args[0]))  # type: ignore[attr-defined]
        else:
            patch.setattr(PreparedWebhook, "request", self._around(PreparedWebhook.request, lambda args: args[1].data))

    def _around(self, ours: Callable[..., Any], data_of: Callable[[Any], bytes]) -> Callable[..., Any]:
        def lethal(*args: Any) -> Any:
            for text in self._texts:
                if f'"{text}"'.encode() in data_of(args):
                    self._kill(text)
            return ours(*args)

        return lethal

    def _kill(self, text: str) -> None:
        reader = self._it.workers[-1]
        if not reader.is_over:
            self.deaths.append(text)
        reader.is_over = True
        reader.faults.away = True
        reader.scope.cancel()
        raise Died


async def journal(it: Rig, *texts: str, instance: str = "i0") -> None:
    """Accepted by a worker that never owns a shard."""
    door = await it.start("door", prepare=owns_nothing)
    for text in texts:
        await it.push_one(door, instance, text)
    await door.kill()


def owns_nothing(faults: StoreFaults) -> None:
    async def hook(script: str) -> None:
        if script == "acquire":
            await anyio.sleep_forever()

    faults.before = hook


async def starts_until_one_lives(it: Rig, *, at_most: int) -> tuple[Worker, int]:
    """One after the other, each once the last is dead; which one is alive after ten seconds, and how many that took."""
    for number in range(1, at_most + 1):
        worker = await it.start(f"life{number}")
        await until(lambda w=worker: w.is_over or len(w.holds) == it.shards, within_s=40, what="it holds all, or is dead")  # type: ignore[misc]
        await pass_time(10)
        if not worker.is_over:
            return worker, number
        await worker.kill()
    raise AssertionError(f"none of {at_most} lives")


async def poisons(it: Rig) -> list[str]:
    """The dead letters, all of them poison."""
    letters = await it.dead_letters()
    assert {letter.reason for letter in letters} <= {DeadReason.POISON}
    assert {letter.tenant_id for letter in letters} <= {ACME}
    return [letter.event_key for letter in letters]


@pytest.mark.parametrize("where", ["decode", "build"])
async def test_the_event_that_ends_the_process_is_one_dead_letter_and_all_else_arrives(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(webhook("crm"), webhook("erp"), instances=8) as it:
        lethal = Lethal(it, "poison")
        lethal.arm(monkeypatch, where)
        for instance in range(1, 8):
            await journal(it, f"beside{instance}", instance=f"i{instance}")
        await journal(it, "before1", "before2", "poison", "after1", "after2")
        worker, starts = await starts_until_one_lives(it, at_most=STARTS)
        assert starts == STARTS
        assert lethal.deaths == ["poison"] * (STARTS - 1)
        assert it.missing() == {("crm", "poison"), ("erp", "poison")}
        assert len(await poisons(it)) == 1
        await it.nothing_waits()
        await it.push(worker, 5)
        await until(lambda: it.missing() == {("crm", "poison"), ("erp", "poison")}, within_s=5, what="it works on")


async def test_two_of_them_in_two_shards_are_two_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(instances=8) as it:
        lethal = Lethal(it, "poison1", "poison2")
        lethal.arm(monkeypatch, "decode")
        elsewhere = next(f"i{n}" for n in range(8) if shard_of(InstanceId(f"i{n}"), 4) != shard_of(InstanceId("i0"), 4))
        await journal(it, "a", "poison1", "b")
        await journal(it, "c", "poison2", "d", instance=elsewhere)
        # A life that died seconds ago still counts as a worker with a share: each may get half of the shards.
        await starts_until_one_lives(it, at_most=2 * STARTS)
        assert len(await poisons(it)) == 2
        assert it.missing() == {("crm", "poison1"), ("crm", "poison2")}


async def test_what_was_buried_is_never_opened_again_while_an_earlier_event_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a second one has taken its place as the suspect."""
    async with rig(shards=1, instances=1) as it:
        lethal = Lethal(it, "poison1", "poison2")
        lethal.arm(monkeypatch, "decode")
        it.answer("crm", Hangs())
        await journal(it, "slow", "poison1", "poison2", "after")
        for number in range(STARTS + STRIKES + 4):
            worker = await it.start(f"life{number}")
            await until(lambda w=worker: w.is_over or len(w.holds) == 1, within_s=40, what="it holds the shard, or is dead")  # type: ignore[misc]
            await pass_time(2)  # enough to write that something is buried, not for the first attempt to end
            await worker.kill()
        assert lethal.deaths == ["poison1"] * 5 + ["poison2"] * 2
        it.answer("crm")
        await it.owning("last")
        await until(lambda: it.missing() == {("crm", "poison1"), ("crm", "poison2")}, within_s=60, what="the rest arrives")
        assert len(await poisons(it)) == 2
        await it.nothing_waits()


async def test_it_is_found_however_far_it_lies_behind_events_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(shards=1, instances=1) as it:
        lethal = Lethal(it, "poison")
        lethal.arm(monkeypatch, "decode")
        it.answer("crm", Hangs())
        await journal(it, *(f"e{n}" for n in range(3 * CAREFUL_EVENTS)), "poison")
        _, starts = await starts_until_one_lives(it, at_most=STARTS + 2)
        assert starts == STARTS + 2, "careful for 100 events, for 200, for 400"
        it.answer("crm")
        await until(lambda: it.missing() == {("crm", "poison")}, within_s=120, what="the rest arrives")
        assert len(await poisons(it)) == 1


async def test_a_worker_killed_again_and_again_over_an_endpoint_that_hangs_calls_nothing_poison() -> None:
    async with rig(shards=1, instances=1) as it:
        it.answer("crm", Hangs())
        await journal(it, *(f"e{n}" for n in range(20)))
        for number in range(3 * STARTS):
            worker = await it.owning(f"life{number}")
            await pass_time(0.1 * number)
            assert ("mark_reading" in worker.faults.calls) == (number >= TENURES_WITHOUT_PROGRESS)
            await worker.kill()
        it.answer("crm")
        last = await it.owning("last")
        await it.all_delivered(within_s=60)
        assert await it.dead_letters() == []
        await it.nothing_waits()
        assert last.engine.reader.careful is not None


async def test_a_worker_killed_again_and_again_while_idle_is_never_careful() -> None:
    async with rig(shards=1, instances=1) as it:
        for number in range(2 * STARTS):
            worker = await it.owning(f"life{number}")
            await it.push(worker, 1)
            await it.all_delivered(within_s=5)
            await pass_time(1)
            assert "mark_reading" not in worker.faults.calls
            await worker.kill()
        assert await it.dead_letters() == []


@pytest.mark.parametrize("after", [False, True])
async def test_one_kill_at_a_mark_convicts_nobody(after: bool) -> None:
    """At each of them in turn, before it is written and after."""
    async with rig(shards=1, instances=1) as it:
        it.answer("crm", Hangs())
        texts = [f"e{n}" for n in range(4)]
        await journal(it, *texts)
        for number in range(TENURES_WITHOUT_PROGRESS):
            await (await it.owning(f"idle{number}")).kill()
        for k in range(1, 2 * len(texts) + 1):
            worker = await it.start(f"life{k}")
            stop = StopAtMark(worker, k, after=after)
            await until(lambda s=stop: s.reached.is_set(), within_s=40, what=f"mark {k}")  # type: ignore[misc]
            await worker.kill()
        it.answer("crm")
        await it.owning("last")
        await it.all_delivered(within_s=60)
        assert await it.dead_letters() == []


class StopAtMark(StopAt):
    """At the k-th call of `mark_reading`."""

    async def _hook(self, script: str) -> None:
        if script == "mark_reading":
            await super()._hook(script)


async def careful_worker(it: Rig, name: str, **more: Any) -> Worker:
    """Its predecessors ended before they got anywhere."""
    for number in range(TENURES_WITHOUT_PROGRESS):
        before = await it.start(f"before{number}")
        before.engine.reader.is_stopped = True
        await until(lambda w=before: len(w.holds) == it.shards, within_s=40, what="it holds all")  # type: ignore[misc]
        await before.kill()
    return await it.owning(name, **more)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_mark_the_store_did_not_take_or_did_not_answer_loses_nothing(is_lost: bool) -> None:
    async with rig(shards=2) as it:
        await journal(it, *(f"a{n}" for n in range(5)))
        await journal(it, *(f"b{n}" for n in range(5)), instance="i1")
        await journal(it, *(f"c{n}" for n in range(5)))
        failed: list[str] = []

        def fail_some(faults: StoreFaults) -> None:
            async def fail(script: str) -> None:
                if script == "mark_reading":
                    failed.append(script)
                    if len(failed) in {3, 4, 8, 15}:
                        (faults.lose_next_answers if is_lost else faults.fail_next)(1)

            faults.before = fail

        worker = await careful_worker(it, "a", prepare=fail_some)
        await it.all_delivered(within_s=60)
        assert len(failed) > 15
        assert it.duplicates() == 0
        await it.nothing_waits()
        assert await it.dead_letters() == []
        assert worker.engine.reader.events_read == 15


async def test_what_is_tried_out_when_the_drain_looks_for_the_last_time_is_left_to_the_next() -> None:
    """Its mark is taken back only while the last checkpoint is on its way; taken in then, it would be delivered twice."""
    tried_out, saving = anyio.Event(), anyio.Event()
    async with rig(shards=1, instances=1) as it:
        await journal(it, *(f"e{n}" for n in range(50)))

        def meet(faults: StoreFaults) -> None:
            async def hook(script: str) -> None:
                if script == "mark_reading" and faults.calls.count(script) == 22:
                    tried_out.set()
                    await saving.wait()
                if script == "save" and not all(tenure.is_reading for tenure in it.workers[-1].engine.registry.held()):
                    saving.set()
                    await pass_time(0.1)

            faults.before = hook

        worker = await careful_worker(it, "a", prepare=meet)
        await tried_out.wait()
        await it.shut_down(worker)
        assert saving.is_set()
        assert len(it.deliveries("crm")) == 10
        await it.owning("b")
        await it.all_delivered(within_s=30)
        assert it.duplicates() == 0
        await it.nothing_waits()


async def test_careful_reading_ends_after_its_events_and_other_shards_are_read_meanwhile() -> None:
    async with rig(shards=2, instances=8) as it:
        slow = next(f"i{n}" for n in range(8) if shard_of(InstanceId(f"i{n}"), 2) == Shard(0))
        quick = next(f"i{n}" for n in range(8) if shard_of(InstanceId(f"i{n}"), 2) == Shard(1))
        await journal(it, *(f"e{n}" for n in range(CAREFUL_EVENTS + 50)), instance=slow)
        marks: list[float] = []

        def slow_marks(faults: StoreFaults) -> None:
            async def mark(script: str) -> None:
                if script == "mark_reading":
                    marks.append(0.0)
                    await pass_time(0.05)

            faults.before = mark

        worker = await careful_worker(it, "a", prepare=slow_marks)
        await it.push_one(worker, quick, "of another shard")
        await until(lambda: "of another shard" in it.deliveries("crm"), within_s=3, what="the other shard is read")
        assert len(marks) < CAREFUL_EVENTS
        await it.all_delivered(within_s=60)
        assert len(marks) == 2 * CAREFUL_EVENTS
        await it.push(worker, 5, instance=slow)
        await it.all_delivered(within_s=5)
        assert len(marks) == 2 * CAREFUL_EVENTS
