"""What a broker does wrong, for each gateway and call: the cause, whether it may have been done, the time it took."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter

import anyio
import pytest

from tests.conftest import scaled
from tests.contract.broker_worlds import (
    CHANGES,
    KEY,
    NAME,
    NEW,
    OPERATIONS,
    PATIENCE_S,
    PUSH,
    READS,
    SHORT_S,
    World,
    elsewhere,
)
from worker.adapters.brokers import open_broker
from worker.adapters.brokers.client import MAX_CONNECTIONS
from worker.fake_gateway.server import GATEWAYS, Plan, fake_gateway
from worker.instances.broker import AlreadyExists, BrokerCause, BrokerConfig, BrokerFailure, InstanceStatus, NoSuchInstance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=GATEWAYS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with fake_gateway(Plan(gateway=request.param, api_key=KEY)) as fake:
        config = BrokerConfig(id="main", gateway=fake.gateway, url=fake.url, api_key=fake.api_key, timeout_s=PATIENCE_S)
        broker = open_broker(config)
        await broker.create(NAME, PUSH)
        fake.pair(NAME)
        fake.requests.clear()
        yield World(fake, broker)
        await broker.close()


# ─── on the way ───


def patience_s(kind: str) -> float:
    return SHORT_S if kind == "hang" else PATIENCE_S


ON_THE_WAY = {
    "hang": BrokerCause.TIMEOUT,
    "reset": BrokerCause.CONNECT,
    "lose_answer": BrokerCause.CONNECT,
    "cut": BrokerCause.PROTOCOL,
    "endless": BrokerCause.PROTOCOL,
}


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("kind", ON_THE_WAY)
async def test_a_question_that_is_not_answered_has_a_cause(world: World, kind: str, operation: str) -> None:
    if kind == "cut" and operation == "qr":
        world.fake.instances[NAME].unpair()  # one that is connected has nothing to break off
    world.fake.trouble("*", kind, times=None)
    failure = await world.failure_of(operation, patience_s(kind))
    assert failure.cause is ON_THE_WAY[kind]
    assert failure.is_certain, "a question changes nothing"


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("kind", ON_THE_WAY)
async def test_a_change_that_is_not_answered_may_have_been_made(world: World, kind: str, operation: str) -> None:
    for method in ("POST", "DELETE"):
        world.fake.trouble(f"{method} *", kind, times=None)
    failure = await world.failure_of(operation, patience_s(kind))
    assert failure.cause is ON_THE_WAY[kind]
    assert not failure.is_certain


async def test_a_change_whose_second_step_is_refused_may_have_been_made() -> None:
    """A user is made and then started: what fails between has left a user."""
    async with fake_gateway(Plan(gateway="wuzapi", api_key=KEY)) as fake:
        broker = open_broker(elsewhere(fake.url, "wuzapi"))
        fake.trouble("POST /session/connect", "status", status=429)
        with pytest.raises(BrokerFailure) as caught:
            await broker.create(NEW, PUSH)
        assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.RATE_LIMITED, False)
        with pytest.raises(AlreadyExists):
            await broker.create(NEW, PUSH)
        assert (await broker.status(NEW)).status is InstanceStatus.QR_REQUIRED, "the second call has started what the first one made"
        await broker.close()


async def test_a_create_whose_answer_is_lost_is_found_by_the_next_one(world: World) -> None:
    world.fake.trouble("POST *", "lose_answer")
    failure = await world.failure_of("create")
    assert not failure.is_certain
    with pytest.raises(AlreadyExists):
        await world.broker.create(NEW, PUSH)
    assert sorted(world.fake.instances) == sorted([NAME, NEW])
    assert (await world.broker.status(NEW)).name == NEW


async def test_a_slow_answer_within_the_time_is_an_answer(world: World) -> None:
    world.fake.trouble("*", "slow", seconds=0.1)
    assert (await world.broker.status(NAME)).name == NAME


async def test_the_time_is_for_the_whole_call_and_not_for_each_of_its_requests(world: World) -> None:
    """The first of two requests is slow and in time; the second never answers."""
    world.fake.instances[NAME].unpair()
    world.fake.trouble("*", "slow", seconds=3 * SHORT_S)
    hung = world.fake.trouble("*", "hang", times=None)
    operation = {"baileys": "qr", "evolution": "picture", "waha": "qr", "wuzapi": "create"}[world.fake.gateway]
    began_s = perf_counter()
    failure = await world.failure_of(operation, 4 * SHORT_S)
    assert (failure.cause, hung.seen) == (BrokerCause.TIMEOUT, 1)
    assert failure.response_time_ms <= (perf_counter() - began_s - 3 * SHORT_S) * 1000 + 1, "it is the time of the last request alone"


async def test_a_caller_may_have_less_patience_than_the_configuration(world: World) -> None:
    world.fake.trouble("*", "hang", times=None)
    failure = await world.failure_of("instances", 0.05)
    assert failure.cause is BrokerCause.TIMEOUT
    assert failure.response_time_ms >= 49
    assert "took too long to answer" in str(failure)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_nothing_is_asked_twice_behind_the_callers_back(world: World, operation: str) -> None:
    await world.broker.health()  # there is a connection to be used again
    world.fake.requests.clear()
    world.fake.trouble("*", "reset", times=None)
    await world.failure_of(operation)
    assert world.fake.requests.total() == 1


async def test_a_call_that_is_given_up_leaves_the_broker_usable(world: World) -> None:
    hung = world.fake.trouble("*", "hang", times=None)
    with anyio.move_on_after(0.05):
        await world.broker.status(NAME, timeout_s=60)
    assert hung.seen == 1
    world.fake.clear()
    assert (await world.broker.status(NAME)).name == NAME


async def test_a_broker_that_hangs_is_given_a_bounded_number_of_connections(world: World) -> None:
    hung = world.fake.trouble("*", "hang", times=None)
    async with anyio.create_task_group() as tasks:
        for _ in range(scaled(2, 20) * MAX_CONNECTIONS):
            tasks.start_soon(world.broker.instances)
        while hung.seen < MAX_CONNECTIONS:
            await anyio.lowlevel.checkpoint()
        await world.failure_of("health", SHORT_S)  # finds none that is free
        assert hung.seen == MAX_CONNECTIONS
        tasks.cancel_scope.cancel()


# ─── refusals ───

REFUSALS = {
    302: BrokerCause.PROTOCOL,
    400: BrokerCause.UNKNOWN,
    401: BrokerCause.AUTH,
    402: BrokerCause.QUOTA,
    403: BrokerCause.AUTH,
    418: BrokerCause.UNKNOWN,
    422: BrokerCause.UNKNOWN,
    429: BrokerCause.RATE_LIMITED,
    500: BrokerCause.SERVICE_UNAVAILABLE,
    502: BrokerCause.SERVICE_UNAVAILABLE,
    503: BrokerCause.SERVICE_UNAVAILABLE,
    504: BrokerCause.SERVICE_UNAVAILABLE,
}


@pytest.mark.parametrize("operation", ["instances", "status", "create", "delete"])
@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_keeps_its_status_and_has_a_cause(world: World, status: int, operation: str) -> None:
    world.fake.trouble("*", "status", status=status, times=None, headers={"Retry-After": "7", "X-Request-Id": "req-0001"})
    failure = await world.failure_of(operation)
    assert (failure.cause, failure.status) == (REFUSALS[status], status)
    assert (failure.retry_after_s, failure.request_id) == (7.0, "req-0001")
    asks_first = world.fake.gateway == "wuzapi" and operation == "delete"
    assert failure.is_certain is (operation not in CHANGES or status < 500 or asks_first)


@pytest.mark.parametrize("kind", ["garbage", "not found page"])
@pytest.mark.parametrize("operation", ["instances", "status", "create", "health"])
async def test_something_else_under_its_address_is_no_broker(world: World, kind: str, operation: str) -> None:
    if kind == "garbage":
        world.fake.trouble("*", "garbage", times=None)
    else:
        world.fake.trouble("*", "status", status=404, body="<html><body>nginx</body></html>", times=None)
    failure = await world.failure_of(operation)
    assert failure.cause is BrokerCause.PROTOCOL
    assert "check that its url and its gateway belong together" in str(failure)


STRANGE = ["<html><body>It works!</body></html>", "{}", '["ok"]', "null", '"ok"', '{"status": "ok"}', '{"success": true}x']
"""What a proxy, or another program, says with a 200."""


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("said", STRANGE)
async def test_a_success_in_somebody_elses_words_is_none(world: World, said: str, operation: str) -> None:
    before = list(world.fake.instances)
    world.fake.trouble("*", "garbage", body=said, times=None)
    failure = await world.failure_of(operation)
    asks_first = world.fake.gateway == "wuzapi" and operation == "delete"
    assert (failure.cause, failure.status, failure.is_certain) == (BrokerCause.PROTOCOL, 200, asks_first)
    assert list(world.fake.instances) == before


STEPS = {
    "waha": {"create": ["POST *"], "disconnect": ["POST *"], "delete": ["DELETE *"]},
    "evolution": {"create": ["POST *"], "disconnect": ["DELETE *"], "delete": ["DELETE *"]},
    "wuzapi": {
        "create": ["POST /admin/users", "POST /session/connect"],
        "disconnect": ["POST *"],
        "delete": ["POST /session/logout", "DELETE *"],
    },
    "baileys": {"create": ["POST *"], "disconnect": ["POST *", "POST */session/wipe"], "delete": ["DELETE *"]},
}
"""The requests of each change that change something."""


@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize("said", STRANGE[:2])
async def test_no_step_of_a_change_is_done_in_somebody_elses_words(world: World, said: str, operation: str) -> None:
    for step in STEPS[world.fake.gateway][operation]:
        world.fake.clear()
        if "wipe" in step:
            world.fake.lose(NAME)
        strange = world.fake.trouble(step, "garbage", body=said, times=None)
        failure = await world.failure_of(operation)
        assert (failure.cause, failure.is_certain, strange.seen) == (BrokerCause.PROTOCOL, False, 1)
        assert NAME in world.fake.instances
        world.fake.instances.pop(NEW, None)


@pytest.mark.parametrize("operation", CHANGES)
async def test_only_waha_that_deleted_says_nothing(world: World, operation: str) -> None:
    for method in ("POST", "DELETE"):
        world.fake.trouble(f"{method} *", "garbage", body="", times=None)
    if (world.fake.gateway, operation) == ("waha", "delete"):
        await world.broker.delete(NAME)
    else:
        failure = await world.failure_of(operation)
        assert (failure.cause, failure.is_certain) == (BrokerCause.PROTOCOL, False)


async def test_a_proxys_404_is_no_word_about_an_instance(world: World) -> None:
    world.fake.trouble("*", "status", status=404, body="<html><body>nginx</body></html>", times=None)
    for operation in ("delete", "status", "disconnect"):
        assert (await world.failure_of(operation)).cause is BrokerCause.PROTOCOL


async def test_its_own_404_says_that_there_is_no_such_instance(world: World) -> None:
    if world.fake.gateway == "wuzapi":
        world.fake.instances.clear()  # it has no 404 for that: its admin's list does not name it
    else:
        world.fake.trouble("*", "status", status=404, times=None)
    with pytest.raises(NoSuchInstance):
        await world.broker.status(NAME)
    await world.broker.delete(NAME)


async def test_a_wrong_key_is_named_and_nothing_happens(world: World) -> None:
    config = BrokerConfig(id="main", gateway=world.fake.gateway, url=world.fake.url, api_key="another-key", timeout_s=5)
    broker = open_broker(config)
    for operation in ("instances", "create"):
        with pytest.raises(BrokerFailure) as caught:
            await OPERATIONS[operation](broker, PATIENCE_S)
        assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.AUTH, True)
        assert "check its api_key" in str(caught.value)
    assert list(world.fake.instances) == [NAME]
    await broker.close()


@pytest.mark.parametrize(
    "body", [f'{{"error": "{KEY}"}}', f'{{"code": "bad {KEY}"}}', '{"error": "call 5511900000001"}', '{"error": "http://x"}']
)
async def test_a_refusal_that_quotes_what_nobody_may_read_passes_no_code_on(world: World, body: str) -> None:
    world.fake.trouble("*", "status", status=400, body=body)
    assert (await world.failure_of("instances")).broker_code is None


async def test_a_redirect_is_not_followed(world: World) -> None:
    world.fake.trouble("*", "status", status=307, headers={"Location": f"{world.fake.url}/elsewhere"}, times=None)
    assert (await world.failure_of("instances")).cause is BrokerCause.PROTOCOL
    assert world.fake.requests.total() == 1
