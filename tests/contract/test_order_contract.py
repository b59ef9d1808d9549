"""Order per chat in the retry queue: only the head of a chat is due, whatever parks, claims or dies (design 3 "Order")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.samples import (
    HOOK,
    LONG_S,
    OTHER_HOOK,
    SHARD,
    SHORT_S,
    Store,
    claim,
    claim_when_due,
    delivered,
    grant,
    parking,
    positions,
    retry,
    settle,
    supersede,
)
from worker.domain.ids import ClaimId, Position, Token
from worker.event_integration.retry_queue import Claimed, DeadReason, Settled, Settlement

pytestmark = pytest.mark.anyio

ODD_CHATS = ("a", "a\0b", "a\1b", "a\1\1b", "a\1\2b", "\0", "\1", "\1\0", "\ufffd", "a|b:1 é\U0001f600", "120363000000000000@g.us")
"""NUL ends a chat in the store's own words, and what stands for it there may be somebody's name, too."""
ANA, BIA = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net"


async def park_chat(store: Store, token: Token, chat: str, *at: int) -> None:
    await store.retry_queue.park(SHARD, token, [parking(Position(position), chat=chat) for position in at])


def dead(of: Claimed) -> Settlement:
    return replace(delivered(of), delivered=False, dead=DeadReason.EXHAUSTED)


async def waiting(store: Store) -> dict[str, int]:
    return (await store.retry_queue.waiting_chats(SHARD, [HOOK])).get(HOOK, {})


async def left_after(store: Store, settlement: Settlement) -> int:
    """What the settlement says is left of the chat, which is what a new owner would be told."""
    [settled] = await store.retry_queue.settle(SHARD, [settlement])
    assert settled.is_settled
    assert settled.chat_left == (await waiting(store)).get(ANA, 0)
    return settled.chat_left


async def test_only_the_head_of_a_chat_is_due(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2, 3)
    assert positions(await claim(store, token)) == [1]


async def test_later_ones_wait_while_the_head_is_under_way(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    await claim(store, token)
    assert await claim(store, token) == []


async def test_other_chats_are_not_held_back(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 3)
    await park_chat(store, token, BIA, 2, 4)
    assert sorted(positions(await claim(store, token))) == [1, 2]


async def test_the_same_chat_at_another_webhook_is_not_held_back(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1)
    await store.retry_queue.park(SHARD, token, [parking(Position(2), chat=ANA, hook=OTHER_HOOK)])
    assert positions(await claim(store, token)) == [1]
    assert positions(await claim(store, token, hook=OTHER_HOOK)) == [2]


async def test_settling_the_head_makes_the_next_one_due(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2, 3)
    for expected in (1, 2, 3):
        [claimed] = await claim(store, token)
        assert claimed.position == expected
        assert await settle(store, delivered(claimed))
    assert await claim(store, token) == []


async def test_a_head_that_failed_holds_back_its_chat_until_its_retry(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    await settle(store, retry(head, SHORT_S))
    assert await claim(store, token) == []
    assert (await claim_when_due(store, token)).position == 1


async def test_a_head_that_dies_frees_the_next(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    await settle(store, dead(head))
    assert positions(await claim(store, token)) == [2]


async def test_a_head_parked_straight_among_the_dead_holds_back_nobody(store: Store) -> None:
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [replace(parking(Position(1), chat=ANA), dead=DeadReason.POISON)])
    await park_chat(store, token, ANA, 2)
    assert positions(await claim(store, token)) == [2]


async def test_a_delivery_parked_behind_nobody_is_due_at_once(store: Store) -> None:
    """The owner's copy of who waits may be stale: its chat emptied a moment ago. That costs a detour, never a stuck chat."""
    token = await grant(store)
    await park_chat(store, token, ANA, 1)
    [head] = await claim(store, token)
    await settle(store, delivered(head))
    await park_chat(store, token, ANA, 2)
    assert positions(await claim(store, token)) == [2]


async def test_order_is_the_journals_not_that_of_parking(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 3)
    await park_chat(store, token, ANA, 1)
    await park_chat(store, token, ANA, 2)
    for expected in (1, 2, 3):
        [claimed] = await claim(store, token)
        assert claimed.position == expected
        await settle(store, delivered(claimed))


async def test_positions_are_compared_as_numbers(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 10, 9, 100)
    for expected in (9, 10, 100):
        [claimed] = await claim(store, token)
        assert claimed.position == expected
        await settle(store, delivered(claimed))


async def test_an_attempt_that_became_a_claim_is_waited_for_like_a_parked_one(store: Store) -> None:
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [parking(Position(1), chat=ANA, claim_for_s=SHORT_S), parking(Position(2), chat=ANA)])
    assert await claim(store, token) == []
    head = await claim_when_due(store, token)
    assert head.position == 1
    assert await claim(store, token) == []
    await settle(store, delivered(head))
    assert positions(await claim(store, token)) == [2]


async def test_repeating_a_park_of_a_whole_chat_changes_nothing(store: Store) -> None:
    token = await grant(store)
    for _ in range(2):
        await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    await park_chat(store, token, ANA, 1, 2)
    assert await claim(store, token) == []
    await settle(store, delivered(head))
    assert positions(await claim(store, token)) == [2]


async def test_a_chat_may_be_called_anything(store: Store) -> None:
    token = await grant(store)
    for position, chat in enumerate(ODD_CHATS, start=1):
        await park_chat(store, token, chat, position, position + 100)
    assert await waiting(store) == dict.fromkeys(ODD_CHATS, 2)
    claimed = await claim(store, token, count=100)
    assert {one.position: one.chat for one in claimed} == dict(enumerate(ODD_CHATS, start=1))


async def test_a_delivery_outside_order_has_no_chat(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, "", 1, 2)
    await store.retry_queue.park(SHARD, token, [parking(Position(3), chat=None)])
    claimed = await claim(store, token)
    assert {one.position: one.chat for one in claimed} == {1: None, 2: None, 3: None}
    assert await waiting(store) == {}
    assert await store.retry_queue.settle(SHARD, [delivered(claimed[0])]) == [Settled(is_settled=True, chat_left=0)]


# -- which chats wait ----------------------------------------------------------------------------------------------------------


async def test_nobody_waits_at_first_and_asking_about_nobody_answers_nobody(store: Store) -> None:
    assert not any((await store.retry_queue.waiting_chats(SHARD, [HOOK, OTHER_HOOK])).values())
    assert await store.retry_queue.waiting_chats(SHARD, []) == {}


async def test_what_waits_is_counted_per_webhook_and_chat_and_told_of_those_asked_about(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    await park_chat(store, token, BIA, 3)
    await store.retry_queue.park(SHARD, token, [parking(Position(1), chat=ANA, hook=OTHER_HOOK)])
    assert await store.retry_queue.waiting_chats(SHARD, [HOOK, OTHER_HOOK]) == {HOOK: {ANA: 2, BIA: 1}, OTHER_HOOK: {ANA: 1}}
    assert await store.retry_queue.waiting_chats(SHARD, [OTHER_HOOK]) == {OTHER_HOOK: {ANA: 1}}


async def test_what_is_parked_again_is_counted_once(store: Store) -> None:
    token = await grant(store)
    for _ in range(2):
        await park_chat(store, token, ANA, 1, 2)
    assert await waiting(store) == {ANA: 2}


async def test_claims_wait_like_what_is_parked(store: Store) -> None:
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [parking(Position(1), chat=BIA, claim_for_s=LONG_S)])
    await park_chat(store, token, ANA, 2, 3)
    await claim(store, token)
    assert await waiting(store) == {ANA: 2, BIA: 1}


async def test_the_next_owner_is_told_the_same(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    await supersede(store)
    assert await waiting(store) == {ANA: 2}
    assert await left_after(store, delivered(head)) == 1


async def test_the_dead_do_not_wait(store: Store) -> None:
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [replace(parking(Position(1), chat=ANA), dead=DeadReason.POISON)])
    await park_chat(store, token, ANA, 2, 3)
    [head] = await claim(store, token)
    assert await left_after(store, dead(head)) == 1
    [last] = await claim(store, token)
    assert await left_after(store, dead(last)) == 0
    assert await waiting(store) == {}


async def test_each_settlement_tells_how_many_of_its_chat_are_left(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, BIA, 4)
    await park_chat(store, token, ANA, 1, 2, 3)
    for left in (2, 1, 0):
        head = next(one for one in await claim(store, token) if one.chat == ANA)
        assert await left_after(store, delivered(head)) == left
    assert await waiting(store) == {BIA: 1}


async def test_a_delivery_that_is_tried_again_is_among_those_left(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1)
    [head] = await claim(store, token)
    assert await left_after(store, retry(head, 0.0)) == 1
    [head] = await claim(store, token)
    assert await left_after(store, retry(head, LONG_S, counted=False)) == 1


async def test_settlements_of_one_call_are_counted_one_after_the_other(store: Store) -> None:
    token = await grant(store)
    items = [parking(Position(position), chat=ANA, claim_for_s=LONG_S) for position in (1, 2, 3)]
    claims = [parked.claim for parked in await store.retry_queue.park(SHARD, token, items)]
    outcomes = [
        Settlement(claim=claimed, delivery_id=item.delivery_id, event_key=item.event_key, webhook_id=HOOK, delivered=True)
        for item, claimed in zip(items, claims, strict=True)
        if claimed is not None
    ]
    settled = await store.retry_queue.settle(SHARD, outcomes)
    assert [one.chat_left for one in settled] == [2, 1, 0]


async def test_a_settlement_that_is_refused_says_nothing_of_the_chat(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    wrong = replace(delivered(head), claim=ClaimId(head.claim + 1))
    answers = await store.retry_queue.settle(SHARD, [wrong, delivered(head), delivered(head)])
    assert answers == [
        Settled(is_settled=False, chat_left=0),
        Settled(is_settled=True, chat_left=1),
        Settled(is_settled=False, chat_left=0),
    ]
