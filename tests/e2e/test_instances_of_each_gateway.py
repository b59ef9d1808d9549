"""One life of an instance through the API over each of the four gateways: made, lost, found, paired, listed, logged out, removed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.api_world import Answer
from tests.e2e.instances_world import PATH, World, instances_api
from worker.domain.ids import InstanceId
from worker.fake_gateway.server import GATEWAYS as FAKES
from worker.gateways import GATEWAYS, port

pytestmark = pytest.mark.anyio

PHONE = "5511900000001"
PUBLIC_URL = "https://worker.example.com"


@pytest.fixture(params=FAKES)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with instances_api(gateway=request.param, public_url=PUBLIC_URL) as opened:
        yield opened


async def create(world: World, key: str) -> Answer:
    data = {"name": "Vendas São Paulo", "id": "sales", "gateway": world.fake.gateway}
    return await world.api.ask("POST", PATH, data=data, Idempotency_Key=key)


async def shown(world: World) -> dict[str, object]:
    listed = await world.api.ask("GET", PATH + "?refresh=1")
    assert (listed.status, listed.body["meta"]["refreshFailed"]) == (200, False)
    one: dict[str, object] = next(one for one in listed.body["data"]["instances"] if one["id"] == "sales")
    return one


async def test_a_life(world: World) -> None:
    assert (await create(world, "first")).status == 201
    (name,) = world.fake.instances
    assert (await create(world, "first")).status == 201
    assert list(world.fake.instances) == [name], "the key's answer, not another instance"
    assert (await shown(world))["status"] in {"qr_required", "connecting"}

    code = await world.api.ask("GET", f"{PATH}/sales/qr")
    assert code.status == 200

    world.fake.pair(name, PHONE)
    one = await shown(world)
    assert (one["status"], one["connected"], one["phoneNumber"]) == ("connected", True, PHONE)
    assert (await world.api.ask("GET", f"{PATH}/sales/status")).body["data"]["status"] == "connected"

    assert (await world.api.ask("POST", f"{PATH}/sales/disconnect")).status in {200, 202}
    assert world.fake.instances[name].phone is None
    assert (await world.api.ask("DELETE", f"{PATH}/sales")).status in {200, 204}
    assert not world.fake.instances
    assert (await world.api.ask("GET", f"{PATH}/sales")).status == 404


async def test_a_create_whose_answer_is_lost_ends_in_one_instance(world: World) -> None:
    world.fake.trouble("POST *", "lose_answer")
    assert (await create(world, "first")).status == 201
    assert len(world.fake.instances) == 1
    assert world.fake.requests.total() > 1


async def test_what_the_new_instance_pushes_passes_its_own_door(world: World) -> None:
    """Address and secret as the gateway was told them are those that ingest wants of this instance."""
    assert (await create(world, "first")).status == 201
    (made,) = world.fake.instances.values()
    secrets = world.api.catalog.instances[InstanceId("sales")].ingest_secrets
    if world.fake.gateway == "baileys":
        assert made.push_url is None, "its environment says where it pushes"
        return
    assert made.push_url == f"{PUBLIC_URL}/ingest/{world.fake.gateway}/sales"
    pushed = world.fake.next_push(made.name)
    assert GATEWAYS[world.fake.gateway].verify(port.Push(headers=pushed.headers, body=pushed.body), secrets)


@pytest.mark.parametrize("body", ["<html><body>It works!</body></html>", "{}"])
async def test_what_a_proxy_says_in_its_brokers_place_makes_and_removes_nothing(world: World, body: str) -> None:
    assert (await create(world, "first")).status == 201
    (name,) = world.fake.instances
    world.fake.pair(name, PHONE)
    world.fake.trouble("*", "garbage", body=body, times=None)
    removed = await world.api.ask("DELETE", f"{PATH}/sales")
    assert (removed.status, removed.details["cause"]) == (502, "protocol")
    left = await world.api.ask("POST", f"{PATH}/sales/disconnect")
    assert left.status in {202, 502}
    made = await world.api.ask("POST", PATH, data={"name": "Other", "id": "other", "gateway": world.fake.gateway})
    assert (made.status, made.details["cause"]) == (502, "protocol")
    assert (await world.api.ask("GET", f"{PATH}/sales")).status == 200
    assert len(world.fake.instances) == 1
    world.fake.clear()
    assert (await world.api.ask("DELETE", f"{PATH}/sales")).status == 204
    assert not world.fake.instances
