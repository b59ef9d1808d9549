"""What a tenure is told of those before it: how many began without getting on, and what they read when they ended (decision 0009)."""

from __future__ import annotations

import itertools

import pytest

from tests.contract.samples import LONG_S, SHARD, Store, append, grant
from worker.client_registry.port import Granted
from worker.domain.errors import StaleToken
from worker.domain.ids import OwnerId, Position, Token
from worker.journal.port import Checkpoint, Doubt

pytestmark = pytest.mark.anyio

SECOND = Position(2)
THIRD = Position(3)


names = itertools.count()


async def grant_again(store: Store) -> Token:
    """To an owner never seen before; whoever held it is provably gone."""
    answer = await store.leases.acquire(SHARD, OwnerId(f"owner {next(names)}"), ttl_s=LONG_S, sole=True)
    assert isinstance(answer, Granted), answer
    return answer.token


async def doubt(store: Store, token: Token) -> Doubt:
    return (await store.checkpoints.load(SHARD, token)).doubt


async def another(store: Store) -> Doubt:
    """The next tenure begins, the one before having ended somehow."""
    return await doubt(store, await grant_again(store))


async def ended_while_reading(store: Store, position: Position) -> Doubt:
    """A tenure begins, marks this event and ends."""
    token = await grant_again(store)
    told = await doubt(store, token)
    await store.checkpoints.mark_reading(SHARD, token, position)
    return told


async def save(store: Store, token: Token, prefix: int) -> None:
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(prefix)))


async def test_tenures_are_counted_while_something_waits_and_none_gets_on(store: Store) -> None:
    await grant(store)
    await append(store, "a")
    assert [(await another(store)).starts for _ in range(4)] == [1, 2, 3, 4]


async def test_an_idle_shard_counts_none(store: Store) -> None:
    token = await grant(store)
    assert [(await another(store)).starts for _ in range(4)] == [0, 0, 0, 0]
    await append(store, "a")
    assert (await another(store)).starts == 1
    token = await grant_again(store)
    assert (await doubt(store, token)).starts == 2
    await save(store, token, 2)
    assert (await another(store)).starts == 0


async def test_a_checkpoint_ends_the_count(store: Store) -> None:
    await grant(store)
    await append(store, "a", "b")
    await another(store)
    token = await grant_again(store)
    assert (await doubt(store, token)).starts == 2
    await save(store, token, 2)
    assert (await doubt(store, token)).starts == 0
    assert (await another(store)).starts == 1


async def test_asking_again_under_the_same_token_counts_once(store: Store) -> None:
    """An answer that was lost, and the recount, which asks too."""
    await grant(store)
    await append(store, "a", "b")
    await ended_while_reading(store, SECOND)
    token = await grant_again(store)
    first = await doubt(store, token)
    await store.checkpoints.recount(SHARD, token)
    assert await doubt(store, token) == first == Doubt(starts=2, suspect=SECOND, strikes=1)


async def test_a_mark_that_was_taken_back_accuses_nobody(store: Store) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    await store.checkpoints.mark_reading(SHARD, token, SECOND)
    await store.checkpoints.mark_reading(SHARD, token, None)
    assert (await another(store)).suspect is None


async def test_a_mark_found_again_is_one_more_strike(store: Store) -> None:
    await grant(store)
    await append(store, "a", "b", "c")
    told = [await ended_while_reading(store, SECOND) for _ in range(4)]
    assert [(each.suspect, each.strikes) for each in told] == [(None, 0), (SECOND, 1), (SECOND, 2), (SECOND, 3)]


async def test_another_events_mark_in_between_takes_no_strike_away(store: Store) -> None:
    """On the way to the suspect the events before it are read carefully too."""
    await grant(store)
    await append(store, "a", "b", "c")
    await ended_while_reading(store, THIRD)
    token = await grant_again(store)
    assert (await doubt(store, token)).strikes == 1
    await store.checkpoints.mark_reading(SHARD, token, SECOND)
    await store.checkpoints.mark_reading(SHARD, token, None)
    await store.checkpoints.mark_reading(SHARD, token, THIRD)
    assert await another(store) == Doubt(starts=3, suspect=THIRD, strikes=2)


async def test_a_suspect_that_was_survived_is_none(store: Store) -> None:
    await grant(store)
    await append(store, "a", "b")
    await ended_while_reading(store, SECOND)
    token = await grant_again(store)
    assert (await doubt(store, token)).suspect == SECOND
    await store.checkpoints.mark_reading(SHARD, token, SECOND)
    await store.checkpoints.mark_reading(SHARD, token, None)
    assert (await another(store)).suspect is None


async def test_a_tenure_that_ends_before_it_comes_to_the_suspect_leaves_it_one(store: Store) -> None:
    await grant(store)
    await append(store, "a", "b")
    await ended_while_reading(store, SECOND)
    assert [(await another(store)).strikes for _ in range(3)] == [1, 1, 1]


async def test_a_suspect_behind_the_prefix_is_forgotten(store: Store) -> None:
    await grant(store)
    await append(store, "a", "b", "c")
    await ended_while_reading(store, SECOND)
    token = await grant_again(store)
    await doubt(store, token)
    await save(store, token, 3)
    assert await another(store) == Doubt(starts=1)


async def test_a_superseded_owner_may_not_mark(store: Store) -> None:
    """Nor take back the mark of its successor."""
    stale = await grant(store)
    await append(store, "a", "b")
    await ended_while_reading(store, SECOND)
    for position in (THIRD, None):
        with pytest.raises(StaleToken):
            await store.checkpoints.mark_reading(SHARD, stale, position)
    assert (await another(store)).suspect == SECOND
