"""The table of offers: who would like to give which shard to whom, and who is prepared to take it (decision 0015)."""

from __future__ import annotations

import pytest

from tests.contract.samples import LONG_S, OTHER_SHARD, OWNER, SHARD, SHORT_S, Store, eventually
from worker.client_registry.port import Offer
from worker.domain.ids import OwnerId, Shard

pytestmark = pytest.mark.anyio

TAKER = OwnerId("taker")
STRANGER = OwnerId("stranger")
BOTH = (SHARD, OTHER_SHARD)


def offers_of(*shards: Shard, is_prepared: bool = False, giver: OwnerId = OWNER, taker: OwnerId = TAKER) -> list[Offer]:
    return [Offer(shard, giver, taker, is_prepared) for shard in shards]


async def offer(store: Store, *shards: Shard, giver: OwnerId = OWNER, taker: OwnerId = TAKER, ttl_s: float = LONG_S) -> None:
    await store.handovers.offer(shards, giver=giver, taker=taker, ttl_s=ttl_s)


async def test_nothing_is_offered_at_first(store: Store) -> None:
    assert await store.handovers.offers() == []


async def test_an_offer_says_what_from_whom_and_to_whom(store: Store) -> None:
    await offer(store, *BOTH)
    assert await store.handovers.offers() == offers_of(*BOTH)


async def test_offers_of_several_givers_stand_beside_each_other(store: Store) -> None:
    await offer(store, SHARD)
    await offer(store, OTHER_SHARD, giver=STRANGER, taker=OWNER)
    assert await store.handovers.offers() == [Offer(SHARD, OWNER, TAKER, False), Offer(OTHER_SHARD, STRANGER, OWNER, False)]


async def test_the_taker_says_for_which_it_is_prepared(store: Store) -> None:
    await offer(store, *BOTH)
    await store.handovers.prepared([OTHER_SHARD], TAKER)
    assert await store.handovers.offers() == [*offers_of(SHARD), *offers_of(OTHER_SHARD, is_prepared=True)]


async def test_nobody_else_can_say_so(store: Store) -> None:
    await offer(store, SHARD)
    await store.handovers.prepared([SHARD, OTHER_SHARD], STRANGER)
    assert await store.handovers.offers() == offers_of(SHARD)


async def test_a_repeated_offer_lasts_longer_and_stays_prepared(store: Store) -> None:
    await offer(store, SHARD, ttl_s=SHORT_S)
    await store.handovers.prepared([SHARD], TAKER)
    await offer(store, SHARD)
    await offer(store, OTHER_SHARD, ttl_s=SHORT_S)

    async def only_the_repeated_one_is_left() -> bool:
        return await store.handovers.offers() == offers_of(SHARD, is_prepared=True)

    assert await eventually(only_the_repeated_one_is_left)


async def test_an_offer_to_somebody_else_gives_way_and_is_not_prepared(store: Store) -> None:
    await offer(store, SHARD)
    await store.handovers.prepared([SHARD], TAKER)
    await offer(store, SHARD, taker=STRANGER)
    assert await store.handovers.offers() == offers_of(SHARD, taker=STRANGER)
    await store.handovers.prepared([SHARD], TAKER)
    assert await store.handovers.offers() == offers_of(SHARD, taker=STRANGER)


async def test_an_offer_ends_by_itself(store: Store) -> None:
    await offer(store, SHARD, ttl_s=SHORT_S)
    await offer(store, OTHER_SHARD)

    async def has_ended() -> bool:
        return await store.handovers.offers() == offers_of(OTHER_SHARD)

    assert await eventually(has_ended)


async def test_an_offer_that_has_ended_cannot_be_prepared_nor_is_a_new_one(store: Store) -> None:
    await offer(store, SHARD, ttl_s=SHORT_S)
    await store.handovers.prepared([SHARD], TAKER)
    await offer(store, OTHER_SHARD)

    async def has_ended() -> bool:
        return await store.handovers.offers() == offers_of(OTHER_SHARD)

    assert await eventually(has_ended)
    await store.handovers.prepared([SHARD], TAKER)
    assert await store.handovers.offers() == offers_of(OTHER_SHARD)
    await offer(store, SHARD)
    assert await store.handovers.offers() == offers_of(*BOTH)


async def test_a_giver_withdraws_its_own_offers_and_no_others(store: Store) -> None:
    await offer(store, SHARD)
    await offer(store, OTHER_SHARD, giver=STRANGER)
    await store.handovers.withdraw_offers([*BOTH, Shard(2)], OWNER)
    assert await store.handovers.offers() == offers_of(OTHER_SHARD, giver=STRANGER)


async def test_nothing_offered_prepared_or_withdrawn_is_no_call(store: Store) -> None:
    await offer(store)
    await store.handovers.prepared([], TAKER)
    await store.handovers.withdraw_offers([], OWNER)
    assert await store.handovers.offers() == []
