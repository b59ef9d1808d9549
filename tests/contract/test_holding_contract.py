"""Webhooks that are held back in the retry queue (contract 5: pause): theirs waits, is never due, and stands in nobody's way."""

from __future__ import annotations

import pytest

from tests.contract.samples import (
    HOOK,
    LONG_S,
    OTHER_HOOK,
    OTHER_SHARD,
    SHARD,
    SHORT_S,
    Store,
    claim,
    claim_when_due,
    delivered,
    due,
    eventually,
    grant,
    park,
    parking,
    positions,
    retry,
    settle,
    supersede,
)
from worker.domain.errors import StaleToken
from worker.domain.ids import Position, Token, WebhookId

pytestmark = pytest.mark.anyio


async def hold(store: Store, token: Token, *hooks: WebhookId) -> None:
    await store.retry_queue.hold(SHARD, token, hooks)


async def due_hooks(store: Store, *, limit: int = 100) -> list[WebhookId]:
    return [row.webhook_id for row in await due(store, limit=limit)]


async def test_what_is_parked_for_a_held_webhook_is_neither_due_nor_claimed(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    await park(store, token, parking(Position(1)), parking(Position(2), hook=OTHER_HOOK))
    assert await due_hooks(store) == [OTHER_HOOK]
    assert await claim(store, token) == []


async def test_what_was_parked_before_is_held_too(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)), parking(Position(2), hook=OTHER_HOOK))
    await hold(store, token, HOOK)
    assert await due_hooks(store) == [OTHER_HOOK]


async def test_held_webhooks_crowd_nobody_out_of_the_look(store: Store) -> None:
    token = await grant(store)
    crowd = [WebhookId(f"held {n}") for n in range(100)]
    await park(store, token, *(parking(Position(n + 1), hook=hook) for n, hook in enumerate(crowd)))
    await park(store, token, parking(Position(200), hook=OTHER_HOOK))
    await hold(store, token, *crowd)
    assert await due_hooks(store, limit=1) == [OTHER_HOOK]


async def test_what_is_held_no_longer_comes_in_the_order_it_was_due(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    for n in range(1, 5):
        await park(store, token, parking(Position(n), due_in_s=-n))
    await hold(store, token)
    [row] = await due(store)
    assert (row.webhook_id, row.depth) == (HOOK, 4)
    assert row.due_in_s <= 0
    assert positions(await claim(store, token)) == [4, 3, 2, 1]


async def test_the_held_are_exactly_those_named_last(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)), parking(Position(2), hook=OTHER_HOOK))
    await hold(store, token, HOOK)
    await hold(store, token, OTHER_HOOK)
    assert await due_hooks(store) == [HOOK]
    await hold(store, token, OTHER_HOOK)
    assert await due_hooks(store) == [HOOK]


async def test_holding_a_webhook_of_which_nothing_waits_makes_nothing_due_when_it_ends(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    await hold(store, token)
    assert await due(store) == []


async def test_an_attempt_under_way_is_settled_as_ever_and_its_retry_is_held(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)), parking(Position(2)))
    first, second = sorted(await claim(store, token), key=lambda claimed: claimed.position)
    await hold(store, token, HOOK)
    assert await settle(store, delivered(first))
    assert await settle(store, retry(second, in_s=0))
    assert await due(store) == []
    await hold(store, token)
    [again] = await claim(store, token)
    assert (again.position, again.attempts) == (2, 1)


async def test_a_claim_that_nobody_settled_stays_held_when_its_visibility_ends(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    await claim(store, token, visible_after_s=SHORT_S)
    await hold(store, token, HOOK)
    await park(store, token, parking(Position(2), hook=OTHER_HOOK, due_in_s=2 * SHORT_S))
    assert (await claim_when_due(store, token, hook=OTHER_HOOK)).position == 2
    assert await claim(store, token) == []
    await hold(store, token)
    assert positions(await claim(store, token)) == [1]


async def test_a_held_chat_keeps_its_order(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    await park(store, token, *(parking(Position(n), chat="ana") for n in (2, 1, 3)))
    assert await store.retry_queue.waiting_chats(SHARD, [HOOK]) == {HOOK: {"ana": 3}}
    await hold(store, token)
    came = []
    for _ in range(3):
        [head] = await claim(store, token)
        came.append(head.position)
        await settle(store, delivered(head))
    assert came == [1, 2, 3]


async def test_a_retry_far_away_is_due_at_its_time_after_the_hold(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    await park(store, token, parking(Position(1), due_in_s=LONG_S))
    await hold(store, token)
    [row] = await due(store)
    assert 0 < row.due_in_s <= LONG_S


async def test_the_hold_outlives_its_owner_until_the_next_says_otherwise(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    await hold(store, token, HOOK)
    newer = await supersede(store)
    assert await claim(store, newer) == []
    with pytest.raises(StaleToken):
        await hold(store, token)
    await hold(store, newer)
    assert positions(await claim(store, newer)) == [1]


async def test_a_superseded_owner_is_refused_also_where_nothing_would_change(store: Store) -> None:
    token = await grant(store)
    await supersede(store)
    with pytest.raises(StaleToken):
        await hold(store, token)


async def test_another_shard_holds_its_own(store: Store) -> None:
    token = await grant(store)
    other = await grant(store, shard=OTHER_SHARD)
    await store.retry_queue.hold(OTHER_SHARD, other, [HOOK])
    await park(store, token, parking(Position(1)))

    async def is_due() -> bool:
        return await due_hooks(store) == [HOOK]

    assert await eventually(is_due)


async def test_what_waits_of_a_held_webhook_can_be_counted(store: Store) -> None:
    token = await grant(store)
    await hold(store, token, HOOK)
    await park(store, token, parking(Position(1)), parking(Position(2), due_in_s=LONG_S), parking(Position(3), hook=OTHER_HOOK))
    rows = await store.retry_queue.waiting_of(SHARD, [OTHER_HOOK, WebhookId("of which nothing waits"), HOOK])
    assert [(row.webhook_id, row.depth, row.due_in_s <= 0) for row in rows] == [(OTHER_HOOK, 1, True), (HOOK, 2, True)]
    assert await store.retry_queue.waiting_of(SHARD, []) == []
