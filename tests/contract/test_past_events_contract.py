"""Past events: found by key, told how they fare, read again out of the journal and queued (design 3 "Journal", contract 5 "events")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.past_samples import a_record, die, dying, waiting
from tests.contract.samples import (
    HOOK,
    OTHER_HOOK,
    OTHER_SHARD,
    SHARD,
    TENANT,
    Store,
    append,
    claim,
    claim_when_due,
    delivered,
    event,
    grant,
    park,
    parking,
    retry,
    settle,
)
from worker.domain.ids import EventKey, Position, TenantId, Token, delivery_id
from worker.event_integration.past import DeliveryState, Enqueued, PastDelivery, Stage, Window
from worker.event_integration.retry_queue import DeadReason, Waiting
from worker.journal.port import Checkpoint, Done, Freed

pytestmark = pytest.mark.anyio

ALWAYS = Window(since_ms=0, until_ms=2**43)
STRANGER = TenantId("other")


def past_delivery(position: int, *, due_in_s: float = 0.0, is_new_to_it: bool = False) -> PastDelivery:
    key = EventKey(f"event {position}")
    return PastDelivery(
        delivery_id=delivery_id(key, HOOK),
        event_key=key,
        webhook_id=HOOK,
        tenant_id=TENANT,
        position=Position(position),
        record=a_record(key),
        due_in_s=due_in_s,
        is_new_to_it=is_new_to_it,
    )


async def done_up_to(store: Store, token: Token, prefix: int, *facts: Done) -> None:
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(prefix), done=facts))


# --- found by its key ---------------------------------------------------------------------------------------------------------


async def test_an_event_is_found_where_it_stands(store: Store) -> None:
    await append(store, "a", "b")
    await append(store, "c", shard=OTHER_SHARD)
    found = await store.past.find(EventKey("b"))
    assert found is not None
    assert (found.shard, found.position, found.tenant_id, found.record, found.users) == (SHARD, 2, TENANT, b"b", frozenset())
    elsewhere = await store.past.find(EventKey("c"))
    assert elsewhere is not None
    assert (elsewhere.shard, elsewhere.position) == (OTHER_SHARD, 1)


async def test_an_event_nobody_remembers_is_not_found(store: Store) -> None:
    assert await store.past.find(EventKey("never")) is None


async def test_an_event_that_is_never_remembered_is_found_while_it_waits(store: Store) -> None:
    token = await grant(store)
    await store.journal.append(SHARD, [event("fresh", remembered=False)])
    assert await store.past.find(EventKey("fresh")) is None
    await park(store, token, parking(Position(1), key="fresh"), parking(Position(1), key="fresh", hook=OTHER_HOOK))
    found = await store.past.find(EventKey("fresh"))
    assert found is not None
    assert (found.position, found.tenant_id, found.users) == (None, TENANT, frozenset((HOOK, OTHER_HOOK)))
    assert found.record == b"record fresh"


async def test_an_event_that_the_journal_has_trimmed_is_remembered_without_its_record(store: Store) -> None:
    token = await grant(store)
    await append(store, "a")
    await append(store, "b")
    await done_up_to(store, token, 2)
    await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0)
    found = await store.past.find(EventKey("a"))
    assert found is not None
    assert (found.position, found.tenant_id, found.record) == (1, None, None)


# --- how it fares -------------------------------------------------------------------------------------------------------------


async def test_the_state_of_each_delivery_of_an_event(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")

    async def state() -> DeliveryState:
        return (await store.past.states(SHARD, EventKey("event 1"), Position(1), [HOOK, OTHER_HOOK]))[HOOK]

    assert (await state()).stage is Stage.JOURNALED
    await park(store, token, parking(Position(1)))
    queued = await state()
    assert (queued.stage, queued.attempts, queued.next_in_s) == (Stage.QUEUED, 0, 0)
    [claimed] = await claim(store, token)
    assert (await state()).stage is Stage.CLAIMED
    await settle(store, retry(claimed, 100))
    tried = await state()
    assert (tried.stage, tried.attempts, tried.error) == (Stage.QUEUED, 1, "500")
    assert 95 < tried.next_in_s <= 100


async def test_the_state_of_what_has_died_and_of_what_was_delivered(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1", "event 2")
    await die(store, token, dying(1))
    states = await store.past.states(SHARD, EventKey("event 1"), Position(1), [HOOK, OTHER_HOOK])
    assert states[HOOK] == DeliveryState(stage=Stage.DEAD, attempts=9, error="answered 500", reason=DeadReason.EXHAUSTED)
    assert states[OTHER_HOOK].stage is Stage.JOURNALED
    await done_up_to(store, token, 1, Done(Position(1), None))
    assert (await store.past.states(SHARD, EventKey("event 1"), Position(1), [OTHER_HOOK]))[OTHER_HOOK].stage is Stage.DONE
    await done_up_to(store, token, 3)
    assert (await store.past.states(SHARD, EventKey("event 2"), Position(2), [HOOK]))[HOOK].stage is Stage.DONE


async def test_without_a_position_only_what_waits_can_be_told(store: Store) -> None:
    states = await store.past.states(SHARD, EventKey("fresh"), None, [HOOK])
    assert states == {HOOK: DeliveryState(stage=Stage.UNKNOWN)}


# --- read again ---------------------------------------------------------------------------------------------------------------


async def all_entries(store: Store, *, limit: int = 100, tenant: TenantId = TENANT) -> list[tuple[Position, bytes]]:
    entries: list[tuple[Position, bytes]] = []
    after: Position | None = None
    while True:
        stretch = await store.past.journaled(SHARD, tenant, ALWAYS, after=after, limit=limit)
        assert len(stretch.entries) <= limit
        entries += stretch.entries
        if stretch.next is None:
            return entries
        assert stretch.next > (after or 0)
        after = Position(stretch.next - 1)


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_a_stretch_of_the_journal_holds_a_tenants_events_by_position(store: Store, limit: int) -> None:
    for number in range(1, 40, 3):
        mine, also = event(f"m{number}", record=b"%d" % number), event(f"n{number}", record=b"%d" % (number + 2))
        await store.journal.append(SHARD, [mine, event(f"s{number}", tenant=STRANGER), also])
    assert await all_entries(store, limit=limit) == [(n, b"%d" % n) for n in range(1, 40) if n % 3 != 2]
    assert len(await all_entries(store, limit=limit, tenant=STRANGER)) == 13


async def test_the_journal_of_an_idle_shard_holds_nothing(store: Store) -> None:
    assert await all_entries(store) == []


# --- queued -------------------------------------------------------------------------------------------------------------------


async def test_a_past_event_is_queued_once_due_later_and_outside_order(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1", "event 2")
    freed = {TENANT: Freed(2, len(b"event 1event 2"))}
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(3), freed=freed))
    items = [past_delivery(1), past_delivery(2, due_in_s=100)]
    assert await store.past.enqueue(SHARD, items) == [Enqueued.QUEUED] * 2
    assert await store.past.enqueue(SHARD, items) == [Enqueued.WAITS] * 2
    assert await waiting(store) == Waiting(2, 2 * len(a_record("event 1")))
    claimed = await claim_when_due(store, token)
    assert (claimed.delivery_id, claimed.attempts, claimed.chat, claimed.record) == (items[0].delivery_id, 0, None, items[0].record)
    await settle(store, delivered(claimed))
    assert await claim(store, token) == []
    assert await waiting(store) == Waiting(1, len(a_record("event 2")))


async def test_what_the_journal_is_about_to_serve_is_not_queued_beside_it(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1", "event 2", "event 3")
    await done_up_to(store, token, 1, Done(Position(2), HOOK), Done(Position(3), None))
    answers = await store.past.enqueue(SHARD, [past_delivery(number) for number in (1, 2, 3)])
    assert answers == [Enqueued.WAITS, Enqueued.QUEUED, Enqueued.QUEUED]


async def test_an_event_from_before_the_webhook_is_queued_whatever_the_journal_still_does_with_it(store: Store) -> None:
    await append(store, "event 1")
    assert await store.past.enqueue(SHARD, [past_delivery(1, is_new_to_it=True)]) == [Enqueued.QUEUED]


async def test_a_dead_letter_is_not_queued_beside_itself(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")
    await die(store, token, dying(1))
    assert await store.past.enqueue(SHARD, [past_delivery(1)]) == [Enqueued.DEAD]


async def test_a_delivery_the_journal_parks_later_goes_on_where_the_replay_stands(store: Store) -> None:
    """Queued by hand, and then parked by the owner too: one delivery, counted once, known to the journal."""
    token = await grant(store)
    await append(store, "event 1")
    await store.past.enqueue(SHARD, [past_delivery(1, is_new_to_it=True)])
    await park(store, token, replace(parking(Position(1)), record=a_record("event 1"), attempts=2))
    claimed = await claim_when_due(store, token)
    assert claimed.attempts == 2
    await settle(store, delivered(claimed))
    assert await waiting(store) == Waiting(1, len(b"event 1"))
    assert Done(Position(1), HOOK) in (await store.checkpoints.load(SHARD, token)).done
