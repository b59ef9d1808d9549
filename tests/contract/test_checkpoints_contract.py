"""The checkpoint: the fenced memory of what is done, and what may be forgotten because of it (design 3 "Journal", "Room")."""

from __future__ import annotations

import pytest

from tests.contract.samples import HOOK, SHARD, TENANT, Store, append, event, grant, parking, supersede
from worker.domain.errors import StaleToken
from worker.domain.ids import Position, TenantId, Token, WebhookId
from worker.event_integration.retry_queue import Waiting
from worker.journal.port import Checkpoint, Done, Doubt, Freed, Progress

pytestmark = pytest.mark.anyio

FAR = 10**9
BEGUN = Doubt(starts=1)


def whole(position: int) -> Done:
    return Done(Position(position), None)


def part(position: int, hook: WebhookId = HOOK) -> Done:
    return Done(Position(position), hook)


async def save(
    store: Store,
    token: Token,
    number: int,
    prefix: int,
    *,
    done: tuple[Done, ...] = (),
    behind: tuple[Done, ...] = (),
    freed: Freed | None = None,
) -> None:
    counts = {} if freed is None else {TENANT: freed}
    await store.checkpoints.save(
        Checkpoint(shard=SHARD, token=token, number=number, prefix=Position(prefix), done=done, behind=behind, freed=counts)
    )


async def waiting(store: Store) -> dict[TenantId, Waiting]:
    return (await store.room.waiting([SHARD]))[SHARD]


async def test_a_shard_that_was_never_read_starts_at_its_first_position(store: Store) -> None:
    token = await grant(store)
    assert await store.checkpoints.load(SHARD, token) == Progress(prefix=Position(1), done=frozenset(), tail=Position(1))


async def test_the_tail_is_the_position_that_the_next_event_gets(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    tail = (await store.checkpoints.load(SHARD, token)).tail
    assert [tail] == await append(store, "c")


async def test_a_checkpoint_answers_the_tail(store: Store) -> None:
    """So the owner knows how far behind it is without another call."""
    token = await grant(store)
    await append(store, "a", "b")
    first = Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2))
    assert await store.checkpoints.save(first) == 3
    await append(store, "c")
    assert await store.checkpoints.save(first) == 4


async def test_what_was_saved_is_what_the_next_tenure_starts_from(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c", "d")
    await save(store, token, 1, 2, done=(whole(3), part(4)))
    progress = await store.checkpoints.load(SHARD, await supersede(store))
    assert progress == Progress(prefix=Position(2), done=frozenset({whole(3), part(4)}), tail=Position(5), doubt=BEGUN)


async def test_a_checkpoint_adds_facts_and_overwrites_none(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c", "d")
    await save(store, token, 1, 1, done=(part(2),))
    await save(store, token, 2, 1, done=(part(2, WebhookId("other")), whole(3)))
    progress = await store.checkpoints.load(SHARD, token)
    assert progress.done == {part(2), part(2, WebhookId("other")), whole(3)}


async def test_a_webhook_may_be_called_anything(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    strange = part(2, WebhookId("a|b:c 2|"))
    await save(store, token, 1, 1, done=(strange,))
    assert (await store.checkpoints.load(SHARD, token)).done == {strange}


async def test_the_prefix_never_moves_back(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c")
    await save(store, token, 1, 3)
    await save(store, token, 2, 2)
    assert (await store.checkpoints.load(SHARD, token)).prefix == 3


async def test_facts_that_the_prefix_has_passed_are_forgotten_when_named(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c")
    await save(store, token, 1, 1, done=(whole(2), part(3)))
    await save(store, token, 2, 3, behind=(whole(2),))
    progress = await store.checkpoints.load(SHARD, token)
    assert progress == Progress(prefix=Position(3), done=frozenset({part(3)}), tail=Position(4), doubt=BEGUN)


async def test_facts_that_the_prefix_has_passed_are_not_loaded_even_when_nobody_named_them(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c")
    await save(store, token, 1, 1, done=(whole(2),))
    await save(store, token, 2, 3)
    assert (await store.checkpoints.load(SHARD, token)).done == frozenset()


async def test_a_fact_beyond_the_prefix_is_not_forgotten_even_when_named(store: Store) -> None:
    """A zombie's idea of what lies behind may be wrong; the script compares with the prefix that is stored."""
    token = await grant(store)
    await append(store, "a", "b", "c")
    await save(store, token, 1, 1, done=(whole(3),))
    await save(store, token, 2, 2, behind=(whole(3),))
    assert whole(3) in (await store.checkpoints.load(SHARD, token)).done


async def test_saving_twice_adds_the_same_facts(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b", "c")
    for _ in range(2):
        await save(store, token, 1, 2, done=(whole(3),))
    assert await store.checkpoints.load(SHARD, token) == Progress(
        prefix=Position(2), done=frozenset({whole(3)}), tail=Position(4), doubt=BEGUN
    )


async def test_an_appended_event_waits_for_its_tenant(store: Store) -> None:
    await store.journal.append(SHARD, [event("a", record=b"12345"), event("b", record=b"123", tenant=TenantId("other"))])
    assert await waiting(store) == {TENANT: Waiting(1, 5), TenantId("other"): Waiting(1, 3)}


async def test_a_duplicate_does_not_wait(store: Store) -> None:
    await store.journal.append(SHARD, [event("a", record=b"12345"), event("a", record=b"12345")])
    await store.journal.append(SHARD, [event("a", record=b"12345")])
    assert await waiting(store) == {TENANT: Waiting(1, 5)}


async def test_what_a_checkpoint_frees_waits_no_more_and_is_subtracted_once(store: Store) -> None:
    """A save whose answer was lost is repeated under the same number."""
    token = await grant(store)
    await store.journal.append(SHARD, [event("a", record=b"12345"), event("b", record=b"123"), event("c", record=b"1")])
    for _ in range(3):
        await save(store, token, 1, 2, freed=Freed(1, 5))
    assert await waiting(store) == {TENANT: Waiting(2, 4)}
    await save(store, token, 2, 3, freed=Freed(1, 3))
    assert await waiting(store) == {TENANT: Waiting(1, 1)}


async def test_a_checkpoint_may_free_nothing(store: Store) -> None:
    token = await grant(store)
    await store.journal.append(SHARD, [event("a", record=b"12345")])
    await save(store, token, 1, 1, freed=Freed(0, 0))
    assert await waiting(store) == {TENANT: Waiting(1, 5)}


async def test_the_numbers_of_another_tenure_count_afresh(store: Store) -> None:
    token = await grant(store)
    await store.journal.append(SHARD, [event("a", record=b"12345"), event("b", record=b"123")])
    await save(store, token, 7, 2, freed=Freed(1, 5))
    await save(store, await supersede(store), 1, 3, freed=Freed(1, 3))
    assert not any((await waiting(store)).values()) or set((await waiting(store)).values()) == {Waiting(0, 0)}


async def test_a_recount_counts_what_is_neither_behind_the_prefix_nor_done_as_a_whole(store: Store) -> None:
    """So a script that ran twice, or a tenure that died before it told what it freed, cannot make the figure drift for ever."""
    token = await grant(store)
    await store.journal.append(
        SHARD, [event("a", record=b"12345"), event("b", record=b"123"), event("c", record=b"1"), event("d", record=b"12")]
    )
    await save(store, token, 1, 2, done=(whole(3), part(4)))
    await store.checkpoints.recount(SHARD, token)
    assert await waiting(store) == {TENANT: Waiting(2, 5)}


async def test_a_recount_of_many_segments_counts_each_event_once(store: Store) -> None:
    token = await grant(store)
    for number in range(100):
        await append(store, f"{number:03}", f"{number:03}x")
    await save(store, token, 1, 4, done=(whole(100), whole(200)))
    await store.checkpoints.recount(SHARD, token)
    assert await waiting(store) == {TENANT: Waiting(195, 98 * 3 + 97 * 4)}


async def test_a_recount_leaves_payloads_counted(store: Store) -> None:
    token = await grant(store)
    [position] = await append(store, "event 1")
    item = parking(position)
    await store.retry_queue.park(SHARD, token, [item])
    await save(store, token, 1, 2, behind=(part(1),), freed=Freed(1, len(b"event 1")))
    before = await waiting(store)
    await store.checkpoints.recount(SHARD, token)
    assert await waiting(store) == before == {TENANT: Waiting(1, len(item.record))}


async def test_a_superseded_owner_may_neither_load_save_nor_trim(store: Store) -> None:
    stale = await grant(store)
    await append(store, "a", "b")
    token = await supersede(store)
    with pytest.raises(StaleToken):
        await store.checkpoints.load(SHARD, stale)
    with pytest.raises(StaleToken):
        await store.checkpoints.recount(SHARD, stale)
    with pytest.raises(StaleToken):
        await save(store, stale, 1, 3, done=(whole(3),))
    with pytest.raises(StaleToken):
        await store.checkpoints.trim(SHARD, stale, keep_s=0, keep_bytes=0)
    assert await store.checkpoints.load(SHARD, token) == Progress(prefix=Position(1), done=frozenset(), tail=Position(3), doubt=BEGUN)


async def test_trimming_never_takes_what_is_not_done(store: Store) -> None:
    token = await grant(store)
    for segment in (("a", "b"), ("c", "d"), ("e",)):
        await append(store, *segment)
    await save(store, token, 1, 4)
    await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0)
    left = await store.journal.read({SHARD: Position(4)}, max_segments=10, block_s=0)
    assert [(segment.first, list(segment.records)) for segment in left] == [(3, [b"c", b"d"]), (5, [b"e"])]


async def test_trimming_forgets_whole_segments_behind_the_prefix(store: Store) -> None:
    token = await grant(store)
    for segment in (("a", "b"), ("c", "d"), ("e",)):
        await append(store, *segment)
    await save(store, token, 1, 5)
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=FAR) == 2
    left = await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)
    assert [segment.first for segment in left] == [5]


async def test_what_is_young_and_within_the_bytes_is_kept(store: Store) -> None:
    token = await grant(store)
    await append(store, "a")
    await save(store, token, 1, 2)
    assert await store.checkpoints.trim(SHARD, token, keep_s=3_600, keep_bytes=FAR) == 0
    assert len(await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)) == 1


async def test_bytes_beyond_the_bound_go_before_their_time(store: Store) -> None:
    token = await grant(store)
    await store.journal.append(SHARD, [event("old", record=b"x" * 1_000)])
    await save(store, token, 1, 2)
    await store.journal.append(SHARD, [event("new", record=b"x" * 1_000)])
    assert await store.checkpoints.trim(SHARD, token, keep_s=3_600, keep_bytes=1_000) == 1
    left = await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)
    assert [segment.first for segment in left] == [2]


async def test_without_room_for_keeping_all_that_is_done_goes_at_once(store: Store) -> None:
    """Nothing waits for the next mark: the store is short of memory now."""
    token = await grant(store)
    await append(store, "a", "b")
    await save(store, token, 1, 3)
    assert await store.checkpoints.trim(SHARD, token, keep_s=3_600, keep_bytes=FAR) == 0
    await append(store, "c")
    await append(store, "not done")
    await save(store, token, 2, 4)
    assert await store.checkpoints.trim(SHARD, token, keep_s=3_600, keep_bytes=0) == 2
    left = await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)
    assert [segment.first for segment in left] == [4]


async def test_trimming_leaves_the_marks_by_which_the_next_trim_goes(store: Store) -> None:
    """Positions are marked every ten seconds; a trim that forgot the youngest of them would double what is kept."""
    token = await grant(store)
    await save(store, token, 1, 1)
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=FAR) == 0
    await append(store, "younger than the mark")
    await save(store, token, 2, 2)
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=FAR) == 0


async def test_positions_go_on_rising_when_everything_was_trimmed(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    await save(store, token, 1, 3)
    await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0)
    assert await append(store, "c") == [3]
    assert [s.first for s in await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)] == [3]


async def test_a_trimmed_event_is_still_remembered(store: Store) -> None:
    token = await grant(store)
    await append(store, "a")
    await save(store, token, 1, 2)
    await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0)
    assert await append(store, "a", "b") == [1, 2]
