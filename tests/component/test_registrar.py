"""Look-ups of strangers are bounded, and news that overtakes other news does no harm."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.component.rig import now_s, pass_time
from worker.adapters.memory_store import MemoryStore
from worker.directory.port import Change, Everything, Kind, Revision, Stored
from worker.directory.registering import MAX_IN_LINE, MAX_LOOKUPS, MAX_RECENT, RECENT_S, Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId, TenantId, WebhookId

NEW = Revision(0)
ACME = TenantId("acme")
FRESH = Instance(id=InstanceId("fresh"), tenant_id=ACME, gateway="waha", gateway_instance="x")
KEY = "a" * 64


def registrar(store: MemoryStore) -> Registrar:
    return Registrar(store.directory, Replica(Catalog([], [], [])), now_s)


@pytest.mark.anyio
async def test_a_crowd_that_asks_for_one_stranger_costs_one_look_up() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    found: list[Instance | None] = []

    async def ask() -> None:
        found.append(await it.find_instance("fresh"))

    await store.directory.put(FRESH, expected=NEW)
    store.faults.calls.clear()
    store.faults.stall()
    async with anyio.create_task_group() as crowd:
        for _ in range(500):
            crowd.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        store.faults.resume()
    assert found == [FRESH] * 500
    assert store.faults.calls == ["find"]


@pytest.mark.anyio
async def test_a_stranger_is_asked_for_again_only_after_a_while() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    for _ in range(10):
        assert await it.find_instance("fresh") is None
        assert await it.find_tenant_of_key(KEY) is None
    assert sorted(store.faults.calls) == ["find", "find_tenant_of_key"]
    await store.directory.put(FRESH, expected=NEW)
    await store.directory.put(Tenant(id=ACME, api_keys_sha256=(KEY,)), expected=NEW)
    await pass_time(RECENT_S)
    assert await it.find_instance("fresh") == FRESH
    assert await it.find_tenant_of_key(KEY) == Tenant(id=ACME, api_keys_sha256=(KEY,))


@pytest.mark.anyio
async def test_a_storm_of_strangers_waits_in_a_short_line_and_is_then_answered_from_memory() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    answered: list[str] = []

    async def ask(name: str) -> None:
        assert await it.find_instance(name) is None
        answered.append(name)

    store.faults.stall()
    async with anyio.create_task_group() as storm:
        for number in range(1_000):
            storm.start_soon(ask, f"stranger-{number}")
        await anyio.wait_all_tasks_blocked()
        assert len(store.faults.calls) == MAX_LOOKUPS
        assert len(answered) == 1_000 - MAX_LOOKUPS - MAX_IN_LINE
        store.faults.resume()
    assert len(store.faults.calls) == MAX_LOOKUPS + MAX_IN_LINE
    for number in range(MAX_RECENT + 100):
        await it.find_instance(f"passer-by-{number}")
    assert len(it._recent) == MAX_RECENT  # noqa: SLF001


@pytest.mark.anyio
async def test_where_one_asker_gives_up_or_fails_the_next_asks_for_itself() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    await store.directory.put(FRESH, expected=NEW)
    store.faults.stall()
    found: list[Instance | None] = []

    async def ask() -> None:
        found.append(await it.find_instance("fresh"))

    async with anyio.create_task_group() as crowd:
        first = asyncio.ensure_future(it.find_instance("fresh"))  # noqa: TID251 -- to be cancelled alone
        await anyio.wait_all_tasks_blocked()
        crowd.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        store.faults.resume()
    assert found == [FRESH]


@pytest.mark.anyio
async def test_who_waits_for_a_look_up_that_fails_is_told_so_with_it() -> None:
    """Each asking for itself would wait for one time-out after the other."""
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    told: list[float] = []

    async def time_out(_script: str) -> None:
        await pass_time(2)
        raise StoreUnavailable("no answer within 2 s")

    async def ask() -> None:
        with pytest.raises(StoreUnavailable, match="no answer within 2 s"):
            await it.find_instance("fresh")
        told.append(now_s())

    store.faults.before = time_out
    began_s = now_s()
    async with anyio.create_task_group() as crowd:
        for _ in range(20):
            crowd.start_soon(ask)
    assert len(told) == 20
    assert max(told) - began_s < 2.1


@pytest.mark.anyio
async def test_an_absent_store_is_told_and_not_taken_for_a_no() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    store.faults.fail_next(1)
    with pytest.raises(StoreUnavailable):
        await it.find_instance("fresh")
    await store.directory.put(FRESH, expected=NEW)
    assert await it.find_instance("fresh") == FRESH


@pytest.mark.anyio
async def test_a_write_whose_answer_was_lost_may_be_repeated() -> None:
    store = MemoryStore(shards=1, clock=now_s)
    it = registrar(store)
    store.faults.lose_next_answers(1)
    with pytest.raises(StoreUnavailable):
        await it.put(FRESH, expected=NEW)
    assert await it.put(FRESH, expected=NEW) == 1


# -- news ------------------------------------------------------------------------------------------------------------------

HOOKS = [Webhook(id=WebhookId(name), tenant_id=ACME, url="https://x.example.com") for name in "ab"]


def history(steps: Sequence[tuple[int, bool]]) -> list[Change]:
    """What happened to two webhooks, revision by revision: written anew, or gone."""
    changes = []
    for number, (which, is_gone) in enumerate(steps, start=1):
        row = None if is_gone else replace(HOOKS[which], description=str(number))
        changes.append(Change(Kind.WEBHOOK, HOOKS[which].id, row, Revision(number)))
    return changes


def as_of(changes: Sequence[Change]) -> dict[str, Webhook]:
    known: dict[str, Webhook] = {}
    for change in changes:
        known.pop(change.id, None)
        if isinstance(change.row, Webhook):
            known[change.id] = change.row
    return known


steps = st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=12)


@given(steps, st.randoms(use_true_random=False), st.data())
def test_in_whatever_order_and_how_often_news_comes_the_last_change_of_a_row_stands(
    happened: list[tuple[int, bool]], chance: random.Random, data: st.DataObject
) -> None:
    changes = history(happened)
    heard = [*changes, *data.draw(st.lists(st.sampled_from(changes), max_size=10))]
    chance.shuffle(heard)
    replica = Replica(Catalog([], [], []))
    for change in heard:
        replica.take(change)
    assert replica.catalog.webhooks == as_of(changes)


@given(steps, st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_everything_read_anew_leaves_what_changed_meanwhile(happened: list[tuple[int, bool]], heard: int, read: int, later: bool) -> None:
    """Followed up to one revision, then all rows read at another; what is heard of beyond that stands."""
    changes = history(happened)
    replica = Replica(Catalog([], [], []))
    for change in changes[:heard]:
        replica.take(change)
    if later:
        for change in changes:
            replica.take(change)
    at = changes[: max(read, min(heard, len(changes)))]
    everything = Everything(
        [Stored(row, next(c.revision for c in reversed(at) if c.id == row.id)) for row in as_of(at).values()], Revision(len(at))
    )
    anyio.run(lambda: replica.become(everything, after=Revision(min(heard, len(changes)))))
    assert replica.catalog.webhooks == as_of(changes if later else at)


@pytest.mark.anyio
async def test_a_store_that_went_back_is_believed() -> None:
    replica = Replica(Catalog([], [], []))
    a, b = HOOKS
    replica.take_row(Stored(replace(a, description="kept"), Revision(3)))
    replica.take_row(Stored(replace(a, description="lost"), Revision(7)))
    replica.take_row(Stored(b, Revision(8)))
    await replica.become(Everything([Stored(replace(a, description="kept"), Revision(3))], Revision(3)), after=Revision(8))
    assert replica.catalog.webhooks == {a.id: replace(a, description="kept")}
