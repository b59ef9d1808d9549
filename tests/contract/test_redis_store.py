"""What is only true of this store: durability by replicas, quarantine after a failover, maxmemory, bounds of ring and trim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.contract.samples import HOOK, LONG_S, OWNER, SHARD, TENANT, append, delivered, event, grant, settle
from tests.real_redis import RealRedis, real_redis
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_store import RedisStore, open_redis_store
from worker.client_registry.port import Granted, Quarantined
from worker.domain.errors import ConfigurationError, StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import EventKey, OwnerId, Position, Token, delivery_id
from worker.event_integration.retry_queue import DeadReason, Parking, Waiting, Want
from worker.journal.port import Checkpoint, Done, Freed

pytestmark = pytest.mark.anyio

SHARDS = 4


@pytest.fixture(scope="module")
def server() -> Iterator[RealRedis]:
    with real_redis() as redis:
        yield redis


@pytest.fixture
def replica() -> Iterator[RealRedis]:
    """Without a file to rewrite after each synchronisation: the child that does it would hold the master's line open."""
    with real_redis(appendonly="no") as redis:
        yield redis


@pytest.fixture
def own_server() -> Iterator[RealRedis]:
    """One to be restarted."""
    with real_redis() as redis:
        yield redis


@pytest.fixture
async def redis(server: RealRedis) -> AsyncIterator[RedisClient]:
    """The operator's own connection, to an empty server with its usual settings."""
    client = RedisClient(server.url, name="test", timeout_s=5, max_connections=2)
    await client.call("FLUSHALL")
    yield client
    await client.exchange(
        [("CONFIG", "SET", "maxmemory", 0), ("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("REPLICAOF", "NO", "ONE")]
    )
    await client.close()


@pytest.fixture
async def store(server: RealRedis, redis: RedisClient) -> AsyncIterator[RedisStore]:
    async with open_redis_store(server.url, shards=SHARDS) as store:
        yield store


def parking(key: str, position: int) -> Parking:
    return Parking(
        delivery_id=delivery_id(EventKey(key), HOOK),
        event_key=EventKey(key),
        webhook_id=HOOK,
        tenant_id=TENANT,
        position=Position(position),
        record=key.encode(),
        attempts=1,
    )


async def fill_up(redis: RedisClient) -> None:
    """Nothing more fits."""
    await redis.call("CONFIG", "SET", "maxmemory", 1)


async def test_another_number_of_shards_is_refused_and_names_both(server: RealRedis, store: RedisStore) -> None:
    with pytest.raises(ConfigurationError, match=r"WORKER_REGISTRY__SHARDS\): 5: allowed: 4"):
        async with open_redis_store(server.url, shards=5):
            pass


async def test_a_server_that_evicts_is_refused(server: RealRedis, redis: RedisClient) -> None:
    await redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="allkeys-lru: allowed: noeviction"):
        async with open_redis_store(server.url, shards=SHARDS):
            pass
    assert not await redis.call("EXISTS", "{wa}:config"), "a refused start fixes nothing"


async def test_facts_say_what_an_operator_should_know(store: RedisStore) -> None:
    facts = await store.facts()
    assert (facts.appendfsync, facts.is_append_only, facts.replicas, facts.maxmemory_bytes) == ("everysec", True, 0, 0)
    assert facts.version[0].isdigit()


async def test_at_maxmemory_what_adds_is_refused_and_nothing_of_it_is_there(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    await append(store, "a")
    await fill_up(redis)
    with pytest.raises(StoreFull):
        await append(store, "b")
    with pytest.raises(StoreFull):
        await store.retry_queue.park(SHARD, token, [parking("a", 1)])
    await redis.call("CONFIG", "SET", "maxmemory", 0)
    assert (await store.checkpoints.load(SHARD, token)).tail == 2
    assert await store.retry_queue.due(SHARD, limit=10) == []
    assert await store.room.waiting([SHARD]) == {SHARD: {TENANT: Waiting(1, 1)}}


async def test_at_maxmemory_a_duplicate_is_still_answered(store: RedisStore, redis: RedisClient) -> None:
    await append(store, "a")
    await fill_up(redis)
    assert await store.journal.append(SHARD, [event("a")]) == [(1, True)]


async def test_at_maxmemory_leases_live_on_and_change_hands(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    await fill_up(redis)
    assert await store.leases.renew({SHARD: token}, OWNER, ttl_s=LONG_S) == {SHARD}
    next_owner = OwnerId("next")
    assert await store.leases.release(SHARD, OWNER, token, to=next_owner)
    assert isinstance(await store.leases.acquire(SHARD, next_owner, ttl_s=LONG_S, sole=False), Granted)


async def test_at_maxmemory_what_frees_goes_on(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    await store.retry_queue.park(SHARD, token, [parking("a", 1)])
    await fill_up(redis)
    (claimed,) = await store.retry_queue.claim(SHARD, token, {HOOK: Want(1, LONG_S)})
    done = (Done(Position(2), None),)
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(1), done=done, freed={TENANT: Freed(2, 2)}))
    assert await settle(store, delivered(claimed))
    assert await store.room.waiting([SHARD]) == {SHARD: {}}


async def test_at_maxmemory_a_tenure_starts_and_marks_what_it_reads(store: RedisStore, redis: RedisClient) -> None:
    """A full store and an event that kills: the one must not keep the other alive."""
    await append(store, "a")
    await fill_up(redis)
    for starts in (1, 2):
        answer = await store.leases.acquire(SHARD, OwnerId(f"owner {starts}"), ttl_s=LONG_S, sole=True)
        assert isinstance(answer, Granted)
        doubt = (await store.checkpoints.load(SHARD, answer.token)).doubt
        assert (doubt.starts, doubt.strikes) == (starts, int(starts > 1))
        await store.checkpoints.mark_reading(SHARD, answer.token, None)
        await store.checkpoints.mark_reading(SHARD, answer.token, Position(1))


async def test_memory_fill_is_used_over_the_limit(store: RedisStore, redis: RedisClient) -> None:
    assert await store.room.memory_fill() == 0.0
    await redis.call("CONFIG", "SET", "maxmemory", "1gb")
    assert 0 < await store.room.memory_fill() < 0.1


async def why_not_appended(store: RedisStore) -> str:
    """Asked again where a busy machine answered nothing in time."""
    why = ""
    for _ in range(5):
        with pytest.raises(StoreUnavailable) as refused:
            await store.journal.append(SHARD, [event("a")])
        why = str(refused.value)
        if "no answer" not in why:
            break
    return why


async def test_replicated_means_that_a_replica_has_it(server: RealRedis, redis: RedisClient, replica: RealRedis) -> None:
    async with open_redis_store(server.url, shards=SHARDS, replicated=True) as store:
        assert "no replica" in await why_not_appended(store)
        assert "no replica" in await why_not_appended(store), "a segment of duplicates waits too"
        async with replicating(replica, server):
            assert await store.journal.append(SHARD, [event("a")]) == [(1, True)], "a segment of duplicates waits for the replica too"
            assert await store.journal.append(SHARD, [event("b")]) == [(2, False)]
            copy = RedisClient(replica.url, name="copy", timeout_s=2, max_connections=1)
            assert await copy.call("XLEN", "{wa:0}:journal") == 2
            await copy.close()


async def test_after_a_failover_nobody_is_granted_anything_for_one_ttl(server: RealRedis, store: RedisStore, replica: RealRedis) -> None:
    """The promoted server may have missed the last grants; the token after it is larger all the same."""
    async with replicating(replica, server):
        token = await grant(store, ttl_s=LONG_S)
    async with open_redis_store(replica.url, shards=SHARDS) as promoted:
        assert await promoted.leases.renew({SHARD: token}, OWNER, ttl_s=LONG_S) == {SHARD}, "renewing goes on"
        assert await promoted.leases.release(SHARD, OWNER, token, to=None)
        answer = await promoted.leases.acquire(SHARD, OwnerId("next"), ttl_s=0.3, sole=False)
        assert isinstance(answer, Quarantined)
        assert 0 < answer.remaining_s <= 0.3
        await anyio.sleep(answer.remaining_s + 0.01)  # noqa: TID251 (the quarantine is time on the server's own clock)
        answer = await promoted.leases.acquire(SHARD, OwnerId("next"), ttl_s=LONG_S, sole=False)
        assert isinstance(answer, Granted)
        assert (answer.previous, answer.token > token) == (token, True)


async def test_a_restart_without_replicas_is_no_failover(own_server: RealRedis) -> None:
    async with open_redis_store(own_server.url, shards=SHARDS) as store:
        token = await grant(store)
    await anyio.to_thread.run_sync(own_server.restart)
    async with open_redis_store(own_server.url, shards=SHARDS) as store:
        assert await store.leases.release(SHARD, OWNER, token, to=None)
        assert await grant(store, "next") > token


async def test_reading_from_inside_a_segment_answers_it_whole_and_then_goes_on(store: RedisStore) -> None:
    await append(store, "a", "b", "c")
    await append(store, "d")
    found = await store.journal.read({SHARD: Position(2)}, max_segments=1, block_s=0)
    assert [(s.first, list(s.records)) for s in found] == [(1, [b"a", b"b", b"c"])]
    found = await store.journal.read({SHARD: Position(4)}, max_segments=1, block_s=0)
    assert [(s.first, list(s.records)) for s in found] == [(4, [b"d"])]


async def test_the_oldest_keys_give_way_to_new_ones(server: RealRedis, redis: RedisClient) -> None:
    """16 keys over 4 shards: one key per slot."""
    async with open_redis_store(server.url, shards=SHARDS, dedupe_max_keys=16) as store:
        await append(store, "a")
        await append(store, "b")
        assert (await store.journal.append(SHARD, [event("a")]))[0].duplicate
        for key in "cde":
            await append(store, key)
        assert not (await store.journal.append(SHARD, [event("a")]))[0].duplicate
        assert sum([await redis.call("HLEN", f"{{wa:0}}:seen:{slot}") for slot in range(4)]) == 4


async def test_keys_leave_after_their_window(server: RealRedis, redis: RedisClient) -> None:
    async with open_redis_store(server.url, shards=SHARDS, dedupe_window_s=0.03) as store:
        await append(store, "a")
        await anyio.sleep(0.08)  # noqa: TID251 (the window is time on the server's own clock)
        assert not (await store.journal.append(SHARD, [event("a")]))[0].duplicate


async def test_positions_go_on_after_everything_was_trimmed(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    await append(store, "a", "b")
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(3)))
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0) == 1
    assert await redis.call("XLEN", "{wa:0}:journal") == 0
    assert await append(store, "c") == [3]


async def test_the_mark_that_a_cut_used_stays_and_measures_the_next(store: RedisStore) -> None:
    """Marks are made every ten seconds: one that is lost would trim too much or nothing."""
    token = await grant(store)
    await append(store, "a")
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2)))
    await append(store, "b")
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=1 << 40) == 1
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=2, prefix=Position(3)))
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=1 << 40) == 0


async def test_an_event_without_a_byte_is_freed_like_any_other(store: RedisStore) -> None:
    token = await grant(store)
    await store.journal.append(SHARD, [event("a", record=b"")])
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2), freed={TENANT: Freed(1, 0)}))
    assert await store.room.waiting([SHARD]) == {SHARD: {}}


async def test_a_delivery_whose_payload_was_taken_away_becomes_a_dead_letter_that_says_so(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [parking("a", 1), parking("b", 2)])
    await redis.call("DEL", "{wa:0}:payload:a")
    (claimed,) = await store.retry_queue.claim(SHARD, token, {HOOK: Want(8, LONG_S)})
    assert claimed.record == b"b"
    (letter,) = await store.room.dead_letters(SHARD, limit=8)
    assert (letter.event_key, letter.reason, letter.attempts) == ("a", DeadReason.INTERNAL_ERROR, 1)


async def test_auto_durability_waits_for_a_replica_where_there_is_one(server: RealRedis, redis: RedisClient, replica: RealRedis) -> None:
    async with open_redis_store(server.url, shards=SHARDS, replicated=None) as store:
        assert not store.journal.replicated
    async with replicating(replica, server), open_redis_store(server.url, shards=SHARDS, replicated=None) as store:
        assert store.journal.replicated


async def test_many_segments_are_trimmed_in_bounded_steps(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    for n in range(2_500):
        await append(store, str(n))
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(2_400)))
    assert await store.checkpoints.trim(SHARD, token, keep_s=0, keep_bytes=0) == 2_399
    assert await redis.call("XLEN", "{wa:0}:journal") == 101


async def test_a_recount_walks_long_journals_in_steps_and_heals_what_drifted(store: RedisStore, redis: RedisClient) -> None:
    token = await grant(store)
    for n in range(100):
        await append(store, f"{n}.0", f"{n}.1", f"{n}.2")
    done = (Done(Position(9), None), Done(Position(200), None), Done(Position(201), HOOK))
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(6), done=done))
    await store.retry_queue.park(SHARD, token, [parking("parked", 201)])
    await redis.call("HINCRBY", "{wa:0}:waiting", "acme|n", -77)
    await redis.call("HINCRBY", "{wa:0}:waiting", "ghost|b", 9)
    await store.checkpoints.recount(SHARD, token)
    figures = (await store.room.waiting([SHARD]))[SHARD]
    assert set(figures) == {TENANT}
    assert figures[TENANT].events == 300 - 5 - 2


async def test_a_recount_under_a_superseded_token_changes_nothing(store: RedisStore, redis: RedisClient) -> None:
    await append(store, "a")
    token = await grant(store)
    await redis.call("HINCRBY", "{wa:0}:waiting", "acme|n", 5)
    with pytest.raises(StaleToken):
        await store.checkpoints.recount(SHARD, Token(token - 1))
    assert await store.room.waiting([SHARD]) == {SHARD: {TENANT: Waiting(6, 1)}}


@asynccontextmanager
async def replicating(replica: RealRedis, of: RealRedis) -> AsyncIterator[None]:
    """`replica` follows `of` for the length of the block and is promoted at its end."""
    master = RedisClient(of.url, name="master", timeout_s=2, max_connections=1)
    follower = RedisClient(replica.url, name="follower", timeout_s=2, max_connections=1)
    await follower.call("REPLICAOF", "127.0.0.1", of.port)
    with anyio.fail_after(10):
        while not await master.call("WAIT", 1, 100):
            pass
    yield
    await follower.call("REPLICAOF", "NO", "ONE")
    with anyio.fail_after(10):
        while b"connected_slaves:0" not in await master.call("INFO", "replication"):
            pass
    await master.close()
    await follower.close()
