"""SIGKILL at every step, then a new worker: nothing lost, and twice at most what was in flight or not in a checkpoint yet."""

from __future__ import annotations

import anyio
import pytest

from tests.component.rig import pass_time, rig, until, webhook
from tests.component.steps import StopAt
from worker.adapters.memory_transport import Answers, Hangs

pytestmark = pytest.mark.anyio

HOOKS = (webhook("quick"), webhook("slow"), webhook("failing"))


@pytest.mark.parametrize("after", [False, True], ids=["before_the_script", "after_the_script"])
@pytest.mark.parametrize("k", range(1, 31))
async def test_a_kill_at_any_step_loses_nothing_and_repeats_no_more_than_it_may(k: int, after: bool) -> None:
    async with rig(*HOOKS) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=0.3))
        it.answer("failing", Answers(status=500), Answers(), Answers(status=503), Answers())
        step = StopAt(a, k, after=after)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(it.push, a, 8)
            with anyio.move_on_after(4):
                await step.reached.wait()
            allowed = await a.kill()
            pushing.cancel_scope.cancel()
        it.answer("slow")
        it.answer("failing")
        b = await it.owning("b")
        await it.push(b, 2)
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() <= allowed
        assert await it.dead_letters() == []


async def test_what_a_checkpoint_has_is_never_repeated() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 30)
        await it.all_delivered(within_s=2)
        await pass_time(0.6)
        allowed = await a.kill()
        assert allowed == 0
        b = await it.owning("b")
        await it.push(b, 5)
        await it.all_delivered()
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_of_an_event_served_in_part_only_the_rest_is_served_again() -> None:
    async with rig(webhook("quick"), webhook("hangs", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("hangs", Hangs())
        await it.push(a, 1)
        await it.all_delivered("quick", within_s=1)
        await pass_time(0.6)
        await a.kill()
        it.answer("hangs")
        await it.owning("b")
        await it.all_delivered()
        await it.nothing_waits()
        assert it.deliveries("quick") == {"e1": 1}
        assert it.deliveries("hangs") == {"e1": 1}


async def test_an_attempt_that_had_become_a_claim_comes_back_when_its_visibility_ends() -> None:
    async with rig(webhook("crm")) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Hangs())
        await it.push(a, 1)
        await until(lambda: len(it.attempts("crm")) == 2, within_s=10, what="a retry under way")
        await a.kill()
        it.answer("crm")
        await it.owning("b")
        await it.all_delivered(within_s=30)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_ten_lives_one_after_the_other_lose_nothing() -> None:
    async with rig(*HOOKS) as it:
        it.answer("slow", Answers(after_s=0.4))
        it.answer("failing", *[Answers(status=500), Answers()] * 20)
        allowed = 0
        for life in range(10):
            worker = await it.owning(f"life-{life}")
            await it.push(worker, 6)
            await pass_time(0.13 * life)
            allowed += await worker.kill()
        it.answer("failing")
        await it.owning("last")
        await it.all_delivered(within_s=300)
        await it.nothing_waits()
        assert it.duplicates() <= allowed
