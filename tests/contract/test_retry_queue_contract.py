"""The retry queue: park, due, claim, settle (design 3 "Retry queue"); what becomes of the dead: `test_dead_letters_contract.py`."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from tests.contract.samples import (
    HOOK,
    KNOWN_DONE,
    OTHER_HOOK,
    SHARD,
    SHORT_S,
    TENANT,
    Store,
    append,
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
from worker.domain.ids import ClaimId, Position, Token, WebhookId
from worker.event_integration.retry_queue import Parked, Settlement, Want
from worker.journal.port import Checkpoint, Done

pytestmark = pytest.mark.anyio

PARKED = Parked(known_done=False, claim=None)


async def move_prefix(store: Store, token: Token, prefix: int) -> None:
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(prefix)))


# --- park ---------------------------------------------------------------------------------------------------------------------


async def test_a_parked_delivery_comes_back_as_it_was(store: Store) -> None:
    token = await grant(store)
    item = replace(parking(Position(1)), record=bytes(range(256)), attempts=3)
    assert await park(store, token, item) == [PARKED]
    [claimed] = await claim(store, token)
    assert (claimed.delivery_id, claimed.event_key, claimed.webhook_id) == (item.delivery_id, item.event_key, item.webhook_id)
    assert (claimed.tenant_id, claimed.position, claimed.record, claimed.attempts) == (TENANT, 1, item.record, 3)
    assert 0 <= claimed.parked_for_s < 5


async def test_parking_relieves_the_journal_in_the_same_call(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1", "event 2")
    await park(store, token, parking(Position(2)))
    progress = await store.checkpoints.load(SHARD, token)
    assert progress.done == {Done(Position(2), HOOK)}


async def test_parking_twice_is_parking_once_and_keeps_the_attempts_counted(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), attempts=4))
    assert await park(store, token, parking(Position(1), attempts=0)) == [PARKED]
    [claimed] = await claim(store, token)
    assert claimed.attempts == 4
    assert await claim(store, token) == []


async def test_parking_again_does_not_bring_the_retry_forward(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), due_in_s=30))
    await park(store, token, parking(Position(1), due_in_s=0))
    assert await claim(store, token) == []


async def test_a_delivery_known_to_be_done_is_not_brought_back(store: Store) -> None:
    """A slow park of an owner that had settled it in between would deliver it twice."""
    token = await grant(store)
    await append(store, "event 1", "event 2", "event 3")
    await store.checkpoints.save(
        Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2), done=[Done(Position(3), None), Done(Position(2), HOOK)])
    )
    answers = await park(store, token, parking(Position(1)), parking(Position(2)), parking(Position(3)))
    assert answers == [KNOWN_DONE] * 3
    assert await claim(store, token) == []


async def test_another_delivery_of_the_same_event_is_not_done_with_it(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(1), done=[Done(Position(1), HOOK)]))
    assert await park(store, token, parking(Position(1)), parking(Position(1), hook=OTHER_HOOK)) == [KNOWN_DONE, PARKED]


async def test_a_delivery_that_was_parked_and_settled_is_known_to_be_done(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [claimed] = await claim(store, token)
    await settle(store, delivered(claimed))
    assert await park(store, token, parking(Position(1))) == [KNOWN_DONE]


async def test_a_delivery_that_is_still_parked_is_not_done_when_the_prefix_has_passed_it(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")
    await park(store, token, parking(Position(1)))
    await move_prefix(store, token, 2)
    assert positions(await claim(store, token)) == [1]


async def test_a_fact_behind_the_prefix_is_never_written(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")
    await park(store, token, parking(Position(1)))
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2), behind=[Done(Position(1), HOOK)]))
    await park(store, token, parking(Position(1)))
    assert (await store.checkpoints.load(SHARD, token)).done == frozenset()


async def test_parking_answers_each_item_in_its_place(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1", "event 2", "event 3")
    await move_prefix(store, token, 2)
    answers = await park(store, token, parking(Position(2)), parking(Position(1)), parking(Position(3), claim_for_s=30))
    assert [answer.known_done for answer in answers] == [False, True, False]
    assert [answer.claim is not None for answer in answers] == [False, False, True]


async def test_an_attempt_under_way_becomes_a_claim_that_settles_it(store: Store) -> None:
    token = await grant(store)
    item = parking(Position(1), claim_for_s=30)
    [parked] = await park(store, token, item)
    assert await claim(store, token) == []
    assert parked.claim is not None
    outcome = Settlement(claim=parked.claim, delivery_id=item.delivery_id, event_key=item.event_key, webhook_id=HOOK, delivered=True)
    assert await settle(store, outcome)
    assert await park(store, token, item) == [KNOWN_DONE]


async def test_an_attempt_that_became_a_claim_is_visible_again_when_nobody_settles_it(store: Store) -> None:
    token = await grant(store)
    [parked] = await park(store, token, parking(Position(1), attempts=1, claim_for_s=SHORT_S))
    assert await claim(store, token) == []
    claimed = await claim_when_due(store, token)
    assert claimed.claim != parked.claim
    assert claimed.attempts == 1


async def test_a_superseded_owner_can_neither_park_nor_claim(store: Store) -> None:
    stale = await grant(store)
    token = await supersede(store)
    with pytest.raises(StaleToken):
        await park(store, stale, parking(Position(1)))
    assert await due(store) == []
    await park(store, token, parking(Position(1)))
    with pytest.raises(StaleToken):
        await claim(store, stale)
    assert positions(await claim(store, token)) == [1]


async def test_what_is_not_due_yet_can_be_claimed_where_nobody_is_asked_any_more(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), due_in_s=60), parking(Position(2), claim_for_s=60), parking(Position(3)))
    wanted = {HOOK: Want(1, 60, whenever=True)}
    taken = [positions(await store.retry_queue.claim(SHARD, token, wanted)) for _ in range(3)]
    assert taken == [[3], [1], []], "the second one is claimed already"


# --- due and claim ------------------------------------------------------------------------------------------------------------


async def test_nothing_is_claimed_before_it_is_due(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), due_in_s=SHORT_S))
    assert await claim(store, token) == []
    assert (await claim_when_due(store, token)).position == 1


async def test_the_due_list_shows_webhooks_by_their_earliest_delivery(store: Store) -> None:
    token = await grant(store)
    await park(
        store,
        token,
        parking(Position(1), due_in_s=60),
        parking(Position(2), due_in_s=20),
        parking(Position(3), hook=OTHER_HOOK, due_in_s=40),
    )
    first, second = await due(store)
    assert (first.webhook_id, first.depth, second.webhook_id, second.depth) == (HOOK, 2, OTHER_HOOK, 1)
    assert 15 < first.due_in_s <= 20
    assert 35 < second.due_in_s <= 40
    assert [one.webhook_id for one in await due(store, limit=1)] == [HOOK]


async def test_what_may_be_claimed_is_due_in_nothing_or_less(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [listed] = await due(store)
    assert listed.due_in_s <= 0


async def test_a_webhook_without_deliveries_is_not_listed(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [claimed] = await claim(store, token)
    await settle(store, delivered(claimed))
    assert await due(store) == []


async def test_a_claim_takes_at_most_what_each_webhook_wants(store: Store) -> None:
    token = await grant(store)
    await park(store, token, *[parking(Position(n), hook=hook) for n in range(1, 6) for hook in (HOOK, OTHER_HOOK)])
    claimed = await store.retry_queue.claim(SHARD, token, {HOOK: Want(2, 30), OTHER_HOOK: Want(3, 30), WebhookId("unknown"): Want(5, 30)})
    assert [sum(one.webhook_id == hook for one in claimed) for hook in (HOOK, OTHER_HOOK)] == [2, 3]
    assert len({one.claim for one in claimed}) == 5


async def test_a_claimed_delivery_is_seen_by_nobody_else(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)), parking(Position(2)))
    [first] = await claim(store, token, count=1)
    [second] = await claim(store, token)
    assert {first.position, second.position} == {1, 2}
    assert await claim(store, token) == []


async def test_claims_at_the_same_time_share_the_deliveries(store: Store) -> None:
    token = await grant(store)
    await park(store, token, *[parking(Position(n)) for n in range(1, 21)])
    taken: list[Position] = []

    async def pump() -> None:
        taken.extend(positions(await claim(store, token, count=4)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(pump)
    assert sorted(taken) == list(range(1, 21))


async def test_an_expired_claim_is_claimed_anew_and_the_first_settles_nothing(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    first = await claim_when_due(store, token, visible_after_s=SHORT_S)
    second = await claim_when_due(store, token)
    assert second.delivery_id == first.delivery_id
    assert second.claim != first.claim
    assert not await settle(store, delivered(first))
    assert await settle(store, delivered(second))


async def test_an_expired_claim_that_nobody_took_over_still_settles(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    claimed = await claim_when_due(store, token, visible_after_s=SHORT_S)

    async def is_visible() -> bool:
        return (await due(store))[0].due_in_s <= 0

    assert await eventually(is_visible)
    assert await settle(store, delivered(claimed))
    assert await claim(store, token) == []


async def test_a_claim_survives_its_owner_into_the_next_tenure(store: Store) -> None:
    first = await grant(store)
    await park(store, first, parking(Position(1)))
    await claim(store, first)
    assert await claim(store, await supersede(store)) == []


# --- settle -------------------------------------------------------------------------------------------------------------------


async def test_a_delivered_one_is_gone_and_settles_once(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [claimed] = await claim(store, token)
    assert await settle(store, delivered(claimed))
    assert not await settle(store, delivered(claimed))
    assert await due(store) == []


async def test_an_attempt_is_settled_by_its_claim_also_after_the_lease_has_gone(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [claimed] = await claim(store, token)
    successor = await supersede(store)
    assert await settle(store, delivered(claimed))
    assert await park(store, successor, parking(Position(1))) == [KNOWN_DONE]


async def test_a_claim_that_never_was_settles_nothing(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1)))
    [claimed] = await claim(store, token)
    assert not await settle(store, replace(delivered(claimed), claim=ClaimId(claimed.claim + 1)))
    assert await settle(store, delivered(claimed))


async def test_a_failed_attempt_counts_and_comes_back_when_it_is_due(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), attempts=1))
    [claimed] = await claim(store, token)
    assert await settle(store, retry(claimed, SHORT_S))
    assert await claim(store, token) == []
    again = await claim_when_due(store, token)
    assert again.attempts == 2
    assert again.record == claimed.record


async def test_a_hand_back_is_not_an_attempt_and_due_at_once(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), attempts=1))
    [claimed] = await claim(store, token)
    assert await settle(store, retry(claimed, 0, counted=False))
    [again] = await claim(store, token)
    assert again.attempts == 1
    assert not await settle(store, delivered(claimed))


async def test_how_long_a_delivery_has_waited_counts_from_its_first_parking(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), due_in_s=SHORT_S))
    claimed = await claim_when_due(store, token)
    assert claimed.parked_for_s >= SHORT_S * 0.9
    await settle(store, retry(claimed, 0))
    [again] = await claim(store, token)
    assert again.parked_for_s >= claimed.parked_for_s


async def test_settlements_are_answered_each_in_its_place(store: Store) -> None:
    token = await grant(store)
    await park(store, token, *[parking(Position(n)) for n in (1, 2, 3)])
    one, two, three = await claim(store, token)
    await settle(store, delivered(two))
    answers = await store.retry_queue.settle(SHARD, [delivered(one), delivered(two), delivered(three)])
    assert [answer.is_settled for answer in answers] == [True, False, True]
