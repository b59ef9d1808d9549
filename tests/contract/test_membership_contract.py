"""Who is alive, and how one worker wakes another (design 4 "Rotation"; a wake-up is advice, never permission)."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from tests.contract.samples import LONG_S, OWNER, SHORT_S, Store, eventually
from worker.client_registry.port import Member
from worker.domain.ids import OwnerId

pytestmark = pytest.mark.anyio

RIVAL = OwnerId("rival")


def member(owner: OwnerId = OWNER) -> Member:
    return Member(owner=owner, task="task/1", family="worker", revision=7, ready=True, draining=False, shards=3)


async def test_an_announced_worker_is_live_with_all_that_it_said(store: Store) -> None:
    await store.membership.announce(member(), ttl_s=LONG_S)
    assert await store.membership.live() == [member()]


async def test_the_last_announcement_counts(store: Store) -> None:
    draining = replace(member(), ready=False, draining=True, shards=0)
    await store.membership.announce(member(), ttl_s=LONG_S)
    await store.membership.announce(draining, ttl_s=LONG_S)
    assert await store.membership.live() == [draining]


async def test_all_live_workers_are_listed(store: Store) -> None:
    for owner in (OWNER, RIVAL):
        await store.membership.announce(member(owner), ttl_s=LONG_S)
    assert {one.owner for one in await store.membership.live()} == {OWNER, RIVAL}


async def test_a_worker_that_withdrew_is_gone(store: Store) -> None:
    await store.membership.announce(member(), ttl_s=LONG_S)
    await store.membership.withdraw(OWNER)
    await store.membership.withdraw(OWNER)
    assert await store.membership.live() == []


async def test_a_worker_that_fell_silent_is_gone_and_others_are_not(store: Store) -> None:
    await store.membership.announce(member(), ttl_s=SHORT_S)
    await store.membership.announce(member(RIVAL), ttl_s=LONG_S)

    async def is_gone() -> bool:
        return [one.owner for one in await store.membership.live()] == [RIVAL]

    assert await eventually(is_gone)


async def test_a_waiting_worker_is_woken_at_once(store: Store) -> None:
    woken: list[bool] = []

    async def standby() -> None:
        woken.append(await store.membership.wait_wake(OWNER, block_s=20))

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(standby)
            await anyio.wait_all_tasks_blocked()
            await store.membership.wake(OWNER)
    assert woken == [True]


async def test_a_wake_up_that_comes_before_the_wait_is_kept(store: Store) -> None:
    await store.membership.wake(OWNER)
    assert await store.membership.wait_wake(OWNER, block_s=0.05)


async def test_a_wake_up_is_kept_for_two_seconds_and_no_longer(store: Store) -> None:
    await store.membership.wake(OWNER)
    with anyio.move_on_after(2.2):
        await store.membership.wait_wake(RIVAL, block_s=2.1)
    assert not await store.membership.wait_wake(OWNER, block_s=0.05)


async def test_without_a_wake_up_the_wait_ends_in_its_time(store: Store) -> None:
    with anyio.fail_after(15):
        assert not await store.membership.wait_wake(OWNER, block_s=0.05)


async def test_a_wake_up_is_for_one_worker(store: Store) -> None:
    await store.membership.wake(RIVAL)
    assert not await store.membership.wait_wake(OWNER, block_s=0.05)
    assert await store.membership.wait_wake(RIVAL, block_s=0.05)


async def test_a_cancelled_wait_hears_the_next_wake_up(store: Store) -> None:
    with anyio.move_on_after(0.02):
        await store.membership.wait_wake(OWNER, block_s=20)
    await store.membership.wake(OWNER)
    await store.membership.wake(OWNER)
    assert await store.membership.wait_wake(OWNER, block_s=0.5)
