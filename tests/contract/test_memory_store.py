"""What only the twin can do: fail on command, fill up, fail over, and let an hour pass in no time."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from tests.conftest import VIRTUAL
from tests.contract.samples import HOOK, OWNER, SHARD, append, claim, delivered, event, grant, parking, settle
from worker.adapters.memory_store import MemoryStore
from worker.client_registry.port import Granted, Quarantined
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Position
from worker.journal.port import Checkpoint, Done

pytestmark = pytest.mark.anyio

HOUR_S = 3_600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(shards=2, clock=asyncio.get_running_loop().time)


async def tail(store: MemoryStore) -> int:
    """How much was really written, whatever the caller was told."""
    return sum(len(segment.records) for segment in await store.journal.read({SHARD: Position(1)}, max_segments=100, block_s=0))


async def test_an_hour_of_blocking_passes_in_virtual_time(store: MemoryStore) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    assert await store.journal.read({SHARD: Position(1)}, max_segments=1, block_s=HOUR_S) == []
    assert loop.time() - started_s == pytest.approx(HOUR_S, abs=1)


async def test_a_delivery_due_in_an_hour_is_due_in_an_hour(store: MemoryStore) -> None:
    token = await grant(store, ttl_s=2 * HOUR_S)
    await store.retry_queue.park(SHARD, token, [parking(Position(1), due_in_s=HOUR_S)])
    with anyio.move_on_after(HOUR_S - 1):
        await anyio.sleep_forever()
    assert await claim(store, token) == []
    with anyio.move_on_after(2):
        await anyio.sleep_forever()
    assert len(await claim(store, token)) == 1


async def test_a_store_that_is_away_refuses_everything_and_writes_nothing(store: MemoryStore) -> None:
    token = await grant(store)
    store.faults.away = True
    with pytest.raises(StoreUnavailable):
        await append(store, "a")
    with pytest.raises(StoreUnavailable):
        await store.leases.renew({SHARD: token}, OWNER, ttl_s=15)
    with pytest.raises(StoreUnavailable):
        await store.membership.wait_wake(OWNER, block_s=1)
    store.faults.away = False
    assert await append(store, "a") == [1]


async def test_the_next_calls_fail_and_then_it_works_again(store: MemoryStore) -> None:
    store.faults.fail_next(2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await append(store, "a")
    assert await append(store, "a") == [1]


async def test_a_lost_answer_is_a_write_that_the_caller_does_not_know_of(store: MemoryStore) -> None:
    store.faults.lose_next_answers(1)
    with pytest.raises(StoreUnavailable):
        await append(store, "a")
    assert await tail(store) == 1
    [again] = await store.journal.append(SHARD, [event("a")])
    assert again.duplicate


async def test_a_stalled_call_goes_on_when_the_store_resumes(store: MemoryStore) -> None:
    store.faults.stall()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append, store, "a")
        await anyio.wait_all_tasks_blocked()
        store.faults.resume()
    assert await tail(store) == 1


async def test_a_stalled_call_that_is_cancelled_never_happened(store: MemoryStore) -> None:
    store.faults.stall()
    with anyio.move_on_after(60):
        await append(store, "a")
    store.faults.resume()
    assert await tail(store) == 0


async def test_a_test_may_step_in_before_and_after_each_script(store: MemoryStore) -> None:
    """Crash at step k: before the script nothing is written, after it everything."""
    written: list[tuple[str, int]] = []

    async def crash_before(script: str) -> None:
        if script == "append":
            raise InterruptedError

    async def crash_after(script: str) -> None:
        if script == "append":
            raise InterruptedError

    store.faults.before = crash_before
    with pytest.raises(InterruptedError):
        await append(store, "a")
    written.append(("before", await tail(store)))
    store.faults.before, store.faults.after = None, crash_after
    with pytest.raises(InterruptedError):
        await append(store, "a")
    written.append(("after", await tail(store)))
    assert written == [("before", 0), ("after", 1)]


async def test_the_twin_tells_which_scripts_were_reached(store: MemoryStore) -> None:
    await append(store, "a")
    await grant(store)
    assert store.faults.calls == ["append", "acquire"]


async def test_a_full_store_adds_nothing_and_still_lets_things_end() -> None:
    loop = asyncio.get_running_loop()
    store = MemoryStore(shards=1, clock=loop.time, max_bytes=len(parking(Position(1)).record))
    token = await grant(store)
    await store.retry_queue.park(SHARD, token, [parking(Position(1))])
    assert await store.room.memory_fill() == 1.0
    with pytest.raises(StoreFull):
        await append(store, "a")
    with pytest.raises(StoreFull):
        await store.retry_queue.park(SHARD, token, [parking(Position(2))])
    assert await store.leases.renew({SHARD: token}, OWNER, ttl_s=15) == {SHARD}
    await store.checkpoints.save(Checkpoint(shard=SHARD, token=token, number=1, prefix=Position(1), done=[Done(Position(1), HOOK)]))
    [claimed] = await claim(store, token)
    assert await settle(store, delivered(claimed))
    assert await store.room.memory_fill() == 0.0
    assert await append(store, "a") == [1]


async def test_a_full_store_still_answers_duplicates() -> None:
    store = MemoryStore(shards=1, clock=asyncio.get_running_loop().time, max_bytes=1)
    await append(store, "a")
    assert (await store.journal.append(SHARD, [event("a")]))[0].duplicate


async def test_after_a_failover_grants_wait_for_one_ttl_and_the_holder_goes_on(store: MemoryStore) -> None:
    token = await grant(store, ttl_s=15)
    store.leases.fail_over()
    rival = OwnerId("rival")
    answer = await store.leases.acquire(SHARD, rival, ttl_s=15, sole=True)
    assert answer == Quarantined(15)
    assert await store.leases.renew({SHARD: token}, OWNER, ttl_s=15) == {SHARD}
    with anyio.move_on_after(16):
        await anyio.sleep_forever()
    assert isinstance(await store.leases.acquire(SHARD, rival, ttl_s=15, sole=True), Granted)
