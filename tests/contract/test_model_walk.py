"""Random walks over the ports: whatever dies, and whenever, nothing is lost and every chat keeps its order (`model_walk.py`).

The twin walks often, a real Redis seldom; `CHAOS=1` makes both walk much more. A failure names its seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from tests.conftest import CHAOS, scaled
from tests.contract.model_owner import Owner, Verdict
from tests.contract.model_walk import Pace, Rules, World
from tests.contract.samples import SHARD, Store, empty
from tests.real_redis import RealRedis
from worker.adapters.memory_retry_queue import MemoryRetryQueue
from worker.adapters.memory_shard import MemoryShard, ParkedDelivery
from worker.adapters.memory_store import MemoryStore
from worker.adapters.redis_store import open_redis_store
from worker.domain.ids import Shard, Token, WebhookId

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_600 if CHAOS else 120)]

WALKS_ON_THE_TWIN = scaled(300, 10_000)
WALKS_ON_REDIS = scaled(25, 1_000)
ROUGH, GRACEFUL = Rules(), Rules(graceful=True)
SHORT_ROUGH = replace(ROUGH, events=20, rough_steps=250, visibility_s=0.04)
SHORT_GRACEFUL = replace(SHORT_ROUGH, graceful=True)


class TwinPace:
    """Virtual time: a step takes 10 ms, and waiting for something to become due takes none."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def step(self) -> None:
        self.now_s += 0.01

    async def idle(self) -> None:
        self.now_s += 0.05


class RedisPace:
    """Real time: claims and retries end by the server's clock, which is waited for when nothing else is left to do."""

    def step(self) -> None:
        """Passes by itself."""

    async def idle(self) -> None:
        await anyio.sleep(0.002)  # noqa: TID251 - the server's clock tells nobody that a claim has ended


async def walk(store: Store, pace: Pace, rules: Rules, seed: int) -> None:
    try:
        await World(store, pace, rules, seed).walk()
    except Verdict as verdict:
        raise AssertionError(f"seed {seed}, {rules}: {verdict}") from verdict


async def walk_on_the_twin(rules: Rules, seed: int) -> None:
    pace = TwinPace()
    await walk(MemoryStore(shards=1, clock=lambda: pace.now_s), pace, rules, seed)


@pytest.mark.parametrize("rules", [ROUGH, GRACEFUL], ids=["rough", "graceful"])
async def test_no_walk_on_the_twin_breaks_a_promise(rules: Rules) -> None:
    for seed in range(WALKS_ON_THE_TWIN // 2):
        await walk_on_the_twin(rules, seed)


@pytest.mark.parametrize("rules", [SHORT_ROUGH, SHORT_GRACEFUL], ids=["rough", "graceful"])
async def test_no_walk_on_a_real_redis_breaks_a_promise(redis_server: RealRedis, rules: Rules) -> None:
    for seed in range(WALKS_ON_REDIS // 2 + 1):
        empty(redis_server)
        async with open_redis_store(redis_server.url, shards=1) as store:
            await walk(store, RedisPace(), rules, seed)


async def some_walk_fails(rules: Rules, *, walks: int = 60) -> bool:
    for seed in range(walks):
        try:
            await walk_on_the_twin(rules, seed)
        except AssertionError:
            return True
    return False


async def test_the_walk_notices_a_store_without_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    def let_pass(shard: MemoryShard, token: Token) -> None:
        """Whoever asks may write."""

    monkeypatch.setattr(MemoryShard, "guard", let_pass)
    assert await some_walk_fails(ROUGH)


async def test_the_walk_notices_an_owner_that_spills_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spill_alone(owner: Owner) -> None:
        if owner.buffer:
            await owner._park([owner.random.choice(owner.buffer)])  # noqa: SLF001 - one rule broken on purpose

    monkeypatch.setattr(Owner, "spill", spill_alone)
    assert await some_walk_fails(ROUGH)


async def test_the_walk_notices_an_owner_that_does_not_hear_which_chats_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none_waits(queue: MemoryRetryQueue, shard: Shard, webhooks: Sequence[WebhookId]) -> dict[WebhookId, dict[str, int]]:
        return {}

    monkeypatch.setattr(MemoryRetryQueue, "waiting_chats", none_waits)
    assert await some_walk_fails(GRACEFUL)


async def test_the_walk_notices_a_chat_that_is_called_free_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(shard: MemoryShard, delivery: ParkedDelivery) -> int:
        return 0

    monkeypatch.setattr(MemoryShard, "waiting_in_chat_of", none_left)
    assert await some_walk_fails(GRACEFUL)


async def test_the_walk_notices_an_owner_that_forgets_what_it_had_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def release_at_once(owner: Owner) -> None:
        await owner.store.leases.release(SHARD, owner.world.name, owner.token, to=None)

    monkeypatch.setattr(Owner, "hand_over", release_at_once)
    assert await some_walk_fails(GRACEFUL)
