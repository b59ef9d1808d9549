"""`ordering: chat` where several things go wrong at once: answers of the store get lost under load, one chat takes all the room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import pytest

from tests.component.rig import Rig, pass_time, rig, text_of, until, webhook
from tests.component.test_chat_order import LOOSE, ORDERED, PATIENT, chat_of, moody, out_of_order, phone, talk
from worker.adapters.memory_transport import Answers, Decides
from worker.domain.catalog import Catalog
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, Token
from worker.event_integration.retry_queue import Parked, Parking
from worker.event_integration.transport import Request

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


async def test_a_chat_that_fails_for_ever_delays_none_of_the_others() -> None:
    """The same talk twice in one world: first all are well, then one chat of fifty is not."""
    slow = webhook("crm", ordering="chat", max_in_flight=16)
    async with rig(slow, retry=PATIENT) as it:
        a = await it.owning()

        async def latencies_s(well: Callable[[Request], bool]) -> list[float]:
            it.answer("crm", Decides(by=lambda request: Answers(status=200 if well(request) else 500, after_s=0.02)))
            pushed_at_s: dict[str, float] = {}
            for _ in range(600):
                await talk(it, a, 1, chats=50)
                pushed_at_s[it.accepted[-1]] = anyio.current_time()
                await pass_time(0.01)
            await pass_time(5)
            arrived_s = it.latencies_s("crm")
            return sorted(arrived_s[text] - at_s for text, at_s in pushed_at_s.items() if chat_of(text) != "c7")

        quiet = await latencies_s(lambda _request: True)
        failing = await latencies_s(lambda request: chat_of(text_of(request)) != "c7")
        assert failing[len(failing) // 2] <= 1.2 * quiet[len(quiet) // 2]
        assert failing[-len(failing) // 100] <= 1.5 * quiet[-len(quiet) // 100]
        it.answer("crm")
        await it.all_delivered(within_s=200)
        assert out_of_order(it) == []


@pytest.mark.parametrize("before", ["none", "chat"])
async def test_a_webhook_that_learns_or_forgets_to_want_order_between_two_lives_loses_nothing(before: str) -> None:
    """What was parked one way is delivered the other way; from then on each chat is in order again."""
    after = "chat" if before == "none" else "none"
    async with rig(webhook("crm", ordering=before), retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await talk(it, a, 12)
        await pass_time(1)
        await a.kill()
        it.catalog = Catalog(it.catalog.tenants.values(), it.catalog.instances.values(), [webhook("crm", ordering=after)])
        b = await it.owning("b")
        await talk(it, b, 12)
        await pass_time(3)
        it.answer("crm")
        await it.all_delivered(within_s=100)
        await it.nothing_waits()
        settled, parked = dict(it.deliveries("crm")), b.engine.settling.parked_count
        await talk(it, b, 12)
        await it.all_delivered(within_s=20)
        assert b.engine.settling.parked_count == parked, "nothing is thought to wait that does not"
        fresh = [text for text in it.deliveries("crm") if text not in settled]
        assert after == "none" or sorted(fresh, key=chat_of) == sorted(fresh, key=lambda text: (chat_of(text), text))


async def test_a_webhook_that_is_not_declared_any_more_leaves_dead_letters_of_its_whole_chats() -> None:
    async with rig(ORDERED, LOOSE, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await talk(it, a, 30)
        await pass_time(1)
        await a.kill()
        it.catalog = Catalog(it.catalog.tenants.values(), it.catalog.instances.values(), [LOOSE])
        b = await it.owning("b")
        await until(lambda: b.engine.settling.dead_count == 30, within_s=30, what="all of them are dead letters")
        await it.nothing_waits()


async def test_a_lease_that_ends_for_good_while_parks_are_unwritten_keeps_every_chat_in_order() -> None:
    async with rig(ORDERED, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", moody(5, fails=0.6))
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(talk, it, a, 40)
            await pass_time(0.3)
            a.faults.away = True
            await pass_time(0.2)
        b = await it.owning("b")
        a.faults.away = False
        await talk(it, b, 20)
        await pass_time(2)
        it.answer("crm")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()
        assert out_of_order(it) == []


async def test_a_chat_of_thousands_behind_one_costs_each_of_them_the_same() -> None:
    """Counted, not timed: calls to the store per event of a chat that failed once, short and long."""

    async def calls_per_event(count: int) -> float:
        async with rig(ORDERED, retry=PATIENT, shards=1, instances=1) as it:
            a = await it.owning()
            it.answer("crm", Answers(status=500), Answers())
            a.faults.calls.clear()
            await talk(it, a, count, chats=1)
            await it.all_delivered(within_s=30 + count / 5)
            assert out_of_order(it) == []
            return sum(script in {"park", "claim", "settle"} for script in a.faults.calls) / count

    assert await calls_per_event(2_000) <= 1.2 * await calls_per_event(200)
