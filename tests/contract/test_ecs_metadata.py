"""The question to the ECS task metadata endpoint: what comes back, and that nothing which does not come back is fatal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.contract.serving import serving
from worker.adapters.ecs import MAX_ANSWER_BYTES, EcsMetadata

pytestmark = pytest.mark.anyio

ARN = "arn:aws:ecs:sa-east-1:111122223333:task/default/158d1c80"


def answer(desired: str = "RUNNING") -> dict[str, object]:
    drift = {"ClockErrorBound": 2.5}
    return {"TaskARN": ARN, "Family": "worker", "Revision": "26", "DesiredStatus": desired, "ClockDrift": drift}


async def test_the_task_is_asked_for_beside_the_uri_and_remembered() -> None:
    asked: list[str] = []

    async def agent(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response(answer())

    async with serving(agent) as url:
        metadata = EcsMetadata(f"{url}/v4/abc")
        task = await metadata.look()
    assert asked == ["/v4/abc/task"]
    assert task is not None
    assert (task.arn, task.family, task.revision) == (ARN, "worker", 26)
    assert metadata.task == task
    assert metadata.clock_error() == {(): 0.0025}


@pytest.mark.parametrize(("desired", "told"), [("RUNNING", False), ("STOPPED", True), ("PENDING", None), ("", None)])
async def test_it_says_whether_ecs_wants_the_task_stopped(desired: str, told: bool | None) -> None:
    async def agent(_request: web.Request) -> web.Response:
        return web.json_response(answer(desired))

    async with serving(agent) as url:
        assert await EcsMetadata(url).is_told_to_stop() is told


async def test_elsewhere_nobody_is_asked_and_nothing_is_said() -> None:
    with capture_logs() as lines:
        metadata = EcsMetadata(None)
        assert await metadata.look() is None
        assert await metadata.is_told_to_stop() is None
        assert metadata.clock_error() == {}
    assert lines == []


async def hangs(_request: web.Request) -> web.Response:
    await anyio.sleep_forever()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse()
    await stream.prepare(request)
    await stream.write(b"{")
    await anyio.sleep_forever()
    return stream


async def fails(_request: web.Request) -> web.Response:
    return web.json_response(answer(), status=500)


async def moves(_request: web.Request) -> web.Response:
    raise web.HTTPFound("http://127.0.0.1:1/elsewhere")


async def breaks_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def says_nothing_readable(_request: web.Request) -> web.Response:
    return web.Response(body=b'{"TaskARN": "')


async def names_nobody(_request: web.Request) -> web.Response:
    return web.json_response(answer() | {"Revision": []})


async def never_ends(_request: web.Request) -> web.Response:
    return web.Response(body=b"[" * (MAX_ANSWER_BYTES + 1))


async def is_nested_deeply(_request: web.Request) -> web.Response:
    return web.Response(body=b"[" * 100_000)


Trouble = Callable[[web.Request], Awaitable[web.StreamResponse]]
TROUBLES: dict[Trouble, str] = {
    hangs: "no answer within 0.3 s",
    drips: "no answer within 0.3 s",
    fails: "it answered 500",
    moves: "it answered 302",
    breaks_off: "Server disconnected",
    says_nothing_readable: "the answer is no JSON",
    names_nobody: "Revision missing or of another type than documented",
    never_ends: f"the answer is larger than {MAX_ANSWER_BYTES} bytes",
    is_nested_deeply: "the answer is no JSON",
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_trouble_is_one_log_line_with_its_cause_and_nothing_more(trouble: Trouble) -> None:
    async with serving(trouble) as url:
        metadata = EcsMetadata(url)
        with capture_logs() as lines:
            assert await metadata.look(within_s=30 if trouble not in {hangs, drips} else 0.3) is None
    assert [line["event"] for line in lines] == ["ecs_metadata_unknown"]
    assert lines[0]["cause"] == TROUBLES[trouble]
    assert metadata.task is None


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/v4", "", "no address", "http://", "ftp://127.0.0.1/", "http://[::1"])
async def test_an_address_at_which_nobody_is_costs_one_log_line(uri: str) -> None:
    with capture_logs() as lines:
        assert await EcsMetadata(uri).look() is None
    assert [line["event"] for line in lines] == ["ecs_metadata_unknown"]
    assert lines[0]["cause"]


async def test_trouble_later_leaves_what_was_told_before() -> None:
    answers = [web.json_response(answer()), web.Response(status=500)]

    async def agent(_request: web.Request) -> web.Response:
        return answers.pop(0)

    async with serving(agent) as url:
        metadata = EcsMetadata(url)
        first = await metadata.look()
        assert await metadata.is_told_to_stop() is None
    assert metadata.task == first
