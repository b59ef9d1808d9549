"""What every endpoint of the API can rely on, over a real socket: paths, methods, request ids, errors."""

from __future__ import annotations

import anyio
import pytest
import structlog

from tests.conftest import UVLOOP
from tests.e2e.api_offer import SECRET, offer
from tests.e2e.api_world import ACME_KEY, ADMIN_KEY, OTHER_KEY, api
from worker.api import frame as frame_module
from worker.api.authentication import key_sha256

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing", "/api/", "/api/things/", "/api//things", "/api/things/a/b", "/api/things/%2e%2e",
        "/api/things/..%2fx", "/api/things/a%00",
        "/api/things/%ff", "/api/things/a%0a", "/api/things/" + "x" * 65, "/api/things/-a", "/api/things/%E2%82%AC", "/api/Things",
    ],
)  # fmt: skip
async def test_what_is_no_path_and_what_can_be_no_id_is_not_found(anyio_backend: object, path: str) -> None:
    from yarl import URL

    async with api(offer) as it:
        headers = {"authorization": f"Bearer {ACME_KEY}"}
        async with it.client.get(URL(f"http://127.0.0.1:{it.port}{path}", encoded=True), headers=headers) as answer:
            body = await answer.json()
    assert (answer.status, body["error"]["code"]) == (404, "NOT_FOUND")


async def test_a_path_said_literally_comes_before_one_with_a_parameter(anyio_backend: object) -> None:
    async with api(offer) as it:
        assert (await it.ask("POST", "/api/things/all")).body["data"]["path"] == {}
        answer = await it.ask("GET", "/api/things/all")
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_other_methods_are_told_which_there_are(anyio_backend: object) -> None:
    async with api(offer) as it:
        for method in ("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
            answer = await it.ask(method, "/api/things", key=None)
            assert (answer.status, answer.code, answer.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "GET, HEAD, OPTIONS, POST")
        answer = await it.ask("OPTIONS", "/api/things", key=None)
        assert (answer.status, answer.body, answer.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
        assert "access-control-allow-origin" not in answer.headers
        assert (await it.ask("OPTIONS", "/api/nothing", key=None)).status == 404


async def test_head_answers_as_get_without_its_body(anyio_backend: object) -> None:
    async with api(offer) as it:
        full, head = await it.ask("GET", "/api/things"), await it.ask("HEAD", "/api/things")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == full.headers["content-length"]
        assert (await it.ask("HEAD", "/api/things", key=None)).status == 401


async def test_every_answer_has_its_request_id_and_a_sane_one_is_taken_over(anyio_backend: object) -> None:
    async with api(offer) as it:
        asks = [
            ("GET", "/api/things", 200),
            ("GET", "/api/nothing", 404),
            ("PUT", "/api/things", 405),
            ("GET", "/api/bug", 500),
            ("OPTIONS", "/api/things", 204),
            ("GET", "/docs", 200),
        ]
        for method, path, status in asks:
            answer = await it.ask(method, path, x_request_id="call-0815.x")
            assert (answer.status, answer.headers["x-request-id"]) == (status, "call-0815.x")
            if status >= 400:
                assert answer.body["error"]["requestId"] == "call-0815.x"
        for not_sane in ("short", "x" * 65, "with space", "-dash-first", "quote'quote"):
            assert (await it.ask("GET", "/api/things", x_request_id=not_sane)).headers["x-request-id"] != not_sane
        ids = {(await it.ask("GET", "/api/things")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_every_log_line_of_a_call_says_who_for_whom_and_under_which_id(anyio_backend: object) -> None:
    seen = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, seen], cache_logger_on_first_use=False)
    try:
        async with api(offer) as it:
            await it.ask("GET", "/api/things", x_request_id="first-call")
            await it.ask("GET", "/api/operation", key=ADMIN_KEY, x_request_id="other-call")
            await it.ask("GET", "/api/bug", x_request_id="third-call")
    finally:
        structlog.configure(**before)
    told = [(line["event"], line["request_id"], line["actor"], line["tenant"]) for line in seen.entries]
    actor = f"key:{key_sha256(ACME_KEY)[:8]}"
    assert told == [
        ("handled", "first-call", actor, "acme"),
        ("handled", "other-call", "admin", None),
        ("request_failed", "third-call", actor, "acme"),
    ]
    assert SECRET not in str(seen.entries)


@pytest.mark.parametrize(
    ("path", "status", "code", "retry_after"),
    [
        ("/api/away", 503, "STORE_UNAVAILABLE", "2"),
        ("/api/full", 503, "STORE_FULL", "10"),
        ("/api/bug", 500, "INTERNAL_ERROR", None),
        ("/api/told", 409, "TAKEN", "2"),
        ("/api/slow", 503, "DEADLINE_EXCEEDED", "1"),
    ],
)
async def test_what_goes_wrong_inside_has_its_code(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, path: str, status: int, code: str, retry_after: str | None
) -> None:
    monkeypatch.setattr(frame_module, "CALL_S", 0.2)
    async with api(offer) as it:
        answer = await it.ask("GET", path)
    assert (answer.status, answer.code, answer.headers.get("retry-after")) == (status, code, retry_after)
    assert SECRET not in str(answer.body)


async def test_before_the_store_is_open_every_path_says_that_it_starts(anyio_backend: object) -> None:
    async with api(offer, is_open=False) as it:
        for path in ("/api/things", "/api/nothing", "/openapi.json", "/docs"):
            answer = await it.ask("GET", path, key=None)
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "STARTING", "1")


async def test_once_the_door_is_shut_another_worker_is_to_answer(anyio_backend: object) -> None:
    shut: list[bool] = []
    async with api(offer, is_shut=lambda: bool(shut)) as it:
        assert (await it.ask("GET", "/api/things")).status == 200
        shut.append(True)
        answer = await it.ask("GET", "/api/things")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "DRAINING", "1")


async def test_one_tenants_slow_calls_leave_room_for_the_others(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "MAX_CALLS_PER_TENANT", 3)
    async with api(offer) as it, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(it.ask, "GET", "/api/slow")
        while (answer := await it.ask("GET", "/api/things")).status == 200:
            pass
        assert (answer.status, answer.code) == (503, "TOO_MANY_CALLS")
        assert (await it.ask("GET", "/api/things", key=OTHER_KEY)).status == 200
        group.cancel_scope.cancel()
