"""What is only true of the attempts log on Redis: it ends by itself, and what another version wrote into it breaks nothing."""

from __future__ import annotations

import anyio
import pytest

from tests.contract.samples import HOOK
from tests.contract.test_attempts_log_contract import ENTRY
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import attempts
from worker.adapters.redis_store import RedisStore
from worker.domain.errors import StoreFull
from worker.event_integration.attempts_log import KEEP_S, KEPT

pytestmark = pytest.mark.anyio


async def test_it_ends_a_week_after_the_last_attempt(redis: RedisStore, hand: RedisClient) -> None:
    await redis.attempts_log.add({HOOK: [ENTRY]})
    assert KEEP_S - 5 <= await hand.call("TTL", attempts(HOOK)) <= KEEP_S


@pytest.mark.parametrize(
    "foreign", [b"", b"not json", b"[]", b'{"at": 1}', b'[1,"e","d",1,"delivered",0.1,200,null,"in the post",{}]', b"7"]
)
async def test_an_entry_of_another_version_is_left_out(redis: RedisStore, hand: RedisClient, foreign: bytes) -> None:
    await redis.attempts_log.add({HOOK: [ENTRY]})
    await hand.call("LPUSH", attempts(HOOK), foreign)
    assert await redis.attempts_log.attempts_of(HOOK) == [ENTRY]


async def test_the_list_never_holds_more_than_it_shows(redis: RedisStore, hand: RedisClient) -> None:
    await redis.attempts_log.add({HOOK: [ENTRY] * KEPT})
    await redis.attempts_log.add({HOOK: [ENTRY] * KEPT})
    assert await hand.call("LLEN", attempts(HOOK)) == KEPT


async def test_a_full_store_refuses_the_log_first(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            await redis.attempts_log.add({HOOK: [ENTRY]})
    finally:
        with anyio.move_on_after(2, shield=True):
            await hand.call("CONFIG", "SET", "maxmemory", "0")
