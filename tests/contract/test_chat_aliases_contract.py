"""What is known of a chat's two names outlives whoever learnt it: bounded, per shard, nobody's in particular (design 3 "Order")."""

from __future__ import annotations

import pytest

from tests.contract.samples import OTHER_SHARD, SHARD, Store, grant, supersede
from worker.domain.ids import InstanceId
from worker.event_integration.chat_aliases import KEPT_AT_MOST

pytestmark = pytest.mark.anyio

SALES, SUPPORT = InstanceId("acme-sales"), InstanceId("acme-support")
LID = "100000000000001@lid"
ANA, BIA = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net"


async def test_nothing_is_known_at_first_and_learning_nothing_is_no_harm(store: Store) -> None:
    await store.chat_aliases.learn(SHARD, {})
    assert await store.chat_aliases.load(SHARD) == {}


async def test_what_was_learnt_is_told_to_whoever_asks_later(store: Store) -> None:
    await grant(store)
    await store.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
    await supersede(store)
    await store.chat_aliases.learn(SHARD, {(SALES, "2@lid"): BIA})
    assert await store.chat_aliases.load(SHARD) == {(SALES, LID): ANA, (SALES, "2@lid"): BIA}


async def test_a_lid_means_another_chat_at_another_instance(store: Store) -> None:
    aliases = {(SALES, LID): ANA, (SUPPORT, LID): BIA}
    await store.chat_aliases.learn(SHARD, aliases)
    assert await store.chat_aliases.load(SHARD) == aliases


async def test_each_shard_has_its_own(store: Store) -> None:
    await store.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
    assert await store.chat_aliases.load(OTHER_SHARD) == {}


async def test_the_phone_form_learnt_last_is_kept(store: Store) -> None:
    """A number that was given to somebody else, or a contact that changed its number."""
    await store.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
    await store.chat_aliases.learn(SHARD, {(SALES, LID): BIA})
    assert await store.chat_aliases.load(SHARD) == {(SALES, LID): BIA}


async def test_learning_again_changes_nothing(store: Store) -> None:
    aliases = {(SALES, LID): ANA, (SALES, "2@lid"): BIA}
    for _ in range(2):
        await store.chat_aliases.learn(SHARD, aliases)
    assert await store.chat_aliases.load(SHARD) == aliases


@pytest.mark.parametrize("odd", ["", "\0", "a\0b\0@lid", "\1|:", "é\U0001f600@lid"])
async def test_a_lid_and_a_chat_may_be_called_anything(store: Store, odd: str) -> None:
    await store.chat_aliases.learn(SHARD, {(SALES, odd): odd, (SALES, LID): ANA})
    assert await store.chat_aliases.load(SHARD) == {(SALES, odd): odd, (SALES, LID): ANA}


async def test_beyond_the_bound_some_give_way_and_the_rest_stays_true(store: Store) -> None:
    many = {(SALES, f"{number}@lid"): f"{number}@s.whatsapp.net" for number in range(KEPT_AT_MOST + 700)}
    await store.chat_aliases.learn(SHARD, many)
    kept = await store.chat_aliases.load(SHARD)
    assert len(kept) == KEPT_AT_MOST
    assert kept.items() <= many.items()


async def test_a_full_shard_still_learns(store: Store) -> None:
    await store.chat_aliases.learn(SHARD, {(SALES, f"{number}@lid"): ANA for number in range(KEPT_AT_MOST)})
    news = {(SUPPORT, f"{number}@lid"): BIA for number in range(200)}
    await store.chat_aliases.learn(SHARD, news)
    kept = await store.chat_aliases.load(SHARD)
    assert len(kept) == KEPT_AT_MOST
    # Any may give way; that most of the newest stay is certain enough: 200 of 20 200 are drawn.
    assert len(kept.keys() & news.keys()) > len(news) // 2


async def test_learning_one_shard_full_leaves_the_others_alone(store: Store) -> None:
    await store.chat_aliases.learn(OTHER_SHARD, {(SUPPORT, LID): BIA})
    await store.chat_aliases.learn(SHARD, {(SALES, f"{number}@lid"): ANA for number in range(KEPT_AT_MOST + 1)})
    assert await store.chat_aliases.load(OTHER_SHARD) == {(SUPPORT, LID): BIA}
