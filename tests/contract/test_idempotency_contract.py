"""A call repeated with its `Idempotency-Key` is the same call: one runs it, its final answer is everybody's (contract 5)."""

from __future__ import annotations

import anyio
import pytest

from tests.contract.samples import LONG_S, SHORT_S, TENANT, Store, eventually
from worker.domain.ids import TenantId
from worker.instances.idempotency import Beginning, Finished, Holder, Mine, OtherBody, Repeatable, Running

pytestmark = pytest.mark.anyio

CALL = Repeatable(TENANT, "key-1", "a" * 64)
ONE, TWO = Holder("one"), Holder("two")
PLAN, OTHER_PLAN = b'{"id":"sales-x1"}', b'{"id":"sales-x2"}'
ANSWER = b"\x00 an answer \xff"


async def begin(store: Store, holder: Holder, plan: bytes = PLAN, *, lease_s: float = LONG_S) -> Beginning:
    return await store.idempotency.begin(CALL, holder, plan, lease_s=lease_s)


async def test_the_first_call_runs_by_its_own_plan(store: Store) -> None:
    assert not await store.idempotency.knows(TENANT, "key-1")
    assert await begin(store, ONE) == Mine(PLAN)
    assert await store.idempotency.knows(TENANT, "key-1")


async def test_while_it_runs_the_others_are_told_for_how_long_at_most(store: Store) -> None:
    await begin(store, ONE)
    told = await begin(store, TWO, OTHER_PLAN)
    assert isinstance(told, Running)
    assert 0 < told.lease_left_s <= LONG_S


async def test_whoever_holds_the_lease_may_ask_again_after_an_unknown_outcome(store: Store) -> None:
    await begin(store, ONE)
    assert await begin(store, ONE, OTHER_PLAN) == Mine(PLAN)


async def test_the_final_answer_is_everybodys(store: Store) -> None:
    await begin(store, ONE)
    assert await store.idempotency.finish(CALL, ONE, ANSWER)
    assert await store.idempotency.finish(CALL, ONE, b"another"), "repeated after an unknown outcome"
    assert await begin(store, TWO) == Finished(ANSWER)
    assert await begin(store, ONE) == Finished(ANSWER)


async def test_the_same_key_with_another_body_is_refused_before_and_after_the_answer(store: Store) -> None:
    other = CALL._replace(body_sha256="b" * 64)
    await begin(store, ONE)
    assert await store.idempotency.begin(other, TWO, PLAN, lease_s=LONG_S) == OtherBody()
    await store.idempotency.finish(CALL, ONE, ANSWER)
    assert await store.idempotency.begin(other, TWO, PLAN, lease_s=LONG_S) == OtherBody()


async def test_keys_are_each_tenants_own(store: Store) -> None:
    await begin(store, ONE)
    other = CALL._replace(tenant_id=TenantId("other"), body_sha256="b" * 64)
    assert await store.idempotency.begin(other, TWO, OTHER_PLAN, lease_s=LONG_S) == Mine(OTHER_PLAN)
    assert not await store.idempotency.knows(TENANT, "key-2")


async def test_what_was_left_goes_on_at_once_by_the_first_plan(store: Store) -> None:
    await begin(store, ONE)
    await store.idempotency.leave(CALL, ONE)
    assert await begin(store, TWO, OTHER_PLAN) == Mine(PLAN)


async def test_when_whoever_ran_it_died_the_next_goes_on_by_the_first_plan(store: Store) -> None:
    await begin(store, ONE, lease_s=SHORT_S)

    async def is_ours() -> bool:
        return await begin(store, TWO, OTHER_PLAN) == Mine(PLAN)

    assert await eventually(is_ours)
    assert not await store.idempotency.finish(CALL, ONE, b"too late"), "somebody else answers now"
    await store.idempotency.leave(CALL, ONE)
    assert isinstance(await begin(store, Holder("three")), Running), "a former holder gives nothing away"
    assert await store.idempotency.finish(CALL, TWO, ANSWER)


async def test_of_many_at_once_one_runs_it(store: Store) -> None:
    told: list[Beginning] = []

    async def ask(number: int) -> None:
        told.append(await begin(store, Holder(f"holder {number}"), f"plan {number}".encode()))

    async with anyio.create_task_group() as askers:
        for number in range(20):
            askers.start_soon(ask, number)
    assert sum(isinstance(one, Mine) for one in told) == 1
    assert sum(isinstance(one, Running) for one in told) == 19


async def test_nothing_can_be_finished_that_was_never_begun(store: Store) -> None:
    assert not await store.idempotency.finish(CALL, ONE, ANSWER)
    assert not await store.idempotency.knows(TENANT, "key-1")
