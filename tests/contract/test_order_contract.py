"""Order per chat in the retry queue: only the head of a chat is due, whatever parks, claims or dies (design 3 "Order")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.samples import SHARD, SHORT_S, Store, claim, claim_when_due, delivered, grant, parking, positions, settle
from worker.domain.ids import Position, Token, WebhookId
from worker.event_integration.retry_queue import DeadReason

pytestmark = pytest.mark.anyio

ANA, BIA = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net"


async def park_chat(store: Store, token: Token, chat: str, *at: int) -> None:
    await store.retry_queue.park(SHARD, token, [parking(Position(position), chat=chat) for position in at])


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
    other = WebhookId("erp")
    await park_chat(store, token, ANA, 1)
    await store.retry_queue.park(SHARD, token, [parking(Position(2), chat=ANA, hook=other)])
    assert positions(await claim(store, token)) == [1]
    assert positions(await claim(store, token, hook=other)) == [2]


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
    await settle(store, replace(delivered(head), delivered=False, retry_in_s=SHORT_S))
    assert await claim(store, token) == []
    assert (await claim_when_due(store, token)).position == 1


async def test_a_head_that_dies_frees_the_next(store: Store) -> None:
    token = await grant(store)
    await park_chat(store, token, ANA, 1, 2)
    [head] = await claim(store, token)
    await settle(store, replace(delivered(head), delivered=False, dead=DeadReason.EXHAUSTED))
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
    short, longer = "a", "a\x00b|c:1"
    await park_chat(store, token, longer, 2)
    await park_chat(store, token, short, 1, 3)
    assert sorted(positions(await claim(store, token))) == [1, 2]
