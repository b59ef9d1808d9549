"""What is only true of the states of webhooks on Redis: words that an operator reads and removes by hand (docs/architecture.md)."""

from __future__ import annotations

import re

import anyio
import pytest

from tests.contract.samples import HOOK
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import PAUSES, WEBHOOKS
from worker.adapters.redis_store import RedisStore
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import DisabledReason

pytestmark = pytest.mark.anyio


async def test_a_state_is_words_and_its_removal_enables_the_webhook(redis: RedisStore, hand: RedisClient) -> None:
    await redis.webhook_states.disable(HOOK, DisabledReason.GONE)
    await redis.webhook_states.note_answers(answered=[], failed=[WebhookId("billing")])
    assert re.fullmatch(rb"disabled \d{13} gone", await hand.call("HGET", WEBHOOKS, HOOK))
    assert re.fullmatch(rb"failing \d{13}", await hand.call("HGET", WEBHOOKS, "billing"))
    await hand.call("HDEL", WEBHOOKS, HOOK)
    assert set(await redis.webhook_states.all_states()) == {"billing"}


@pytest.mark.parametrize("foreign", ["", "paused 1763790000000", "disabled soon gone", "disabled 1763790000000 by-moonlight", "failing"])
async def test_a_state_of_another_version_says_nothing_and_breaks_nothing(redis: RedisStore, hand: RedisClient, foreign: str) -> None:
    await hand.call("HSET", WEBHOOKS, HOOK, foreign)
    assert await redis.webhook_states.all_states() == {}
    await redis.webhook_states.note_answers(answered=[HOOK], failed=[HOOK])
    assert not await redis.webhook_states.disable(HOOK, DisabledReason.UNANSWERED, failing_for_s=0.001) or foreign.startswith("disabled ")


async def test_a_pause_is_two_instants_and_the_one_that_lasts_has_no_end(redis: RedisStore, hand: RedisClient) -> None:
    await redis.webhook_states.pause(HOOK)
    await redis.webhook_states.resume(HOOK)
    await redis.webhook_states.pause(HOOK)
    assert re.fullmatch(rb"\d{13}-\d{13} \d{13}-", await hand.call("HGET", PAUSES, HOOK))


@pytest.mark.parametrize("foreign", ["", "for ever", "soon-later"])
async def test_pauses_of_another_version_pause_nothing_and_break_nothing(redis: RedisStore, hand: RedisClient, foreign: str) -> None:
    await hand.call("HSET", PAUSES, HOOK, foreign)
    assert not (await redis.webhook_states.all_states())[HOOK].is_paused
    await redis.webhook_states.pause(HOOK)
    assert (await redis.webhook_states.all_states())[HOOK].is_paused


async def test_at_maxmemory_a_webhook_can_still_be_disabled(redis: RedisStore, hand: RedisClient) -> None:
    """Its backlog may be what fills the memory."""
    await hand.call("CONFIG", "SET", "maxmemory", "1")
    try:
        assert await redis.webhook_states.disable(HOOK, DisabledReason.GONE)
        await redis.webhook_states.note_answers(answered=[], failed=[WebhookId("billing")])
        await redis.webhook_states.pause(HOOK)
    finally:
        with anyio.move_on_after(2, shield=True):
            await hand.call("CONFIG", "SET", "maxmemory", "0")
    assert set(await redis.webhook_states.all_states()) == {HOOK, "billing"}
