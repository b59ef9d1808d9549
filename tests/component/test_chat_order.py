"""`ordering: chat`: one chat's events arrive strictly in order, whatever fails, spills, drains or dies; other chats are not held back."""

from __future__ import annotations

import random
from collections.abc import Sequence

import anyio
import pytest

from tests.component.rig import Rig, Worker, now_s, pass_time, rig, text_of, until, webhook
from tests.component.steps import At, StopAt
from worker.adapters.memory_transport import Answers, Decides, Hangs
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, Token
from worker.domain.record import decode
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.retry_queue import Parked, Parking
from worker.event_integration.transport import Request

pytestmark = pytest.mark.anyio

ORDERED, LOOSE = webhook("crm", ordering="chat"), webhook("log")
PATIENT = RetryPolicy(schedule_s=(1.0,) * 200, max_age_s=86_400)


def chat_of(text: str) -> str:
    """`c2-0007` is the eighth event of chat 2."""
    return text.partition("-")[0]


def phone(chat: int) -> str:
    return f"55119{chat:08}@s.whatsapp.net"


async def talk(it: Rig, worker: Worker, count: int, *, chats: int = 3) -> None:
    """`count` events over so many chats in turn; each chat is one instance's."""
    for _ in range(count):
        it.number += 1
        chat = it.number % chats
        await it.push_one(worker, f"i{chat % len(it.catalog.instances)}", f"c{chat}-{it.number:04}", chat_id=phone(chat))


def out_of_order(it: Rig, name: str = "crm") -> list[str]:
    """Of each chat what arrived for the first time after a later one had."""
    newest: dict[str, str] = {}
    late = []
    for text in it.deliveries(name):  # in the order of their first arrival
        if text < newest.get(chat_of(text), ""):
            late.append(text)
        newest[chat_of(text)] = max(text, newest.get(chat_of(text), ""))
    return late


def watch_parks(it: Rig) -> None:
    """From here on no delivery of an ordered chat may enter the store before the earlier ones of its chat have, or have arrived."""
    parked_ever: set[tuple[str, str]] = set()
    park = it.store.retry_queue.park

    async def watched(shard: Shard, token: Token, items: Sequence[Parking]) -> list[Parked]:
        for item in items:
            text = str(decode(item.record).envelope["text"])
            if item.chat is not None:
                name = item.webhook_id
                before = [earlier for earlier in it.accepted if chat_of(earlier) == chat_of(text) and earlier < text]
                overtaken = [b for b in before if (name, b) not in parked_ever and b not in it.deliveries(name)]
                assert not overtaken, f"{text} is parked before {overtaken}"
            parked_ever.add((item.webhook_id, text))
        return await park(shard, token, items)

    it.store.retry_queue.park = watched  # type: ignore[method-assign]


def moody(seed: int, *, fails: float = 0.4, hangs: float = 0.05) -> Decides:
    """An endpoint that fails at random, sometimes slowly, sometimes by not answering."""
    chance = random.Random(seed)

    def step(_request: Request) -> Answers | Hangs:
        dice = chance.random()
        if dice < hangs:
            return Hangs()
        return Answers(status=500 if dice < hangs + fails else 200, after_s=chance.choice((0.0, 0.01, 0.3)))

    return Decides(by=step)


async def test_while_the_first_of_a_chat_is_under_way_the_others_of_that_chat_wait_and_no_other_chat_does() -> None:
    async with rig(ORDERED) as it:
        a = await it.owning()
        await talk(it, a, 3)
        await it.all_delivered(within_s=1)
        it.answer("crm", Decides(by=lambda request: Answers(after_s=1.0 if text_of(request) == "c1-0004" else 0.0)))
        await talk(it, a, 9)
        await pass_time(0.5)
        assert sorted(text for text in it.accepted if text not in it.deliveries("crm")) == ["c1-0004", "c1-0007", "c1-0010"]
        await it.all_delivered(within_s=5)
        assert out_of_order(it) == []
        assert (len(it.attempts("crm")), it.duplicates()) == (12, 0)


async def test_parks_that_the_store_did_not_take_are_written_in_the_order_of_the_chat() -> None:
    async with rig(ORDERED, retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        watch_parks(it)
        it.answer("crm", Answers(status=500))
        failed = 0

        async def fails_twice(script: str) -> None:
            nonlocal failed
            if script == "park" and failed < 2:
                failed += 1
                raise StoreUnavailable("for the test")

        a.faults.before = fails_twice
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(lambda: talk(it, a, 200, chats=1))
            await until(lambda: failed == 2 and a.engine.settling.parked_count == 200, within_s=20, what="all are parked")
        it.answer("crm")
        await it.all_delivered(within_s=60)
        assert out_of_order(it) == []


async def test_a_failing_chat_holds_back_itself_only_and_comes_in_order_when_it_is_well_again() -> None:
    async with rig(ORDERED, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Decides(by=lambda request: Answers(status=500 if text_of(request).startswith("c1") else 200)))
        await talk(it, a, 30)
        await until(lambda: len(it.deliveries("crm")) == 20, within_s=15, what="the two other chats arrive")
        assert {chat_of(text) for text in it.deliveries("crm")} == {"c0", "c2"}
        it.answer("crm")
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert out_of_order(it) == []
        assert it.duplicates() == 0


async def test_once_a_chat_has_caught_up_its_events_go_straight_to_the_endpoint_again() -> None:
    async with rig(ORDERED, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers())
        await talk(it, a, 6, chats=1)
        await it.all_delivered(within_s=30)
        await it.nothing_waits()
        parked = a.engine.settling.parked_count
        await talk(it, a, 6, chats=1)
        await it.all_delivered(within_s=5)
        assert a.engine.settling.parked_count == parked
        assert out_of_order(it) == []


async def test_a_dead_letter_frees_the_next_of_its_chat() -> None:
    async with rig(ORDERED, retry=RetryPolicy(schedule_s=(0.1,), max_age_s=86_400)) as it:
        a = await it.owning()
        it.answer("crm", Decides(by=lambda request: Answers(status=500 if text_of(request) == "c0-0001" else 200)))
        await talk(it, a, 4, chats=1)
        await until(lambda: len(it.deliveries("crm")) == 3, within_s=30, what="the others arrive")
        assert [letter.attempts for letter in await it.dead_letters()] == [2]
        assert out_of_order(it) == []


async def test_what_comes_while_an_attempt_is_a_claim_waits_for_how_it_ends() -> None:
    async with rig(ORDERED, retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500, after_s=1.0), Answers())
        await talk(it, a, 1, chats=1)
        await until(lambda: a.engine.pipeline.in_flight == 1, within_s=1, what="the first is under way")
        unclaimed = await a.engine.leaving.hold_as_claims(list(a.engine.under_way), deadline=Deadline("test", now_s() + 1))
        assert unclaimed == 0
        await talk(it, a, 2, chats=1)
        await it.all_delivered(within_s=20)
        assert out_of_order(it) == []


async def test_what_was_kept_aside_while_the_lease_was_in_doubt_follows_its_chat_into_the_store() -> None:
    async with rig(webhook("crm", ordering="chat", deadline_s=30.0), retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500, after_s=20.0), Answers())
        await talk(it, a, 3, chats=1)
        await until(lambda: a.engine.pipeline.in_flight == 1, within_s=1, what="the first is under way")
        a.faults.away = True
        await pass_time(25)
        assert a.holds == set()
        a.faults.away = False
        await until(lambda: len(a.holds) == 1, within_s=20, what="it owns its shard again")
        await talk(it, a, 3, chats=1)
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert out_of_order(it) == []
        assert it.duplicates() == 0


async def test_a_handover_that_parks_the_rest_of_a_begun_event_takes_the_earlier_ones_of_its_chat_along() -> None:
    """Else the successor could claim the later one before it has read the earlier one."""
    receipts = webhook("log", events=("receipt",))
    async with rig(webhook("crm", ordering="chat", deadline_s=30.0), receipts, shards=1, instances=1, retry=PATIENT) as it:
        a = await it.owning()
        b = await it.start("b", revision=2)

        async def slow_reader(script: str) -> None:
            if script == "read":
                await pass_time(5)

        b.faults.before = slow_reader
        it.answer("crm", Answers(after_s=1.0), Answers())
        await it.push_one(a, "i0", "c0-1", chat_id=phone(0))
        await it.push_one(a, "i0", "c0-2", chat_id=phone(0))
        await it.push_one(a, "i0", "c0-3", chat_id=phone(0), type="receipt")
        await until(lambda: it.deliveries("log") == {"c0-3": 1}, within_s=1, what="the third event has begun")
        await it.shut_down(a)
        await it.all_delivered("crm", within_s=60)
        assert list(it.deliveries("crm")) == ["c0-1", "c0-2", "c0-3"]
        b.faults.before = None


async def test_events_without_a_chat_are_in_nobodys_way() -> None:
    async with rig(ORDERED) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=1.0))
        await it.push(a, 2, instance="i0")
        await until(lambda: len(it.attempts("crm")) >= 1, within_s=1, what="the first is under way")
        await it.all_delivered(within_s=3)


@pytest.mark.parametrize("seed", range(12))
async def test_an_endpoint_that_fails_at_random_gets_every_chat_in_order(seed: int) -> None:
    async with rig(ORDERED, LOOSE, retry=PATIENT) as it:
        a = await it.owning()
        watch_parks(it)
        it.answer("crm", moody(seed))
        it.answer("log", moody(seed + 100))
        await talk(it, a, 40)
        await pass_time(5)
        await talk(it, a, 10)
        it.answer("crm")
        it.answer("log")
        await it.all_delivered(within_s=300)
        await it.nothing_waits(within_s=300)
        assert out_of_order(it) == []
        assert it.duplicates() == 0


@pytest.mark.parametrize("after", [False, True], ids=["before_the_script", "after_the_script"])
@pytest.mark.parametrize("k", range(1, 31))
async def test_a_kill_at_any_step_keeps_every_chat_in_order(k: int, after: bool) -> None:
    async with rig(ORDERED, LOOSE, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", moody(k))
        step = StopAt(a, k, after=after)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(talk, it, a, 16)
            with anyio.move_on_after(4):
                await step.reached.wait()
            allowed = await a.kill()
            pushing.cancel_scope.cancel()
        b = await it.owning("b")
        await talk(it, b, 6)
        await pass_time(1)
        it.answer("crm")
        await it.all_delivered(within_s=300)
        await it.nothing_waits(within_s=120)
        assert out_of_order(it) == []
        assert it.duplicates() <= allowed


@pytest.mark.parametrize("with_successor", [False, True], ids=["alone", "with_a_successor"])
@pytest.mark.parametrize("k", range(1, 25))
async def test_a_signal_at_any_step_keeps_every_chat_in_order_without_a_duplicate(k: int, with_successor: bool) -> None:
    async with rig(ORDERED, LOOSE, retry=PATIENT) as it:
        a = await it.owning()
        b = await it.start("b", revision=2) if with_successor else None
        it.answer("crm", moody(k, hangs=0.0))
        signal = anyio.Event()
        At(a, k, signal.set)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(talk, it, a, 16)
            with anyio.move_on_after(2):
                await signal.wait()
            await it.shut_down(a)
        b = b or await it.owning("b")
        await until(lambda: len(b.holds) == it.shards, within_s=20, what="b holds all")
        await talk(it, b, 6)
        await pass_time(1)
        it.answer("crm")
        await it.all_delivered(within_s=300)
        await it.nothing_waits(within_s=120)
        assert out_of_order(it) == []
        assert it.duplicates() == 0


@pytest.mark.parametrize("k", range(1, 25))
async def test_a_lease_in_doubt_at_any_step_keeps_every_chat_in_order(k: int) -> None:
    async with rig(ORDERED, LOOSE, retry=PATIENT) as it:
        a = await it.owning()
        watch_parks(it)
        it.answer("crm", moody(k))

        def store_leaves() -> None:
            a.faults.away = True

        At(a, k, store_leaves)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(talk, it, a, 16)
            await pass_time(20)
            a.faults.away = False
        await until(lambda: len(a.holds) == it.shards, within_s=20, what="it owns its shards again")
        await talk(it, a, 6)
        it.answer("crm")
        await it.all_delivered(within_s=300)
        await it.nothing_waits(within_s=120)
        assert out_of_order(it) == []


async def test_a_chat_whose_first_hangs_leaves_memory_when_it_takes_too_much_of_it_and_nobody_else_waits() -> None:
    async with rig(webhook("crm", ordering="chat", deadline_s=30.0), LOOSE, buffer_max_events=200, instances=1, shards=1) as it:
        a = await it.owning()
        it.answer("crm", Hangs())
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(lambda: talk(it, a, 400, chats=1))
            await until(lambda: len(it.deliveries("log")) == 400, within_s=15, what="the other webhook has all of them")
        assert a.engine.buffer.deliveries < 200
        it.answer("crm")
        await it.all_delivered(within_s=200)
        await it.nothing_waits(within_s=60)
        assert out_of_order(it) == []


async def test_a_disabled_webhook_lets_a_whole_chat_go_at_once() -> None:
    async with rig(ORDERED) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=410, after_s=0.5))
        began_s = now_s()
        await talk(it, a, 12, chats=1)
        await until(lambda: a.engine.settling.dead_count == 12, within_s=5, what="all are dead letters")
        assert now_s() - began_s < 2
        assert len(it.attempts("crm")) == 1


# ─── the two names of a chat ───


async def whisper(it: Rig, worker: Worker, text: str, *, lid: int, known_as: int | None = None) -> None:
    """An event that names its chat by LID, with the phone form beside it where `known_as` is given."""
    name = f"1{lid:014}@lid"
    if known_as is None:
        await it.push_one(worker, "i0", text, chat_id=name)
    else:
        await it.push_one(worker, "i0", text, chat_id=phone(known_as), chat_aliases=[name])


async def test_an_event_that_carries_only_the_lid_keeps_its_place_in_the_chat_that_is_known_by_phone() -> None:
    async with rig(ORDERED, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers())
        await whisper(it, a, "c0-1", lid=7, known_as=3)
        await whisper(it, a, "c0-2", lid=7)
        await pass_time(0.5)
        assert [text_of(request) for request in it.attempts("crm")] == ["c0-1"]
        await it.all_delivered(within_s=20)
        assert list(it.deliveries("crm")) == ["c0-1", "c0-2"]


async def test_the_names_of_a_chat_survive_a_kill() -> None:
    async with rig(ORDERED, retry=PATIENT) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await whisper(it, a, "c0-1", lid=7, known_as=3)
        await pass_time(1)
        await a.kill()
        b = await it.owning("b")
        await whisper(it, b, "c0-2", lid=7)
        await pass_time(1)
        assert {text_of(request) for request in it.attempts("crm")} == {"c0-1"}
        it.answer("crm")
        await it.all_delivered(within_s=60)
        assert list(it.deliveries("crm")) == ["c0-1", "c0-2"]


async def test_the_waiting_chats_of_a_shard_are_known_before_its_first_event_is_read() -> None:
    async with rig(ORDERED, retry=PATIENT, shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await talk(it, a, 3, chats=1)
        await pass_time(1)
        await a.kill()
        waiting = await it.store.retry_queue.waiting_chats(Shard(0), [ORDERED.id])
        assert waiting == {ORDERED.id: {f"i0 {phone(0)}": 3}}
        b = await it.owning("b")
        it.answer("crm")
        await talk(it, b, 3, chats=1)
        await it.all_delivered(within_s=60)
        assert list(it.deliveries("crm")) == sorted(it.deliveries("crm"))
