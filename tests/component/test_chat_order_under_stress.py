"""`ordering: chat` where several things go wrong at once: answers of the store get lost under load, one chat takes all the room."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.component.rig import Rig, pass_time, rig, text_of, until, webhook
from tests.component.test_chat_order import LOOSE, ORDERED, PATIENT, chat_of, out_of_order, phone, talk
from worker.adapters.memory_transport import Answers, Decides
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, Token
from worker.event_integration.retry_queue import Parked, Parking

pytestmark = pytest.mark.anyio


def chats_parked(it: Rig) -> set[str]:
    """The names of the chats that enter the store from here on."""
    found: set[str] = set()
    park = it.store.retry_queue.park

    async def noted(shard: Shard, token: Token, items: Sequence[Parking]) -> list[Parked]:
        found.update(item.chat for item in items if item.chat is not None)
        return await park(shard, token, items)

    it.store.retry_queue.park = noted  # type: ignore[method-assign]
    return found


async def test_parks_that_the_store_did_not_take_are_caught_up_with_while_more_keep_coming() -> None:
    async with rig(ORDERED, retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        is_refusing = True

        async def slow_and_refusing(script: str) -> None:
            if script == "park":
                await pass_time(0.03)
                if is_refusing:
                    raise StoreUnavailable("for the test")

        a.faults.before = slow_and_refusing
        stopped = anyio.Event()

        async def keep_talking() -> None:
            while not stopped.is_set():
                await talk(it, a, 4, chats=40)
                await pass_time(0.01)

        async with anyio.create_task_group() as pushing:
            pushing.start_soon(keep_talking)
            await pass_time(4)
            is_refusing = False
            await until(lambda: a.engine.settling.parked_count > 1_900, within_s=1.5, what="what the store had not taken is parked")
            stopped.set()
        it.answer("crm")
        await it.all_delivered(within_s=200)
        assert out_of_order(it) == []


async def test_a_claim_that_nobody_was_told_of_holds_back_nobody_and_lets_nobody_pass() -> None:
    """It is written, the answer is lost, the attempt succeeds: much later the store hands out what has long arrived."""
    async with rig(webhook("crm", ordering="chat", deadline_s=2.0), retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=0.5))
        await talk(it, a, 1, chats=1)
        await until(lambda: a.engine.pipeline.in_flight == 1, within_s=1, what="the first is under way")
        a.faults.lose_next_answers(1)
        assert await a.engine.leaving.hold_as_claims(list(a.engine.under_way), deadline=Deadline("test", anyio.current_time() + 1)) == 1
        await it.all_delivered(within_s=5)
        for _ in range(120):  # four a second for an endpoint that takes two: some always wait in line
            await talk(it, a, 1, chats=1)
            await pass_time(0.25)
        assert it.deliveries("crm")["c0-0001"] == 2, "the claim was handed out meanwhile"
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert out_of_order(it) == []
        assert a.engine.settling.parked_count == 0, "the chat has not gone through the store for it"


async def test_where_one_chat_takes_too_much_room_it_is_that_chat_which_leaves_memory() -> None:
    slow = webhook("crm", ordering="chat", max_in_flight=2)
    async with rig(slow, LOOSE, retry=PATIENT, shards=1, instances=1, buffer_max_events=200) as it:
        a = await it.owning()
        await talk(it, a, 2, chats=15)
        await it.all_delivered(within_s=5)  # now it may have two under way
        parked = chats_parked(it)
        it.answer("crm", Decides(by=lambda request: Answers(after_s=1.5 if chat_of(text_of(request)) == "c99" else 0.3)))
        for number in range(150):
            await it.push_one(a, "i0", f"c99-{number:04}", chat_id=phone(99))
            if number % 5 == 0:
                await talk(it, a, 1, chats=15)
        await it.all_delivered(within_s=400)
        assert parked == {f"i0 {phone(99)}"}
        assert out_of_order(it) == []
