"""What stands under our names in Redis and is not ours to read: junk, or a newer release's. Left aside and told once; nobody dies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

import anyio
import orjson
import pytest
import structlog.testing

from tests.contract.samples import LONG_S, OTHER_SHARD, OWNER, SHARD, eventually, grant
from tests.contract.test_membership_contract import RIVAL, member
from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_store import RedisStore
from worker.client_registry.port import Busy, Granted, Offer
from worker.domain.ids import OwnerId

pytestmark = pytest.mark.anyio

FAR_MS = 9_000_000_000_000
TAKER = OwnerId("taker")
NOT_UTF8 = b"\xff\xfe"
ODD_NAMES = ["my host-1", "a\tb", "a\nb", "%20", "café", "arn:aws:ecs:sa-east-1:1:task/x/2", "a b", "\x00"]
"""None is one that we make."""


# -- offers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shard", "packed"),
    [
        ("2", "hello"),
        ("2", ""),
        ("2", NOT_UTF8),
        ("2", "soon 0 a b"),
        ("2", f"{FAR_MS} 2 a b"),
        ("2", f"{FAR_MS} 0 a"),
        ("2", f"{'9' * 5_000} 0 a b"),
        ("2", f"{FAR_MS} 0  b"),
        ("abc", f"{FAR_MS} 0 a b"),
        ("", f"{FAR_MS} 0 a b"),
        ("-1", f"{FAR_MS} 0 a b"),
        ("02", f"{FAR_MS} 0 a b"),
        ("9" * 5_000, f"{FAR_MS} 0 a b"),
        (NOT_UTF8, f"{FAR_MS} 0 a b"),
    ],
)
async def test_what_is_no_offer_is_left_aside_and_the_others_stand(redis: RedisStore, hand: RedisClient, shard: Any, packed: Any) -> None:
    await redis.handovers.offer([SHARD], giver=OWNER, taker=TAKER, ttl_s=LONG_S)
    await hand.call("HSET", redis_keys.OFFERS, shard, packed)
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            assert await redis.handovers.offers() == [Offer(SHARD, OWNER, TAKER, False)]
    assert [line["event"] for line in lines] == ["left_aside"]


async def test_an_offer_of_a_newer_release_with_more_words_is_read_as_far_as_we_know_it(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("HSET", redis_keys.OFFERS, SHARD, f"{FAR_MS} 0 {OWNER} {TAKER} v2 more")
    assert await redis.handovers.offers() == [Offer(SHARD, OWNER, TAKER, False)]
    await redis.handovers.prepared([SHARD], TAKER)
    assert await redis.handovers.offers() == [Offer(SHARD, OWNER, TAKER, True)]
    assert await hand.call("HGET", redis_keys.OFFERS, SHARD) == f"{FAR_MS} 1 {OWNER} {TAKER} v2 more".encode()
    await redis.handovers.withdraw_offers([SHARD], OWNER)
    assert await redis.handovers.offers() == []


async def test_junk_in_an_offers_place_gives_way_to_an_offer(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("HSET", redis_keys.OFFERS, SHARD, "hello")
    await redis.handovers.prepared([SHARD], TAKER)
    await redis.handovers.withdraw_offers([SHARD], OWNER)
    await redis.handovers.offer([SHARD], giver=OWNER, taker=TAKER, ttl_s=LONG_S)
    assert await redis.handovers.offers() == [Offer(SHARD, OWNER, TAKER, False)]


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_offer_survives_any_name_of_giver_and_taker(redis: RedisStore, name: str) -> None:
    odd = OwnerId(name)
    await redis.handovers.offer([SHARD], giver=odd, taker=TAKER, ttl_s=LONG_S)
    await redis.handovers.offer([OTHER_SHARD], giver=OWNER, taker=odd, ttl_s=LONG_S)
    await redis.handovers.prepared([OTHER_SHARD], odd)
    assert await redis.handovers.offers() == [Offer(SHARD, odd, TAKER, False), Offer(OTHER_SHARD, OWNER, odd, True)]
    await redis.handovers.withdraw_offers([SHARD], odd)
    assert await redis.handovers.offers() == [Offer(OTHER_SHARD, OWNER, odd, True)]


async def test_a_plain_owner_stands_in_an_offer_as_it_is(redis: RedisStore, hand: RedisClient) -> None:
    """An older release reads it so."""
    plain = OwnerId("ip-10-0-0-1.ec2.internal-17-0a1b2c3d")
    await redis.handovers.offer([SHARD], giver=plain, taker=TAKER, ttl_s=LONG_S)
    packed = await hand.call("HGET", redis_keys.OFFERS, SHARD)
    assert packed.split(b" ")[2:] == [plain.encode(), TAKER.encode()]


# -- announcements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("owner", 5),
        ("owner", "somebody else"),
        ("task", None),
        ("family", [1]),
        ("revision", "12"),
        ("revision", 1.5),
        ("revision", True),
        ("ready", "yes"),
        ("draining", 0),
        ("shards", None),
        ("shards", -1),
        ("shards", {}),
        ("zone", 7),
    ],
)
async def test_an_announcement_with_a_wrong_type_in_it_is_nobodys(redis: RedisStore, hand: RedisClient, field: str, wrong: Any) -> None:
    await redis.membership.announce(member(), ttl_s=LONG_S)
    await announced(hand, RIVAL, orjson.dumps(asdict(member(RIVAL)) | {field: wrong}))
    await only_we_are_live(redis)


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"null", NOT_UTF8, b'{"owner":"rival","revision":Infinity}'])
async def test_an_announcement_that_is_none_is_nobodys(redis: RedisStore, hand: RedisClient, junk: bytes) -> None:
    await redis.membership.announce(member(), ttl_s=LONG_S)
    await announced(hand, RIVAL, junk)
    await only_we_are_live(redis)


async def test_a_member_of_an_unreadable_name_is_left_aside(redis: RedisStore, hand: RedisClient) -> None:
    await redis.membership.announce(member(), ttl_s=LONG_S)
    await hand.call("ZADD", redis_keys.MEMBERS, FAR_MS, NOT_UTF8)
    assert await redis.membership.live() == [member()]
    await hand.call("SET", redis_keys.member(OwnerId("")).encode() + NOT_UTF8, orjson.dumps(asdict(member(RIVAL))))
    await only_we_are_live(redis)


async def test_an_announcement_of_another_type_of_key_is_nobodys(redis: RedisStore, hand: RedisClient) -> None:
    await redis.membership.announce(member(), ttl_s=LONG_S)
    await hand.exchange([("ZADD", redis_keys.MEMBERS, FAR_MS, RIVAL), ("LPUSH", redis_keys.member(RIVAL), 1)])
    assert await redis.membership.live() == [member()]


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_member_of_any_readable_name_is_one(redis: RedisStore, name: str) -> None:
    odd = replace(member(), owner=OwnerId(name))
    await redis.membership.announce(odd, ttl_s=LONG_S)
    assert await redis.membership.live() == [odd]


async def announced(hand: RedisClient, owner: OwnerId, junk: bytes) -> None:
    await hand.exchange([("ZADD", redis_keys.MEMBERS, FAR_MS, owner), ("SET", redis_keys.member(owner), junk, "PX", 30_000)])


async def only_we_are_live(redis: RedisStore) -> None:
    """The other is told of once, however often it is seen."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            assert await redis.membership.live() == [member()]
    assert [line["event"] for line in lines] == ["left_aside"]


# -- keys of another type ----------------------------------------------------------------------------------------------


async def offer_and_look(redis: RedisStore) -> None:
    await redis.handovers.offer([SHARD], giver=OWNER, taker=TAKER, ttl_s=LONG_S)
    assert await redis.handovers.offers() == [Offer(SHARD, OWNER, TAKER, False)]


async def prepare(redis: RedisStore) -> None:
    await redis.handovers.prepared([SHARD], TAKER)
    assert await redis.handovers.offers() == []


async def withdraw_offers(redis: RedisStore) -> None:
    await redis.handovers.withdraw_offers([SHARD], OWNER)
    assert await redis.handovers.offers() == []


async def look_at_offers(redis: RedisStore) -> None:
    assert await redis.handovers.offers() == []


async def announce_and_look(redis: RedisStore) -> None:
    await redis.membership.announce(member(), ttl_s=LONG_S)
    assert await redis.membership.live() == [member()]


async def withdraw(redis: RedisStore) -> None:
    await redis.membership.withdraw(OWNER)
    assert await redis.membership.live() == []


async def look_at_members(redis: RedisStore) -> None:
    assert await redis.membership.live() == []


async def wake_and_hear(redis: RedisStore) -> None:
    await redis.membership.wake(OWNER)
    assert await redis.membership.wait_wake(OWNER, block_s=0.05)


async def hear_nothing(redis: RedisStore) -> None:
    with anyio.fail_after(10):
        assert not await redis.membership.wait_wake(OWNER, block_s=0.05)
        assert not await redis.membership.wait_wake(OWNER, block_s=0)


@pytest.mark.parametrize(
    ("key", "use"),
    [
        (redis_keys.OFFERS, offer_and_look),
        (redis_keys.OFFERS, prepare),
        (redis_keys.OFFERS, withdraw_offers),
        (redis_keys.OFFERS, look_at_offers),
        (redis_keys.MEMBERS, announce_and_look),
        (redis_keys.MEMBERS, withdraw),
        (redis_keys.MEMBERS, look_at_members),
        (redis_keys.wake(OWNER), wake_and_hear),
        (redis_keys.wake(OWNER), hear_nothing),
    ],
)
async def test_advice_under_a_key_of_another_type_begins_anew(
    redis: RedisStore, hand: RedisClient, key: str, use: Callable[[RedisStore], Awaitable[None]]
) -> None:
    """Nothing there outlives seconds anyway; who needs it would die of it, or do without it for ever."""
    await hand.call("SET", key, "x")
    with structlog.testing.capture_logs() as lines:
        await use(redis)
    assert [(line["event"], line["key"]) for line in lines] == [("key_of_another_type", key)]


async def test_a_release_is_one_whatever_stands_where_the_wake_up_should(redis: RedisStore, hand: RedisClient) -> None:
    token = await grant(redis)
    await hand.call("SET", redis_keys.wake(TAKER), "x")
    assert await redis.leases.release(SHARD, OWNER, token, to=TAKER)


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_a_lease_of_an_unreadable_owner_is_somebodys_until_it_ends(redis: RedisStore, hand: RedisClient) -> None:
    key = ShardKeys(SHARD).lease
    await hand.exchange([("HSET", key, "owner", NOT_UTF8, "token", 7), ("PEXPIRE", key, 300)])
    token = await grant(redis, shard=OTHER_SHARD)
    holders = await redis.leases.holders([SHARD, OTHER_SHARD])
    assert holders[OTHER_SHARD] == OWNER
    assert holders[SHARD] not in {OWNER, ""}
    assert isinstance(await redis.leases.acquire(SHARD, OWNER, ttl_s=LONG_S, sole=False), Busy)
    assert await redis.leases.renew({SHARD: token, OTHER_SHARD: token}, OWNER, ttl_s=LONG_S) == {OTHER_SHARD}

    async def is_granted() -> bool:
        return isinstance(await redis.leases.acquire(SHARD, OWNER, ttl_s=LONG_S, sole=False), Granted)

    assert await eventually(is_granted)


async def test_a_lease_of_another_type_of_key_is_nobodys_to_have_and_the_others_are_kept(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("SET", ShardKeys(SHARD).lease, "x")
    token = await grant(redis, shard=OTHER_SHARD)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert await redis.leases.holders([SHARD, OTHER_SHARD]) == {OTHER_SHARD: OWNER}
            assert isinstance(await redis.leases.acquire(SHARD, OWNER, ttl_s=LONG_S, sole=False), Busy)
            assert await redis.leases.renew({SHARD: token, OTHER_SHARD: token}, OWNER, ttl_s=LONG_S) == {OTHER_SHARD}
        assert not await redis.leases.release(SHARD, OWNER, token, to=TAKER)
    assert [line["event"] for line in lines] == ["left_aside"]
    assert await hand.call("GET", ShardKeys(SHARD).lease) == b"x", "a lease is permission: only people may remove it"
