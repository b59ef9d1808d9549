"""The port of brokers, each adapter against its fake gateway over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.conftest import UVLOOP
from worker.adapters.brokers import open_broker
from worker.fake_gateway.instances import State
from worker.fake_gateway.server import FakeGateway, Plan, fake_gateway
from worker.instances.broker import (
    AlreadyExists,
    Broker,
    BrokerCause,
    BrokerConfig,
    BrokerFailure,
    InstanceStatus,
    NoSuchInstance,
    NotConnected,
    Push,
)

pytestmark = pytest.mark.anyio

PHONE = "5511900000001"
SECRET = "a-signing-secret-of-32-characters"
NOBODY = "acme-nobody-0000000"


class World(NamedTuple):
    fake: FakeGateway
    broker: Broker


@pytest.fixture(params=["waha", "evolution", "wuzapi", "baileys", "waha (older)", "evolution (older)", "wuzapi (older)"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    gateway, _, edition = request.param.partition(" ")
    async with fake_gateway(Plan(gateway=gateway, is_older=bool(edition))) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway=fake.gateway, url=fake.url, api_key=fake.api_key, timeout_s=5))
        yield World(fake, broker)
        await broker.close()


async def test_a_broker_that_is_well_says_so(world: World) -> None:
    await world.broker.health()


async def test_a_new_instance_is_started_listed_and_waits_for_its_scan(world: World) -> None:
    made = await world.broker.create("acme-sales-1a2b3c4d", None)
    assert made.name == "acme-sales-1a2b3c4d"
    assert made.status in {InstanceStatus.CONNECTING, InstanceStatus.QR_REQUIRED}
    assert [(i.name, i.status) for i in await world.broker.instances()] == [("acme-sales-1a2b3c4d", InstanceStatus.QR_REQUIRED)]
    assert (await world.broker.status("acme-sales-1a2b3c4d")).status is InstanceStatus.QR_REQUIRED


async def test_a_second_create_with_the_name_of_the_first_changes_nothing(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    with pytest.raises(AlreadyExists):
        await world.broker.create("acme-sales-1a2b3c4d", None)
    assert list(world.fake.instances) == ["acme-sales-1a2b3c4d"]


async def test_a_paired_instance_is_connected_and_shows_its_number_as_digits(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    world.fake.pair("acme-sales-1a2b3c4d", PHONE)
    for seen in (await world.broker.status("acme-sales-1a2b3c4d"), *(await world.broker.instances())):
        assert (seen.status, seen.phone_number) == (InstanceStatus.CONNECTED, PHONE)
        assert PHONE not in repr(seen)


async def test_the_code_to_scan_is_there_until_it_has_been_scanned(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    code = await world.broker.qr("acme-sales-1a2b3c4d")
    assert code is not None
    assert code.text == world.fake.instances["acme-sales-1a2b3c4d"].code or (code.png or b"").startswith(b"\x89PNG")
    world.fake.pair("acme-sales-1a2b3c4d", PHONE)
    assert await world.broker.qr("acme-sales-1a2b3c4d") is None


async def test_disconnecting_logs_the_number_out_and_keeps_the_instance_however_often(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    world.fake.pair("acme-sales-1a2b3c4d", PHONE)
    for _ in range(2):
        await world.broker.disconnect("acme-sales-1a2b3c4d")
        assert world.fake.instances["acme-sales-1a2b3c4d"].phone is None
    assert (await world.broker.status("acme-sales-1a2b3c4d")).status is not InstanceStatus.CONNECTED


async def test_asking_for_the_code_after_a_logout_ends_in_a_code(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    world.fake.pair("acme-sales-1a2b3c4d", PHONE)
    await world.broker.disconnect("acme-sales-1a2b3c4d")
    assert await world.broker.qr("acme-sales-1a2b3c4d") or await world.broker.qr("acme-sales-1a2b3c4d")


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
async def test_asking_for_the_code_wakes_an_instance_that_does_not_run(world: World, state: State) -> None:
    if state is State.FAILED and world.fake.gateway in {"evolution", "wuzapi"}:
        state = State.STOPPED  # they have no word for it
    await world.broker.create("acme-sales-1a2b3c4d", None)
    world.fake.instances["acme-sales-1a2b3c4d"].enter(state)
    assert await world.broker.qr("acme-sales-1a2b3c4d") or await world.broker.qr("acme-sales-1a2b3c4d")


async def test_an_instance_that_lost_whatsapp_is_not_connected_but_still_paired(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    world.fake.pair("acme-sales-1a2b3c4d", PHONE)
    world.fake.lose("acme-sales-1a2b3c4d")
    assert (await world.broker.status("acme-sales-1a2b3c4d")).status in {InstanceStatus.CONNECTING, InstanceStatus.DISCONNECTED}
    if world.fake.gateway == "wuzapi":
        with pytest.raises(BrokerFailure) as failure:
            await world.broker.disconnect("acme-sales-1a2b3c4d")
        assert failure.value.broker_code is not None
        assert "was not connected" in failure.value.broker_code, "it cannot, and says so; try again when it is back"
    else:
        await world.broker.disconnect("acme-sales-1a2b3c4d")
        assert world.fake.instances["acme-sales-1a2b3c4d"].phone is None, "else it comes back by itself"


async def test_deleting_is_done_however_often(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    for _ in range(2):
        await world.broker.delete("acme-sales-1a2b3c4d")
    assert not world.fake.instances
    assert await world.broker.instances() == []


async def test_a_name_nobody_has_is_no_instance(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    for call in (world.broker.status, world.broker.qr, world.broker.disconnect):
        with pytest.raises(NoSuchInstance):
            await call(NOBODY)
    with pytest.raises(NoSuchInstance):
        await world.broker.picture(NOBODY, f"{PHONE}@c.us")


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_is_a_direction_is_no_instance(world: World, name: str) -> None:
    for call in (world.broker.status, world.broker.qr, world.broker.disconnect):
        with pytest.raises(NoSuchInstance):
            await call(name)


@pytest.mark.parametrize("name", ["a/b", "a?b=c", "a#b", "a b", "a%2Fb", "ação", "../admin"])
async def test_a_strange_name_never_reaches_another_path(world: World, name: str) -> None:
    with pytest.raises(NoSuchInstance):
        await world.broker.status(name)
    assert not world.fake.instances


async def test_a_contact_has_a_picture_or_none_or_nobody_can_be_asked(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", None)
    with pytest.raises(NotConnected):
        await world.broker.picture("acme-sales-1a2b3c4d", f"{PHONE}@c.us")
    world.fake.pair("acme-sales-1a2b3c4d")
    found = await world.broker.picture("acme-sales-1a2b3c4d", f"{PHONE}@s.whatsapp.net")
    assert found is not None
    assert found.startswith("https://")
    assert PHONE in found
    assert await world.broker.picture("acme-sales-1a2b3c4d", "0000000@c.us") is None


async def test_two_hundred_instances_are_all_listed(world: World) -> None:
    for number in range(200):
        world.fake.instances.make(f"instance-{number}")
    assert {i.name for i in await world.broker.instances()} == set(world.fake.instances)


async def test_closing_twice_is_closing(world: World) -> None:
    await world.broker.health()
    await world.broker.close()
    await world.broker.close()


async def test_where_to_push_and_the_secret_reach_the_gateway(world: World) -> None:
    await world.broker.create("acme-sales-1a2b3c4d", Push(url="http://worker.example.com/ingest/x/y", secret=SECRET))
    made = world.fake.instances["acme-sales-1a2b3c4d"]
    if world.fake.gateway == "baileys":
        assert (made.push_url, made.push_secret) == (None, None), "it pushes where its environment says"
    else:
        assert (made.push_url, made.push_secret) == ("http://worker.example.com/ingest/x/y", SECRET)


@pytest.mark.parametrize("is_older", [False, True])
async def test_waha_is_asked_for_all_that_its_version_knows_to_tell(is_older: bool) -> None:
    """One name that it does not know is a refusal of the whole; one that is not asked for is an event lost."""
    async with fake_gateway(Plan(gateway="waha", is_older=is_older)) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway="waha", url=fake.url, api_key=fake.api_key))
        await broker.create("acme-sales-1a2b3c4d", Push(url="http://worker.example.com/ingest/x/y"))
        asked_for = set(fake.instances["acme-sales-1a2b3c4d"].push_events)
        assert {"message.any", "message.ack", "session.status", "message.waiting"} <= asked_for
        groups = (
            {"group.join", "group.leave"}
            if is_older
            else {"group.v2.participants", "group.v2.update", "message.edited", "message.ack.group"}
        )
        assert groups <= asked_for
        await broker.close()


async def test_of_two_users_of_one_name_wuzapi_shows_ours() -> None:
    """It keeps tokens apart, not names: anybody may make a user named like one of ours."""
    async with fake_gateway(Plan(gateway="wuzapi")) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway="wuzapi", url=fake.url, api_key=fake.api_key))
        for _ in range(2):
            fake.instances.make("acme-sales-1a2b3c4d").token = "a-stranger"
            fake.pair("acme-sales-1a2b3c4d")
            await broker.create("acme-sales-1a2b3c4d", None)
            for seen in (*(await broker.instances()), await broker.status("acme-sales-1a2b3c4d")):
                assert (seen.name, seen.status) == ("acme-sales-1a2b3c4d", InstanceStatus.QR_REQUIRED)
            fake.instances.clear()
        await broker.close()


@pytest.mark.parametrize("anyio_backend", [UVLOOP])
async def test_a_whole_life_on_the_loop_of_production(world: World) -> None:
    name = "acme-sales-1a2b3c4d"
    await world.broker.health()
    await world.broker.create(name, None)
    with pytest.raises(AlreadyExists):
        await world.broker.create(name, None)
    assert await world.broker.qr(name) is not None
    world.fake.pair(name, PHONE)
    assert (await world.broker.status(name)).phone_number == PHONE
    for kind, cause in (("hang", BrokerCause.TIMEOUT), ("reset", BrokerCause.CONNECT), ("cut", BrokerCause.PROTOCOL)):
        world.fake.trouble("*", kind)
        with pytest.raises(BrokerFailure) as caught:
            await world.broker.instances(timeout_s=0.2 if kind == "hang" else 20)
        assert caught.value.cause is cause
    await world.broker.disconnect(name)
    await world.broker.delete(name)
    assert await world.broker.instances() == []
