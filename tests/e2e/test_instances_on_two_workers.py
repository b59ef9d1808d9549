"""Two workers, one Redis, one gateway: a call repeated with its key is one call wherever it arrives (issue 5 "Shows")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import orjson
import pytest

from tests.contract.samples import empty, eventually
from tests.e2e.instances_world import endpoints_of, parts_over
from tests.real_redis import RealRedis, real_redis
from worker.adapters.brokers import open_broker
from worker.adapters.redis_store import open_redis_store
from worker.api.endpoints import ApiError, Call, Endpoint, Reply
from worker.api.instances_shapes import NewInstance
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Tenant
from worker.domain.ids import TenantId
from worker.fake_gateway.server import FakeGateway, Plan, fake_gateway
from worker.fake_gateway.troubles import Kind
from worker.instances.broker import BrokerConfig
from worker.instances.parts import InstanceParts, Known, Served

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")


class Worker(NamedTuple):
    catalog: Catalog
    parts: InstanceParts
    create: Endpoint

    async def ask(self, key: str | None, *, name: str = "Vendas") -> Reply:
        body = NewInstance.model_validate({"name": name, "gateway": "waha"})
        return await self.create.handle(Call(request_id="r", actor="key:0", is_admin=False, tenant=ACME, body=body, idempotency_key=key))


def id_of(made: Reply) -> str:
    return str(orjson.loads(made.content or b"")["data"]["id"])


class Two(NamedTuple):
    fake: FakeGateway
    one: Worker
    other: Worker


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RealRedis]:
    with real_redis(appendonly="no") as server:
        yield server


@asynccontextmanager
async def worker_on(url: str, fake: FakeGateway, *, seed: int) -> AsyncIterator[Worker]:
    broker = open_broker(BrokerConfig(id="main", gateway="waha", url=fake.url, api_key=fake.api_key, timeout_s=5))
    async with open_redis_store(url, shards=2) as store:
        catalog = Catalog([Tenant(id=ACME)], [], [])
        known = Known(catalog=catalog, registrar=Registrar(store.directory, Replica(catalog), asyncio.get_running_loop().time))
        parts = parts_over(known, store, [Served(broker)], seed=seed)
        create = next(one for one in endpoints_of(parts, known) if one.method == "POST" and one.is_idempotent_by_key)
        try:
            yield Worker(catalog, parts, create)
        finally:
            with anyio.move_on_after(2, shield=True):
                await broker.close()


@pytest.fixture
async def two(redis_server: RealRedis) -> AsyncIterator[Two]:
    empty(redis_server)
    async with (
        fake_gateway(Plan(gateway="waha")) as fake,
        worker_on(redis_server.url, fake, seed=1) as one,
        worker_on(redis_server.url, fake, seed=2) as other,
    ):
        yield Two(fake, one, other)


async def test_two_hundred_creates_with_one_key_on_two_workers_are_one_instance_and_one_answer(two: Two) -> None:
    slow = two.fake.trouble("POST /api/sessions", Kind.SLOW, seconds=0.3, times=None)
    answers: list[Reply] = []

    async def ask(worker: Worker) -> None:
        answers.append(await worker.ask("the-key"))

    async with anyio.create_task_group() as callers:
        for number in range(200):
            callers.start_soon(ask, two.one if number % 2 else two.other)
    assert len(answers) == 200
    assert {answer.status for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert (slow.seen, len(two.fake.instances)) == (1, 1)
    assert await two.one.ask("the-key") == answers[0]


async def test_the_other_worker_goes_on_with_the_row_of_one_that_died_between_row_and_broker(two: Two) -> None:
    hangs = two.fake.trouble("POST /api/sessions", Kind.HANG)
    async with anyio.create_task_group() as dying:
        dying.start_soon(two.one.ask, "the-key")

        async def hangs_there() -> bool:
            return hangs.seen > 0

        assert await eventually(hangs_there)
        dying.cancel_scope.cancel()
    assert not two.fake.instances
    made = await two.other.ask("the-key")
    [row] = two.one.catalog.instances.values()
    assert list(two.fake.instances) == [row.gateway_instance]
    assert id_of(made) == row.id


async def test_without_a_key_each_call_is_an_instance_of_its_own(two: Two) -> None:
    for worker in (two.one, two.other):
        await worker.ask(None)
    assert len(two.fake.instances) == 2


async def test_the_same_key_with_another_body_is_refused_on_the_other_worker_too(two: Two) -> None:
    await two.one.ask("the-key")
    with pytest.raises(ApiError) as refused:
        await two.other.ask("the-key", name="Suporte")
    assert refused.value.status == 422


async def test_what_one_worker_saw_the_other_shows(two: Two) -> None:
    made = await two.one.ask("the-key")
    found = await two.other.parts.single.find(ACME, id_of(made))
    assert found is not None
    entry = await two.other.parts.listing.entry(found)
    assert entry.seen is not None
