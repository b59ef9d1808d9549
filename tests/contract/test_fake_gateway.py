"""The fake gateways themselves: events that our own doors take, troubles that happen as told, and a person's way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.contract.serving import serving
from worker.adapters.brokers import open_broker
from worker.fake_gateway.server import GATEWAYS as FAKES
from worker.fake_gateway.server import FakeGateway, Plan, fake_gateway
from worker.gateways import GATEWAYS, port
from worker.instances.broker import BrokerConfig, Push

pytestmark = pytest.mark.anyio

SECRET = "a-signing-secret-of-32-characters"
NAME = "acme-sales-1a2b3c4d"


class Door:
    """An ingest address: keeps what was pushed."""

    def __init__(self) -> None:
        self.pushed: list[port.Push] = []
        self.status = 202
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
        self.pushed.append(port.Push(headers=headers, body=await request.read()))
        return web.json_response({"accepted": 1, "duplicates": 0}, status=self.status)


@asynccontextmanager
async def a_door() -> AsyncIterator[Door]:
    door = Door()
    async with serving(door.take) as url:
        door.url = f"{url}/ingest"
        yield door


@asynccontextmanager
async def told(fake: FakeGateway) -> AsyncIterator[aiohttp.ClientSession]:  # noqa: TID251 - a person
    """As a person tells it, by HTTP."""
    async with aiohttp.ClientSession(fake.url) as session:  # noqa: TID251 - a person
        yield session


async def a_made_instance(fake: FakeGateway, push: Push | None) -> None:
    broker = open_broker(BrokerConfig(id="main", gateway=fake.gateway, url=fake.url, api_key=fake.api_key))
    await broker.create(NAME, push)
    await broker.close()


@pytest.mark.parametrize("gateway", FAKES)
async def test_an_instance_pushes_where_it_was_told_to_signed_as_our_own_door_wants_it(gateway: str) -> None:
    async with a_door() as door:
        plan = Plan(gateway="baileys", push_url=door.url, push_secret=SECRET) if gateway == "baileys" else Plan(gateway=gateway)
        async with fake_gateway(plan) as fake:
            await a_made_instance(fake, Push(url=door.url, secret=SECRET))
            assert await fake.push(NAME, 20) == {"202": 20}
    module = GATEWAYS[gateway]
    keys = set()
    for pushed in door.pushed:
        assert module.verify(pushed, [SECRET])
        assert not module.verify(pushed, ["another secret of 32 characters or so"])
        for event in module.decode(pushed):
            assert event.gateway_instance == NAME
            keys.add(event.message_ids)
    assert len(keys) == 20


async def test_a_door_that_refuses_or_is_not_there_is_counted() -> None:
    async with a_door() as door, fake_gateway(Plan(gateway="waha")) as fake:
        await a_made_instance(fake, Push(url=door.url, secret=None))
        door.status = 503
        assert await fake.push(NAME, 2) == {"503": 2}
        fake.instances[NAME].push_url = "http://127.0.0.1:1/nobody"
        assert await fake.push(NAME) == {"none": 1}
        fake.instances[NAME].push_url = None
        assert await fake.push(NAME) == {}, "it was not told where to"


async def test_two_fakes_with_one_seed_push_the_same() -> None:
    bodies = []
    for _ in range(2):
        async with a_door() as door, fake_gateway(Plan(gateway="baileys", push_url=door.url, seed=7)) as fake:
            fake.instances.make(NAME)
            await fake.push(NAME, 3)
            bodies.append([GATEWAYS["baileys"].decode(pushed)[0].message_ids for pushed in door.pushed])
    assert bodies[0] == bodies[1]


async def test_a_trouble_happens_as_often_as_it_was_told_to_and_only_where_it_fits() -> None:
    async with fake_gateway(Plan(gateway="waha")) as fake, told(fake) as person:
        trouble = {"match": "GET /api/sessions*", "kind": "status", "status": 503, "times": 2, "headers": {"Retry-After": "3"}}
        async with person.post("/_fake/trouble", json=trouble) as answer:
            assert answer.status == 201
        seen = []
        for _ in range(3):
            async with person.get("/api/sessions", headers={"X-Api-Key": fake.api_key}) as answer:
                seen.append((answer.status, answer.headers.get("Retry-After")))
            async with person.get("/health", headers={"X-Api-Key": fake.api_key}) as answer:
                assert answer.status == 200
        assert seen == [(503, "3"), (503, "3"), (200, None)]
        async with person.get("/_fake/requests") as answer:
            assert await answer.json() == {"requests": {"GET /api/sessions": 3, "GET /health": 3}}


@pytest.mark.parametrize(
    "said", ['{"kind": "tantrum"}', '{"kind": "status", "status": 99}', '{"kind": "hang", "forever": true}', "[]", "not json", "{}"]
)
async def test_a_trouble_that_it_does_not_understand_is_refused_with_its_faults(said: str) -> None:
    async with fake_gateway(Plan(gateway="waha")) as fake, told(fake) as person, person.post("/_fake/trouble", data=said) as answer:
        assert answer.status == 400
        assert (await answer.json())["faults"]


async def test_a_person_may_see_pair_push_and_take_troubles_back() -> None:
    async with a_door() as door, fake_gateway(Plan(gateway="waha")) as fake, told(fake) as person:
        await a_made_instance(fake, Push(url=door.url, secret=SECRET))
        async with person.post("/_fake/pair", json={"instance": NAME, "phone": "5511900000001"}) as answer:
            assert (answer.status, await answer.json()) == (200, {"instance": NAME, "state": "open"})
        async with person.post("/_fake/push", json={"instance": NAME, "count": 3}) as answer:
            assert await answer.json() == {"202": 3}
        async with person.get("/_fake/instances") as answer:
            shown = await answer.json()
            assert shown == {"instances": [{"name": NAME, "state": "open", "paired": True, "pushes": True}]}
        for path in ("/_fake/pair", "/_fake/push"):
            async with person.post(path, json={"instance": "nobody"}) as answer:
                assert answer.status == 404
        fake.trouble("*", "status", times=None)
        async with person.delete("/_fake/trouble") as answer:
            assert answer.status == 204
        async with person.get("/ping") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "said", "status", "fault"),
    [
        ("pair", {"instance": NAME, "telephone": "1"}, 400, "telephone: allowed: instance, phone"),
        ("push", {"instance": NAME, "number": 3}, 400, "number: allowed: instance, count"),
        ("push", {"instance": NAME, "count": "3"}, 400, "count: allowed: a number from 1"),
        ("emit", {"instance": NAME, "count": 0}, 400, "count: allowed: a number from 1"),
        ("streams", {"instance": NAME, "what": "drop"}, 400, "what: allowed: instance, do, code"),
        ("streams", {"instance": "nobody", "do": "drop"}, 404, f"instance: none of ['{NAME}']"),
    ],
)
async def test_what_a_person_mistypes_is_told(path: str, said: dict[str, object], status: int, fault: str) -> None:
    async with a_door() as door, fake_gateway(Plan(gateway="waha")) as fake, told(fake) as person:
        await a_made_instance(fake, Push(url=door.url, secret=SECRET))
        async with person.post(f"/_fake/{path}", json=said) as answer:
            assert (answer.status, await answer.json()) == (status, {"faults": [fault]})
        assert door.pushed == []


async def test_a_push_of_an_instance_that_was_told_no_address_says_so() -> None:
    async with fake_gateway(Plan(gateway="waha")) as fake, told(fake) as person:
        fake.instances.make(NAME)
        async with person.post("/_fake/push", json={"instance": NAME}) as answer:
            assert answer.status == 409
            [fault] = (await answer.json())["faults"]
        assert fault.startswith("instance: was told no address to push to; ")


@pytest.mark.parametrize("gateway", FAKES)
async def test_no_repr_of_a_fake_tells_a_secret(gateway: str) -> None:
    async with fake_gateway(Plan(gateway=gateway, push_url="http://u:p@x/y", push_secret=SECRET)) as fake:
        await a_made_instance(fake, Push(url="http://u:p@x/y", secret=SECRET))
        fake.pair(NAME, "5511900000001")
        shown = f"{fake!r} {fake.plan!r} {fake.instances!r}"
        for secret in (SECRET, fake.api_key, "u:p@", "5511900000001"):
            assert secret not in shown
