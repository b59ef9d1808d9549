"""The lease table: one owner per shard, tokens that only rise, a release that reserves for the successor (design 4)."""

from __future__ import annotations

import pytest

from tests.contract.samples import LONG_S, OTHER_SHARD, OWNER, SHARD, SHORT_S, Store, eventually, grant
from worker.client_registry.port import Busy, Granted, Quarantined
from worker.domain.ids import OwnerId, Shard, Token

pytestmark = pytest.mark.anyio

RIVAL = OwnerId("rival")
STRANGER = OwnerId("stranger")
RESERVED_FOR_S = 2.0


async def acquire(store: Store, owner: OwnerId, *, ttl_s: float = LONG_S, sole: bool = False) -> Granted | Busy | Quarantined:
    return await store.leases.acquire(SHARD, owner, ttl_s=ttl_s, sole=sole)


async def granted(store: Store, owner: OwnerId, *, sole: bool = False) -> Granted:
    answer = await acquire(store, owner, sole=sole)
    assert isinstance(answer, Granted), answer
    return answer


async def granted_when_free(store: Store, owner: OwnerId) -> Granted:
    async def attempt() -> Granted | None:
        answer = await acquire(store, owner)
        return answer if isinstance(answer, Granted) else None

    return await eventually(attempt)


async def renew(store: Store, owner: OwnerId, token: Token, *, ttl_s: float = LONG_S) -> bool:
    return SHARD in await store.leases.renew({SHARD: token}, owner, ttl_s=ttl_s)


async def test_a_free_shard_is_granted_and_nobody_held_it_before(store: Store) -> None:
    answer = await granted(store, OWNER)
    assert answer.previous == 0
    assert 0 < answer.token < 2**53


async def test_a_held_shard_is_busy_and_says_who_and_for_how_long(store: Store) -> None:
    await grant(store)
    answer = await acquire(store, RIVAL)
    assert isinstance(answer, Busy)
    assert answer.owner == OWNER
    assert LONG_S - 5 < answer.remaining_s <= LONG_S


async def test_asking_again_answers_the_holder_the_same_grant(store: Store) -> None:
    """The first answer may have been lost on its way; a second token would refuse what the first tenure writes."""
    first = await granted(store, OWNER)
    assert await granted(store, OWNER) == first


async def test_asking_again_does_not_extend_the_lease(store: Store) -> None:
    await grant(store, ttl_s=SHORT_S)
    await acquire(store, OWNER, ttl_s=LONG_S)
    assert (await granted_when_free(store, RIVAL)).token


async def test_each_grant_has_a_larger_token_and_names_the_one_before(store: Store) -> None:
    tokens = [Token(0)]
    for owner in (OWNER, RIVAL, OWNER, OWNER):
        answer = await granted(store, owner)
        assert answer.previous == tokens[-1]
        assert answer.token > tokens[-1]
        tokens.append(answer.token)
        assert await store.leases.release(SHARD, owner, answer.token, to=None)


async def test_ones_own_last_token_as_previous_means_that_nobody_owned_it_in_between(store: Store) -> None:
    first = await grant(store, ttl_s=SHORT_S)

    async def has_ended() -> bool:
        return not await store.leases.holders([SHARD])

    await eventually(has_ended)
    assert (await granted(store, OWNER)).previous == first


async def test_a_lease_ends_by_itself(store: Store) -> None:
    await grant(store, ttl_s=SHORT_S)
    assert isinstance(await acquire(store, RIVAL), Busy)
    await granted_when_free(store, RIVAL)


async def test_renewing_keeps_it_longer(store: Store) -> None:
    token = await grant(store, ttl_s=SHORT_S)
    assert await renew(store, OWNER, token)
    answer = await acquire(store, RIVAL)
    assert isinstance(answer, Busy)
    assert answer.remaining_s > SHORT_S


async def test_renewing_never_resurrects_a_lease_that_has_ended(store: Store) -> None:
    token = await grant(store, ttl_s=SHORT_S)

    async def has_ended() -> bool:
        return not await store.leases.holders([SHARD])

    await eventually(has_ended)
    assert not await renew(store, OWNER, token)
    assert await store.leases.holders([SHARD]) == {}


async def test_renewing_somebody_elses_lease_or_an_older_grant_does_nothing(store: Store) -> None:
    old = await grant(store)
    await store.leases.release(SHARD, OWNER, old, to=None)
    new = await grant(store)
    assert not await renew(store, OWNER, old)
    assert not await renew(store, RIVAL, new)
    assert await renew(store, OWNER, new)


async def test_renewing_answers_only_the_shards_still_held(store: Store) -> None:
    token = await grant(store)
    other = await grant(store, RIVAL, shard=OTHER_SHARD)
    held = await store.leases.renew({SHARD: token, OTHER_SHARD: other, Shard(2): token}, OWNER, ttl_s=LONG_S)
    assert held == {SHARD}


async def test_released_to_nobody_it_is_anybodys_at_once(store: Store) -> None:
    token = await grant(store)
    assert await store.leases.release(SHARD, OWNER, token, to=None)
    assert (await granted(store, RIVAL)).previous == token


async def test_released_to_a_successor_it_is_kept_for_it(store: Store) -> None:
    token = await grant(store)
    assert await store.leases.release(SHARD, OWNER, token, to=RIVAL)
    answer = await acquire(store, STRANGER)
    assert isinstance(answer, Busy)
    assert answer.owner is None
    assert 0 < answer.remaining_s <= RESERVED_FOR_S
    assert (await granted(store, RIVAL)).previous == token


async def test_released_to_a_successor_it_wakes_that_one_alone(store: Store) -> None:
    token = await grant(store)
    assert await store.leases.release(SHARD, OWNER, token, to=RIVAL)
    assert await store.membership.wait_wake(RIVAL, block_s=0.05)
    assert not await store.membership.wait_wake(STRANGER, block_s=0.05)
    token = (await granted(store, RIVAL)).token
    assert await store.leases.release(SHARD, RIVAL, token, to=None)
    assert not await store.membership.wait_wake(OWNER, block_s=0.05)


async def test_a_reservation_that_nobody_takes_ends_after_two_seconds(store: Store) -> None:
    token = await grant(store)
    await store.leases.release(SHARD, OWNER, token, to=RIVAL)
    assert isinstance(await acquire(store, OWNER), Busy)
    assert (await granted_when_free(store, STRANGER)).previous == token


async def test_a_reserved_shard_is_held_by_nobody(store: Store) -> None:
    token = await grant(store)
    await store.leases.release(SHARD, OWNER, token, to=RIVAL)
    assert await store.leases.holders([SHARD]) == {}
    assert not await renew(store, OWNER, token)


async def test_releasing_twice_or_with_a_stale_token_is_refused(store: Store) -> None:
    old = await grant(store)
    assert await store.leases.release(SHARD, OWNER, old, to=None)
    assert not await store.leases.release(SHARD, OWNER, old, to=None)
    new = await grant(store)
    assert not await store.leases.release(SHARD, OWNER, old, to=RIVAL)
    assert not await store.leases.release(SHARD, RIVAL, new, to=None)
    assert await store.leases.holders([SHARD]) == {SHARD: OWNER}


async def test_the_sole_user_of_a_store_takes_a_former_owners_lease_at_once(store: Store) -> None:
    former = await grant(store)
    answer = await granted(store, RIVAL, sole=True)
    assert answer.previous == former
    assert answer.token > former
    assert not await renew(store, OWNER, former)


async def test_holders_are_listed_for_the_shards_asked(store: Store) -> None:
    await grant(store)
    await grant(store, RIVAL, shard=OTHER_SHARD)
    assert await store.leases.holders([SHARD, OTHER_SHARD, Shard(2)]) == {SHARD: OWNER, OTHER_SHARD: RIVAL}
    assert await store.leases.holders([OTHER_SHARD]) == {OTHER_SHARD: RIVAL}
