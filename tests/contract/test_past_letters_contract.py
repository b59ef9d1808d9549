"""Dead letters as an operator sees them: listed, shown, discarded and replayed, never lost on the way (design 3 "Room")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.past_samples import INSTANCE, MINE, die, dying, id_for, listed, waiting
from tests.contract.samples import (
    HOOK,
    OTHER_HOOK,
    OTHER_SHARD,
    OWNER,
    SHARD,
    SHARDS,
    TENANT,
    Store,
    claim,
    claim_when_due,
    delivered,
    due,
    grant,
    park,
    parking,
    settle,
)
from worker.domain.ids import DeliveryId, InstanceId, Position, TenantId, shard_of
from worker.domain.record import Heading
from worker.event_integration.past import LetterFilter, LetterPlace, Moved, Moving
from worker.event_integration.retry_queue import DeadReason, Waiting

pytestmark = pytest.mark.anyio

STRANGER = TenantId("other")


# --- listing ------------------------------------------------------------------------------------------------------------------


async def test_letters_are_listed_newest_first_with_what_they_are_about(store: Store) -> None:
    token = await grant(store)
    await die(store, token, dying(1), dying(2))
    newest, oldest = await listed(store)
    assert (newest.died_at_ms, newest.delivery_id) >= (oldest.died_at_ms, oldest.delivery_id)
    by_position = {letter.position: letter for letter in (newest, oldest)}
    letter = by_position[Position(1)]
    assert (letter.event_key, letter.webhook_id, letter.tenant_id, letter.shard) == ("event 1", HOOK, TENANT, SHARD)
    assert (letter.reason, letter.attempts, letter.error) == (DeadReason.EXHAUSTED, 9, "answered 500")
    assert letter.heading == Heading(INSTANCE, "message", "message/edited", "2026-11-22T07:45:38.300Z")


async def test_a_letter_whose_record_cannot_be_read_is_listed_without_a_heading(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, replace(dying(1), record=b"not a record"))
    assert letter.heading is None


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_hold_each_letter_once_in_order_over_all_shards(store: Store, limit: int, newest_first: bool) -> None:
    tokens = {shard: await grant(store, shard=shard) for shard in (SHARD, OTHER_SHARD)}
    for number in range(1, 8):
        shard = SHARD if number % 2 else OTHER_SHARD
        await store.retry_queue.park(shard, tokens[shard], [dying(number), dying(number, hook=OTHER_HOOK)])
    letters = await listed(store, limit=limit, newest_first=newest_first)
    places = [letter.place for letter in letters]
    assert len(set(places)) == 14
    assert places == sorted(places, reverse=newest_first)


async def test_letters_that_died_together_are_told_apart_by_their_ids(store: Store) -> None:
    """Several die in one script, in one millisecond: a cursor between them must neither skip nor repeat any."""
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [dying(number) for number in range(1, 30)])
    for newest_first in (True, False):
        assert len({letter.delivery_id for letter in await listed(store, limit=4, newest_first=newest_first)}) == 29


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (MINE, {1, 2, 3}),
        (replace(MINE, webhook_id=OTHER_HOOK), {2}),
        (replace(MINE, reason=DeadReason.POISON), {3}),
        (replace(MINE, webhook_id=OTHER_HOOK, reason=DeadReason.POISON), set()),
        (LetterFilter(tenant_id=STRANGER), {4}),
    ],
)
async def test_a_filter_lets_through_what_it_names(store: Store, wanted: LetterFilter, found: set[int]) -> None:
    token = await grant(store)
    await die(store, token, dying(1), dying(2, hook=OTHER_HOOK), dying(3, reason=DeadReason.POISON), dying(4, tenant=STRANGER))
    assert {letter.position for letter in await listed(store, wanted, limit=1)} == found


async def test_letters_of_one_instance(store: Store) -> None:
    mine, other = (
        InstanceId("a"),
        next(i for n in range(99) if shard_of(i := InstanceId(f"b{n}"), SHARDS) == shard_of(InstanceId("a"), SHARDS)),
    )
    shard = shard_of(mine, SHARDS)
    token = await grant(store, shard=shard)
    await store.retry_queue.park(shard, token, [dying(n, instance=mine if n % 2 else other) for n in range(1, 6)])
    assert {letter.position for letter in await listed(store, replace(MINE, instance_id=mine), limit=2)} == {1, 3, 5}


async def test_a_time_range_begins_with_its_first_instant_and_ends_before_its_last(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    at = letter.died_at_ms
    assert len(await listed(store, replace(MINE, since_ms=at, until_ms=at + 1))) == 1
    assert await listed(store, replace(MINE, since_ms=at + 1)) == []
    assert await listed(store, replace(MINE, until_ms=at)) == []


async def test_a_page_says_what_time_it_is(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    page = await store.dead_letters.page(MINE, after=None, limit=1)
    assert 0 <= page.now_ms - letter.died_at_ms < 5_000


async def test_a_cursor_whose_letter_has_gone_still_stands_where_it_stood(store: Store) -> None:
    token = await grant(store)
    letters = await die(store, token, *[dying(number) for number in range(1, 6)])
    page = await store.dead_letters.page(MINE, after=None, limit=2, newest_first=False)
    await store.dead_letters.discard(page.letters)
    rest = await store.dead_letters.page(MINE, after=page.next, limit=10, newest_first=False)
    assert list(rest.letters) == letters[2:]


async def test_a_cursor_beyond_everything_ends_the_list(store: Store) -> None:
    token = await grant(store)
    await die(store, token, dying(1))
    page = await store.dead_letters.page(MINE, after=LetterPlace(0, DeliveryId("")), limit=10)
    assert (list(page.letters), page.next) == ([], None)


# --- one letter ---------------------------------------------------------------------------------------------------------------


async def test_one_letter_is_shown_with_its_record(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    assert await store.dead_letters.find(TENANT, letter.delivery_id) == (letter, dying(1).record)


async def test_another_tenants_letter_is_not_found_nor_is_one_that_is_not_there(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    assert await store.dead_letters.find(STRANGER, letter.delivery_id) is None
    assert await store.dead_letters.find(TENANT, DeliveryId("msg_elsewhere")) is None


# --- discarding ---------------------------------------------------------------------------------------------------------------


async def test_discarding_forgets_a_letter_and_its_record_once(store: Store) -> None:
    token = await grant(store)
    first, second = await die(store, token, dying(1), dying(2))
    assert await store.dead_letters.discard([first]) == 1
    assert await store.dead_letters.discard([first]) == 0
    assert await listed(store) == [second]
    assert await waiting(store) == Waiting(1, len(dying(2).record))


async def test_a_record_that_another_letter_needs_outlives_a_discard(store: Store) -> None:
    token = await grant(store)
    letters = await die(store, token, dying(1), dying(1, hook=OTHER_HOOK))
    await store.dead_letters.discard(letters[:1])
    [left] = await listed(store)
    assert left.heading is not None


async def test_a_record_that_waits_in_the_queue_again_outlives_the_old_letter(store: Store) -> None:
    """An event that comes once more after the dedupe window is parked under the id its dead letter has."""
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    again = replace(dying(2), event_key=letter.event_key, delivery_id=letter.delivery_id, record=dying(1).record, dead=None)
    await park(store, token, again)
    assert await store.dead_letters.discard([letter]) == 1
    assert [claimed.record for claimed in await claim(store, token)] == [dying(1).record]


async def test_what_is_delivered_in_the_end_is_a_dead_letter_no_more(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await park(store, token, replace(dying(2), event_key=letter.event_key, delivery_id=letter.delivery_id, dead=None))
    [claimed] = await claim(store, token)
    await settle(store, delivered(claimed))
    assert await listed(store) == []
    assert await waiting(store) == Waiting(0, 0)


# --- replaying ----------------------------------------------------------------------------------------------------------------


async def test_a_replayed_letter_is_due_again_with_fresh_attempts(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    assert await store.dead_letters.replay([Moving(letter, HOOK, 0)]) == [Moved.QUEUED]
    assert await listed(store) == []
    claimed = await claim_when_due(store, token)
    assert (claimed.delivery_id, claimed.attempts, claimed.chat, claimed.record) == (letter.delivery_id, 0, None, dying(1).record)
    assert claimed.parked_for_s < 5
    await settle(store, delivered(claimed))
    assert await waiting(store) == Waiting(0, 0)


async def test_a_letter_replayed_to_another_webhook_is_that_webhooks_own_delivery(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)])
    assert await claim(store, token) == []
    claimed = await claim_when_due(store, token, hook=OTHER_HOOK)
    assert claimed.delivery_id == id_for(1, OTHER_HOOK)
    assert await waiting(store) == Waiting(1, len(dying(1).record))
    await settle(store, delivered(claimed))
    assert await waiting(store) == Waiting(0, 0)


async def test_replaying_is_done_once_however_often_it_is_asked_for(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    for _ in range(3):
        assert await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)]) == [Moved.QUEUED]
    assert await waiting(store) == Waiting(1, len(dying(1).record))
    claimed = await claim_when_due(store, token, hook=OTHER_HOOK)
    await settle(store, delivered(claimed))
    assert await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)]) == [Moved.GONE]
    assert await claim(store, token, hook=OTHER_HOOK) == []


async def test_a_delivery_that_waits_in_the_queue_is_left_as_it_is(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await park(store, token, parking(Position(1), hook=OTHER_HOOK, attempts=4))
    assert await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 3_600)]) == [Moved.QUEUED]
    [claimed] = await claim(store, token, hook=OTHER_HOOK)
    assert claimed.attempts == 4


async def test_a_record_that_waits_in_the_queue_again_outlives_the_old_letters_replay_elsewhere(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    again = replace(dying(2), event_key=letter.event_key, delivery_id=letter.delivery_id, record=dying(1).record, dead=None)
    await park(store, token, again)
    await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)])
    elsewhere = await claim_when_due(store, token, hook=OTHER_HOOK)
    await settle(store, delivered(elsewhere))
    assert [claimed.record for claimed in await claim(store, token)] == [dying(1).record]


async def test_letters_are_due_when_they_were_asked_for(store: Store) -> None:
    token = await grant(store)
    letters = await die(store, token, dying(1), dying(2))
    await store.dead_letters.replay([Moving(letters[0], HOOK, 0), Moving(letters[1], HOOK, 100)])
    claimed = await claim_when_due(store, token)
    assert claimed.delivery_id == letters[0].delivery_id
    await settle(store, delivered(claimed))
    [row] = await due(store)
    assert 95 < row.due_in_s <= 100
    assert row.depth == 1


async def test_a_replayed_letter_that_dies_again_is_a_letter_again(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await store.dead_letters.replay([Moving(letter, HOOK, 0)])
    claimed = await claim_when_due(store, token)
    await settle(store, replace(delivered(claimed), delivered=False, dead=DeadReason.TOO_OLD))
    [again] = await listed(store)
    assert (again.delivery_id, again.reason, again.attempts) == (letter.delivery_id, DeadReason.TOO_OLD, 1)
    assert await waiting(store) == Waiting(1, len(dying(1).record))


async def test_each_of_many_is_answered_for_itself_in_order(store: Store) -> None:
    tokens = {shard: await grant(store, shard=shard) for shard in (SHARD, OTHER_SHARD)}
    for number in range(1, 161):
        shard = SHARD if number % 2 else OTHER_SHARD
        await store.retry_queue.park(shard, tokens[shard], [dying(number)])
    letters = await listed(store)
    await store.dead_letters.discard(letters[10:20])
    moved = await store.dead_letters.replay([Moving(letter, HOOK, 0) for letter in letters])
    assert [index for index, one in enumerate(moved) if one is Moved.GONE] == list(range(10, 20))
    assert moved.count(Moved.QUEUED) == 150


async def test_a_replay_needs_no_lease_and_the_next_owner_finds_it(store: Store) -> None:
    token = await grant(store, ttl_s=30)
    [letter] = await die(store, token, dying(1))
    await store.leases.release(SHARD, OWNER, token, to=None)
    await store.dead_letters.replay([Moving(letter, HOOK, 0)])
    token = await grant(store, "another")
    assert (await claim_when_due(store, token)).delivery_id == letter.delivery_id


async def test_a_replay_to_a_webhook_that_is_held_back_waits(store: Store) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await store.retry_queue.hold(SHARD, token, {HOOK})
    await store.dead_letters.replay([Moving(letter, HOOK, 0)])
    assert await claim(store, token) == []
    await store.retry_queue.hold(SHARD, token, set())
    assert (await claim_when_due(store, token)).delivery_id == letter.delivery_id
