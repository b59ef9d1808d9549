"""What every transport does, over real sockets and in its twin; and what only sockets can show of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from tests.conftest import ASYNCIO, CHAOS, UVLOOP, VIRTUAL
from tests.contract import hostile_endpoint as hostile
from tests.contract.transport_worlds import ON_LOOPBACK, NamesOfTests, Script, Sockets, World
from worker.adapters.http import BODY_GRACE_S, AiohttpTransport
from worker.domain.deadline import Deadline
from worker.event_integration.transport import Answer, Cause, Failure, Request, Stage

pytestmark = pytest.mark.anyio

HEADERS = {"content-type": "application/json", "x-delivery-attempt": "1"}
BODY = b'{"schema":1}'
LARGE = b"x" * 16_000_000
SHORT_S = 0.2


def within(seconds: float) -> Deadline:
    return Deadline(name="webhook_attempt", at_s=anyio.current_time() + seconds)


def to(url: str, body: bytes = BODY) -> Request:
    return Request(url=url, headers=HEADERS, body=body)


KINDS = {"sockets-asyncio": ASYNCIO, "sockets-uvloop": UVLOOP, "twin": VIRTUAL}
SOCKET_KINDS = ["sockets-asyncio", "sockets-uvloop"]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    return KINDS[kind]


@pytest.fixture
async def world(kind: str) -> AsyncIterator[World]:
    if kind == "twin":
        yield Script()
        return
    async with AsyncExitStack() as stack:
        sockets = Sockets(stack)
        stack.push_async_callback(sockets.transport.close)
        yield sockets


# -- every transport ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 301, 500])
async def test_any_status_line_is_an_answer_and_says_how_long_it_took(world: World, status: int) -> None:
    answer = await world.transport.deliver(to(await world.url(str(status))), within(5))
    assert isinstance(answer, Answer)
    assert (answer.status, answer.retry_after) == (status, None)
    assert answer.phases_s[Stage.FIRST_BYTE] >= 0


async def test_retry_after_is_passed_on_as_it_came(world: World) -> None:
    answer = await world.transport.deliver(to(await world.url("429")), within(5))
    assert isinstance(answer, Answer)
    assert (answer.status, answer.retry_after) == (429, "17")


@pytest.mark.parametrize("behaviour", ["200", "301", "500", "reset in the header", "request that is not answered"])
async def test_whatever_comes_back_the_request_is_sent_once(world: World, behaviour: str) -> None:
    url = await world.url(behaviour)
    await world.transport.deliver(to(url), within(SHORT_S))
    assert world.received(url) == 1


@pytest.mark.parametrize(
    ("behaviour", "stage", "cause"),
    [
        ("refused", Stage.CONNECT, Cause.REFUSED),
        ("name that does not exist", Stage.DNS, Cause.DNS),
        ("reset in the header", Stage.FIRST_BYTE, Cause.RESET),
    ],
)
async def test_a_failure_names_its_stage_and_cause(world: World, behaviour: str, stage: Stage, cause: Cause) -> None:
    failure = await world.transport.deliver(to(await world.url(behaviour)), within(5))
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (stage, cause)
    assert stage in failure.phases_s


HANGS = [
    ("name server that is silent", Stage.DNS),
    ("backlog that is full", Stage.CONNECT),
    ("hello that is not answered", Stage.TLS),
    ("body that is not read", Stage.SEND),
    ("request that is not answered", Stage.FIRST_BYTE),
]


@pytest.mark.parametrize(("behaviour", "stage"), HANGS)
async def test_an_endpoint_that_hangs_is_left_at_the_deadline_with_the_stage_named(world: World, behaviour: str, stage: Stage) -> None:
    url = await world.url(behaviour)
    deadline = within(SHORT_S)
    failure = await world.transport.deliver(to(url, LARGE if stage is Stage.SEND else BODY), deadline)
    late_s = anyio.current_time() - deadline.at_s
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (stage, Cause.TIMEOUT)
    assert failure.detail == "webhook_attempt passed"
    # How late is for `make chaos`, on a machine of its own; here it only must not be early, nor another timer's.
    assert -0.01 <= late_s < (0.05 if CHAOS else 5)


async def test_a_deadline_that_has_passed_sends_nothing(world: World) -> None:
    url = await world.url("200")
    failure = await world.transport.deliver(to(url), within(0))
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (Stage.QUEUE, Cause.TIMEOUT)
    assert world.received(url) == 0


async def test_cancelling_from_outside_is_raised_not_answered(world: World) -> None:
    url = await world.url("request that is not answered")
    results: list[Answer | Failure] = []

    async def attempt() -> None:
        results.append(await world.transport.deliver(to(url), within(60)))

    async with anyio.create_task_group() as group:
        group.start_soon(attempt)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert results == []


async def test_an_attempt_leaves_its_task_as_it_found_it(world: World) -> None:
    """A deadline cancels the task; were that not taken back, the caller's next await would be cancelled instead."""
    task = asyncio.current_task()
    assert task is not None
    await world.transport.deliver(to(await world.url("request that is not answered")), within(SHORT_S))
    assert task.cancelling() == 0
    answer = await world.transport.deliver(to(await world.url("200")), within(5))
    assert isinstance(answer, Answer)


async def test_attempts_that_hang_hold_back_no_other(world: World) -> None:
    hangs, answers = await world.url("request that is not answered"), await world.url("200")
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(world.transport.deliver, to(hangs), within(60))
        await anyio.wait_all_tasks_blocked()
        answer = await world.transport.deliver(to(answers), within(10))
        group.cancel_scope.cancel()
    assert isinstance(answer, Answer)


async def test_closing_twice_is_closing_once_and_what_comes_later_fails(world: World) -> None:
    url = await world.url("200")
    await world.transport.close()
    await world.transport.close()
    assert isinstance(await world.transport.deliver(to(url), within(1)), Failure)


# -- what only sockets show --------------------------------------------------------------------------------------------


@pytest.fixture
async def sockets(world: World) -> Sockets:
    assert isinstance(world, Sockets)
    return world


only_sockets = pytest.mark.parametrize("kind", SOCKET_KINDS, indirect=True)


@only_sockets
async def test_the_endpoint_gets_headers_and_body_as_they_are_and_nothing_of_the_library(sockets: Sockets) -> None:
    url = await sockets.url("200")
    await sockets.transport.deliver(to(url), within(5))
    [heard] = sockets.endpoint(url).heard
    assert heard.request_line == b"POST /hook HTTP/1.1"
    assert heard.body == BODY
    assert heard.headers.items() >= HEADERS.items()
    assert heard.headers.keys() - HEADERS.keys() == {"host", "content-length", "user-agent"}


@only_sockets
@pytest.mark.parametrize(
    "response",
    [
        hostile.OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + hostile.OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + hostile.OK,
    ],
    ids=["length", "204", "chunked", "after 100", "after 103"],
)
async def test_a_connection_whose_body_ended_is_used_again(sockets: Sockets, response: bytes) -> None:
    url = await sockets.meets(hostile.answering(response))
    for _ in range(3):
        answer = await sockets.transport.deliver(to(url), within(5))
        assert isinstance(answer, Answer)
        assert answer.status in {200, 204}
    assert sockets.endpoint(url).connections == 1
    assert answer.phases_s.keys() == {Stage.FIRST_BYTE}


@only_sockets
@pytest.mark.parametrize("behaviour", [hostile.endless, hostile.dripping])
async def test_a_body_that_does_not_end_is_delivered_at_the_status_line_and_then_cut(
    sockets: Sockets, behaviour: hostile.Behaviour
) -> None:
    url = await sockets.meets(behaviour)
    began_s = anyio.current_time()
    answer = await sockets.transport.deliver(to(url), within(60))
    assert isinstance(answer, Answer)
    assert anyio.current_time() - began_s < BODY_GRACE_S
    with anyio.fail_after(BODY_GRACE_S + 5):
        await sockets.endpoint(url).closed.wait()
    assert sockets.transport.statistics() == {"under_way": 0, "drains": 0}


@only_sockets
@pytest.mark.parametrize(
    "response",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n"],
    ids=["another protocol", "huge header", "status that is no number"],
)
async def test_what_is_not_http_is_a_protocol_failure(sockets: Sockets, response: bytes) -> None:
    failure = await sockets.transport.deliver(to(await sockets.meets(hostile.answering_once(response))), within(5))
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (Stage.FIRST_BYTE, Cause.PROTOCOL)


@only_sockets
async def test_a_reused_connection_that_breaks_is_a_reset_and_not_tried_again(sockets: Sockets) -> None:
    url = await sockets.meets(hostile.closing_when_idle)
    await sockets.transport.deliver(to(url), within(5))
    failure = await sockets.transport.deliver(to(url), within(5))
    assert isinstance(failure, Failure)
    assert failure.cause is Cause.RESET
    assert sockets.endpoint(url).connections == 1
    assert sockets.received(url) == 2


@only_sockets
async def test_tls_is_verified_and_timed(sockets: Sockets) -> None:
    url = await sockets.meets(hostile.answering(hostile.OK), tls=True)
    answer = await sockets.transport.deliver(to(url), within(5))
    assert isinstance(answer, Answer)
    assert answer.phases_s.keys() == {Stage.DNS, Stage.CONNECT, Stage.TLS, Stage.FIRST_BYTE}
    suspicious = AiohttpTransport(ON_LOOPBACK, resolver=NamesOfTests())
    failure = await suspicious.deliver(to(url), within(5))
    await suspicious.close()
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (Stage.TLS, Cause.TLS)
    assert "self" in failure.detail


@only_sockets
async def test_a_certificate_for_another_name_is_refused_without_saying_the_name(sockets: Sockets) -> None:
    url = await sockets.meets(hostile.answering(hostile.OK), tls=True)
    failure = await sockets.transport.deliver(to(url.replace("127.0.0.1", "alias.test")), within(5))
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.cause) == (Stage.TLS, Cause.TLS)
    assert failure.detail == "Hostname mismatch"


@only_sockets
@pytest.mark.parametrize("url", ["ftp://example.com/", "http://", "not a url", "http://[::1", "http://127.0.0.1:99999/"])
async def test_a_url_that_cannot_be_posted_to_is_said_to_be_one(sockets: Sockets, url: str) -> None:
    failure = await sockets.transport.deliver(to(url), within(5))
    assert isinstance(failure, Failure)
    assert failure.cause is Cause.FORBIDDEN
    assert url not in failure.detail


@only_sockets
async def test_cancelling_closes_the_connection(sockets: Sockets) -> None:
    url = await sockets.url("request that is not answered")
    async with anyio.create_task_group() as group:
        group.start_soon(sockets.transport.deliver, to(url), within(60))
        await _until(lambda: sockets.received(url) == 1)
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        await sockets.endpoint(url).closed.wait()


@only_sockets
async def test_closing_ends_what_is_under_way_and_what_drains(sockets: Sockets) -> None:
    hangs, drips = await sockets.url("request that is not answered"), await sockets.meets(hostile.dripping)
    assert isinstance(await sockets.transport.deliver(to(drips), within(5)), Answer)
    results: list[Answer | Failure] = []

    async def attempt() -> None:
        results.append(await sockets.transport.deliver(to(hangs), within(60)))

    async with anyio.create_task_group() as group:
        group.start_soon(attempt)
        await _until(lambda: sockets.received(hangs) == 1)
        with anyio.fail_after(5):
            await sockets.transport.close()
    [result] = results
    assert isinstance(result, Failure)
    with anyio.fail_after(20):
        await sockets.endpoint(drips).closed.wait()


async def _until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not is_so():
            await anyio.wait_all_tasks_blocked()
