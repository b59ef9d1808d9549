"""What only a real Redis can show of the past: work per call is bounded however much there is, and the marks narrow a time range."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.past_samples import MINE, die, dying, listed
from tests.contract.samples import OTHER_HOOK, SHARD, TENANT, Store, claim_when_due, empty, event, grant
from tests.real_redis import RealRedis
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_past import CLOCKS_DIFFER_MS, SCRIPTS, RedisDeadLetters
from worker.adapters.redis_store import open_redis_store
from worker.domain.errors import StoreFull
from worker.domain.ids import Position, Shard, TenantId
from worker.event_integration.past import LetterFilter, LetterPlace, Moved, Moving, PastDelivery, Window

pytestmark = pytest.mark.anyio

KEYS = ShardKeys(SHARD)
LOOKED_AT = 300


@pytest.fixture
async def store(redis_server: RealRedis) -> AsyncIterator[Store]:
    empty(redis_server)
    async with open_redis_store(redis_server.url, shards=1) as opened:
        yield opened


@pytest.fixture
async def hand(redis_server: RealRedis) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_server.url, name="hand", timeout_s=2, max_connections=1, scripts=SCRIPTS)
    yield client
    await client.close()


async def many_letters(store: Store, count: int) -> None:
    token = await grant(store)
    for start in range(0, count, 50):
        await store.retry_queue.park(SHARD, token, [dying(number) for number in range(start + 1, start + 51)])


async def test_a_page_over_many_letters_looks_at_a_bounded_number_of_them(store: Store, hand: RedisClient) -> None:
    """A tenant without one letter among 1 500 of another: each call looks at 300 and says where to go on."""
    await many_letters(store, 1_500)
    nobodys = LetterFilter(tenant_id=TenantId("nobody"))
    letters, after, calls = RedisDeadLetters(hand, shards=1, looked_at=LOOKED_AT), None, 0
    await hand.call("CONFIG", "RESETSTAT")
    while True:
        page = await letters.page(nobodys, after=after, limit=50)
        calls += 1
        assert page.letters == []
        if page.next is None:
            break
        after = page.next
    assert calls == 1_500 // LOOKED_AT
    # Read in chunks of 100, whatever the length of the list.
    assert await read_by(hand, "hmget") <= (LOOKED_AT // 100 + 2) * calls


async def test_a_page_that_is_full_reads_no_further(store: Store, hand: RedisClient) -> None:
    await many_letters(store, 1_500)
    await hand.call("CONFIG", "RESETSTAT")
    page = await RedisDeadLetters(hand, shards=1).page(MINE, after=None, limit=50)
    assert (len(page.letters), page.next) == (50, page.letters[-1].place)
    assert await read_by(hand, "hmget") == 1


async def test_letters_are_all_found_by_short_looks_too(store: Store, hand: RedisClient) -> None:
    await many_letters(store, 500)
    letters, after, seen = RedisDeadLetters(hand, shards=1, looked_at=7), None, list[LetterPlace]()
    while True:
        page = await letters.page(MINE, after=after, limit=50, newest_first=False)
        seen += [letter.place for letter in page.letters]
        if page.next is None:
            break
        after = page.next
    assert len(seen) == len(set(seen)) == 500
    assert seen == sorted(seen)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_short_looks_at_shards_of_different_lengths_keep_the_order(
    redis_server: RealRedis, hand: RedisClient, newest_first: bool
) -> None:
    """One shard is full of strangers' letters: what others hold from before the place it was seen to must wait for a later page."""
    empty(redis_server)
    async with open_redis_store(redis_server.url, shards=4) as store:
        tokens = {Shard(n): await grant(store, shard=Shard(n)) for n in range(4)}
        for number in range(1, 161):
            shard = Shard(0 if number % 4 else number // 4 % 4)
            tenant = TENANT if number % 3 else TenantId("other")
            await store.retry_queue.park(shard, tokens[shard], [dying(number, tenant=tenant)])
    letters, after, seen = RedisDeadLetters(hand, shards=4, looked_at=3), None, list[LetterPlace]()
    while True:
        page = await letters.page(MINE, after=after, limit=10, newest_first=newest_first)
        seen += [letter.place for letter in page.letters]
        if page.next is None:
            break
        after = page.next
    assert len(seen) == 107
    assert seen == sorted(seen, reverse=newest_first)


async def test_a_letter_that_only_has_its_time_left_is_passed_over(store: Store, hand: RedisClient) -> None:
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    await hand.call("HDEL", KEYS.dead, letter.delivery_id)
    assert await listed(store) == []
    assert await store.dead_letters.find(TENANT, letter.delivery_id) is None


async def test_a_time_range_is_read_from_the_marks_around_it(store: Store, hand: RedisClient) -> None:
    """Hours of journal, a minute asked for: what was appended more than a minute before or after is not read."""
    hour_ms = 3_600_000
    for hour in range(10):
        await store.journal.append(SHARD, [event(f"e{hour}-{number}") for number in range(10)])
        await hand.call("ZADD", KEYS.marks, (hour + 1) * hour_ms, f"{(hour + 1) * 10 + 1}|0")
    window = Window(since_ms=5 * hour_ms + 2 * CLOCKS_DIFFER_MS, until_ms=5 * hour_ms + 3 * CLOCKS_DIFFER_MS)
    stretch = await store.past.journaled(SHARD, TENANT, window, after=None, limit=100)
    assert [position for position, _ in stretch.entries] == list(range(51, 61))
    assert stretch.next is None
    before_all = Window(since_ms=0, until_ms=hour_ms)
    stretch = await store.past.journaled(SHARD, TENANT, before_all, after=None, limit=100)
    assert [position for position, _ in stretch.entries] == list(range(1, 21))


async def test_a_stretch_ends_with_its_bytes(store: Store) -> None:
    for number in range(12):
        await store.journal.append(SHARD, [event(f"e{number}", record=b"x" * 700_000)])
    window = Window(since_ms=0, until_ms=2**43)
    stretch = await store.past.journaled(SHARD, TENANT, window, after=None, limit=100)
    assert [position for position, _ in stretch.entries] == [1, 2, 3]
    assert stretch.next == Position(4)


async def test_at_maxmemory_dead_letters_still_leave_and_nothing_is_added(store: Store, hand: RedisClient) -> None:
    """What is replayed or discarded is on its way out; a past event would be more that waits."""
    token = await grant(store)
    first, second = await die(store, token, dying(1), dying(2))
    await hand.call("CONFIG", "SET", "maxmemory", 1)
    try:
        assert await store.dead_letters.replay([Moving(first, OTHER_HOOK, 0)]) == [Moved.QUEUED]
        assert await store.dead_letters.discard([second]) == 1
        with pytest.raises(StoreFull):
            await store.past.enqueue(SHARD, [past_delivery(3)])
    finally:
        await hand.call("CONFIG", "SET", "maxmemory", 0)  # noqa: ASYNC102 -- bounded inside
    assert await listed(store) == []
    assert (await claim_when_due(store, token, hook=OTHER_HOOK)).record == dying(first.position).record


def past_delivery(position: int) -> PastDelivery:
    item = dying(position)
    return PastDelivery(
        delivery_id=item.delivery_id,
        event_key=item.event_key,
        webhook_id=item.webhook_id,
        tenant_id=item.tenant_id,
        position=item.position,
        record=item.record,
        due_in_s=0,
        is_new_to_it=True,
    )


async def read_by(hand: RedisClient, command: str) -> int:
    """How often the server ran a command, from scripts too."""
    text = (await hand.call("INFO", "commandstats")).decode()
    line = next((line for line in text.splitlines() if line.startswith(f"cmdstat_{command}:")), "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])
