"""The instances API against a gateway that fails as gateways do (contract 5, design 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.e2e.api_world import ADMIN_KEY, OTHER_KEY, Answer
from tests.e2e.instances_world import OWNER, PATH, World, instances_api
from worker.fake_gateway.troubles import Kind

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with instances_api() as opened:
        yield opened


async def create(world: World, *, key: str | None = None, **body: object) -> Answer:
    headers = {} if key is None else {"Idempotency_Key": key}
    return await world.api.ask("POST", PATH, data={"name": "Vendas", "gateway": "waha", **body}, **headers)


def fails(world: World, status: int, match: str = "*") -> None:
    """From now on it answers so."""
    world.fake.clear()
    world.fake.trouble(match, Kind.STATUS, status=status, times=None)


def heals(world: World) -> None:
    world.fake.clear()


async def test_the_night_of_the_note(world: World) -> None:
    """Its broker answers 503, 503, 502 to three refreshes, then 502 to create; then it heals."""
    for status in (503, 503, 502):
        fails(world, status)
        listed = await world.api.ask("GET", PATH + "?refresh=1")
        meta = listed.body["meta"]
        assert (listed.status, meta["stale"], meta["refreshFailed"]) == (200, True, True)
        failure = meta["refreshFailure"]
        assert (failure["cause"], failure["status"], failure["code"]) == ("service_unavailable", status, "BROKER_UNAVAILABLE")
        assert failure["attempts"] == 4
    fails(world, 502)
    refused = await create(world, key="first-instance")
    assert (refused.status, refused.code) == (503, "BROKER_UNAVAILABLE")
    assert refused.details.keys() == {"cause", "status", "brokerCode", "responseTimeMs", "requestId", "retryAfterS"}
    assert (refused.details["cause"], refused.details["status"]) == ("service_unavailable", 502)
    assert refused.details["responseTimeMs"] >= 0
    heals(world)
    made = await create(world, key="first-instance")
    assert made.status == 201
    again = await create(world, key="first-instance")
    assert (again.status, again.body["data"]) == (201, made.body["data"])
    listed = await world.api.ask("GET", PATH + "?refresh=1")
    assert [one["id"] for one in listed.body["data"]["instances"] if one["id"] != "acme-sales"] == [made.body["data"]["instance"]["id"]]
    assert list(world.fake.instances) == [made.body["data"]["instance"]["gatewayInstance"]]
