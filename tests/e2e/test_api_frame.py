"""What every endpoint of the API can rely on, over a real socket: bad input, keys, request ids, methods, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import anyio
import pytest
import structlog
from pydantic import Field

from tests.conftest import UVLOOP
from tests.e2e.api_world import ACME, ACME_KEY, ADMIN_KEY, OTHER_KEY, Api, api
from worker.adapters.memory_store import MemoryStore
from worker.api import frame as frame_module
from worker.api.authentication import key_sha256
from worker.api.endpoints import ApiError, ApiModel, Audience, Call, CallKind, Endpoint, Query, Reply
from worker.api.reading import MAX_BODY_BYTES
from worker.directory.port import Revision
from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog, Tenant
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import TenantId

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]

SECRET = "s3cr3t-of-a-customer"
JSON = {"content_type": "application/json"}


class Asked(Query):
    refresh_it: bool = False
    limit: int = Field(50, ge=1, le=100)
    mode: Literal["db", "sync"] = "db"


class Sent(ApiModel):
    display_name: str = Field(min_length=1, max_length=10)
    events: list[str] = Field([], max_length=3)
    deadline_s: float | None = Field(None, ge=1, le=30)
    many: int = Field(1, ge=0, le=10)
    deep: dict[str, Any] = Field({})


class Seen(ApiModel):
    tenant: str | None
    actor: str
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]


log = structlog.get_logger("tests.api")


async def echo(call: Call) -> Reply:
    log.info("handled")
    query = call.query.model_dump() if call.query else {}
    body = call.body.model_dump() if call.body else {}
    return Reply(data=Seen(tenant=call.tenant, actor=call.actor, path=dict(call.path), query=query, body=body))


def failing(fault: Exception) -> Any:
    async def handle(_call: Call) -> Reply:
        raise fault

    return handle


async def fail_for_good(_call: Call) -> Reply:
    raise ZeroDivisionError(SECRET)


async def too_slow(_call: Call) -> Reply:
    await anyio.sleep_forever()
    raise AssertionError


FAULTS = {
    "away": failing(StoreUnavailable("redis (data): no answer")),
    "full": failing(StoreFull("redis: maxmemory")),
    "bug": fail_for_good,
    "slow": too_slow,
    "told": failing(ApiError(409, "TAKEN", "choose another", details={"id": "x"}, retry_after_s=1.2)),
}


def offer(_catalog: Catalog, _registrar: Registrar, _store: MemoryStore) -> Sequence[Endpoint]:
    posted = Endpoint(
        method="POST", path="/api/things", summary="", tag="t", handle=echo, data=Seen, body=Sent, is_idempotent_by_key=True,
        kind=lambda _call: CallKind.CREATE,
    )  # fmt: skip
    return [
        posted,
        Endpoint(method="GET", path="/api/things", summary="", tag="t", handle=echo, data=Seen, query=Asked),
        Endpoint(method="GET", path="/api/things/{thingId}", summary="", tag="t", handle=echo, data=Seen),
        Endpoint(method="POST", path="/api/things/all", summary="", tag="t", handle=echo, data=Seen),
        Endpoint(method="GET", path="/api/operation", summary="", tag="t", handle=echo, data=Seen, audience=Audience.ADMIN),
        *(Endpoint(method="GET", path=f"/api/{name}", summary="", tag="t", handle=handle) for name, handle in FAULTS.items()),
    ]


# --- what is asked -----------------------------------------------------------------------------------------------------------


async def test_a_call_has_what_was_asked_and_its_answer_is_told_apart_from_errors(anyio_backend: object) -> None:
    async with api(offer) as it:
        answer = await it.ask("GET", "/api/things?refreshIt=yes&limit=7")
        sent = await it.ask("POST", "/api/things", data={"displayName": "a", "deadlineS": 5})
        one = await it.ask("GET", "/api/things/a.b-c")
    query = {"refresh_it": True, "limit": 7, "mode": "db"}
    actor = f"key:{key_sha256(ACME_KEY)[:8]}"
    assert (answer.status, answer.body) == (
        200,
        {"success": True, "data": {"tenant": "acme", "actor": actor, "path": {}, "query": query, "body": {}}},
    )
    assert sent.body["data"]["body"] == {"display_name": "a", "events": [], "deadline_s": 5, "many": 1, "deep": {}}
    assert one.body["data"]["path"] == {"thingId": "a.b-c"}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("unknown=1", "unknown"),
        ("refresh_it=1", "refresh_it"),
        ("limit=1&limit=1", "query.limit"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1e9", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("limit=", "limit"),
        ("refreshIt=perhaps", "refreshIt"),
        ("mode=other", "mode"),
        ("mode=%ff", "query"),
        ("mode=%ED%A0%80", "query"),
        ("&".join(f"p{n}=1" for n in range(40)), "query"),
    ],
)
async def test_a_query_that_is_not_allowed_is_refused_with_field_and_hint(anyio_backend: object, query: str, field: str) -> None:
    async with api(offer) as it:
        answer = await it.ask("GET", f"/api/things?{query}")
    assert (answer.status, answer.code, answer.details["field"]) == (400, "INVALID_REQUEST", field)
    assert answer.details["hint"]


GOOD = b'{"displayName": "a"'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "displayName"),
        (b"{}", "displayName"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'"text"', "body"),
        (b'{"displayName": "\xff"}', "body"),
        (b"\xef\xbb\xbf{}", "body"),
        (b'{"displayName": "\\ud800"}', "body"),
        (GOOD + b', "displayName": "b"}', "body"),
        (GOOD + b', "deep": {"x": 1, "x": 2}}', "body"),
        (GOOD + b', "deadlineS": NaN}', "body"),
        (GOOD + b', "deadlineS": Infinity}', "body"),
        (GOOD + b', "deadlineS": 1e999}', "body"),
        (GOOD + b', "deadlineS": ' + b"9" * 5_000 + b"}", "body"),
        (GOOD + b', "deadlineS": 31}', "deadlineS"),
        (GOOD + b', "deadlineS": "5"}', "deadlineS"),
        (GOOD + b', "deadlineS": true}', "deadlineS"),
        (GOOD + b', "deep": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "body"),
        (GOOD + b', "deep": {"a": ' + b"[" * 100_000 + b"}", "body"),
        (GOOD + b', "unknown": 1}', "unknown"),
        (b'{"display_name": "a"}', "displayName"),
        (b'{"displayName": 1}', "displayName"),
        (b'{"displayName": ""}', "displayName"),
        (b'{"displayName": "12345678901"}', "displayName"),
        (GOOD + b', "events": ["a", 1]}', "events.1"),
        (GOOD + b', "events": ["a", "b", "c", "d"]}', "events"),
        (b"{" + b",".join(b'"%d": 1' % n for n in range(20_000)) + b', "1": 1}', "body"),
    ],
)
async def test_a_body_that_is_not_allowed_is_refused_with_field_and_hint(anyio_backend: object, body: bytes, field: str) -> None:
    async with api(offer) as it:
        answer = await it.ask("POST", "/api/things", data=body, **JSON)
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert answer.details["field"] == field
    assert answer.details["hint"] in answer.body["error"]["message"]


async def test_a_number_that_is_whole_is_whole_however_it_is_written(anyio_backend: object) -> None:
    async with api(offer) as it:
        answer = await it.ask("POST", "/api/things", data=b'{"displayName": "a", "many": 5.0, "deadlineS": 5}', **JSON)
        assert answer.body["data"]["body"] | {"many": 5, "deadline_s": 5.0} == answer.body["data"]["body"]
        assert (await it.ask("POST", "/api/things", data=b'{"displayName": "a", "many": 5.5}', **JSON)).details["field"] == "many"


async def test_all_faults_are_told_at_once_and_none_quotes_what_was_sent(anyio_backend: object) -> None:
    async with api(offer) as it:
        answer = await it.ask("POST", "/api/things", data={"displayName": SECRET, "deadlineS": SECRET, "eventz": [SECRET]})
    assert answer.details["faults"] == [
        {"field": "displayName", "hint": "allowed: at most 10 characters"},
        {"field": "deadlineS", "hint": "allowed: a number"},
        {"field": "eventz", "hint": "unknown; did you mean events?"},
    ]
    assert SECRET not in str(answer.body)


async def test_only_json_is_a_body(anyio_backend: object) -> None:
    async with api(offer) as it:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "text/json"):
            answer = await it.ask("POST", "/api/things", data=b'{"displayName": "a"}', content_type=content_type)
            assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE"), content_type
        answer = await it.ask("POST", "/api/things", data=b'{"displayName": "a"}', content_type="application/json; charset=UTF-8")
        assert answer.status == 200
        assert (await it.ask("POST", "/api/things", data=b'{"displayName": "a"}')).status == 415


async def test_a_body_is_at_most_256_kib_also_when_nobody_says_how_long_it_is(anyio_backend: object) -> None:
    async def endless() -> Any:
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    async with api(offer) as it:
        largest = b'{"displayName": "a"}'.ljust(MAX_BODY_BYTES)
        assert (await it.ask("POST", "/api/things", data=largest, **JSON)).status == 200
        answer = await it.ask("POST", "/api/things", data=largest + b" ", **JSON)
        assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")
        headers = {"authorization": f"Bearer {ACME_KEY}", "content-type": "application/json"}
        async with it.client.post("/api/things", data=endless(), headers=headers) as refused:
            assert refused.status == 413


async def test_a_packed_body_is_read_and_its_true_size_counts(anyio_backend: object) -> None:
    import gzip

    async with api(offer) as it:
        packed = gzip.compress(b'{"displayName": "a"}')
        assert (await it.ask("POST", "/api/things", data=packed, content_encoding="gzip", **JSON)).status == 200
        bomb = gzip.compress(b" " * 20_000_000)
        assert (await it.ask("POST", "/api/things", data=bomb, content_encoding="gzip", **JSON)).status == 413
        broken = await it.ask("POST", "/api/things", data=packed[:-12], content_encoding="gzip", **JSON)
        assert broken.status == 400


async def test_a_call_without_a_body_of_its_own_takes_none_but_an_empty_object(anyio_backend: object) -> None:
    async with api(offer) as it:
        for body, status in ((b"", 200), (b"{}", 200), (b'{"a": 1}', 400), (b"x", 400)):
            assert (await it.ask("POST", "/api/things/all", data=body, **JSON)).status == status
            assert (await it.ask("GET", "/api/things", data=body, **JSON)).status == status


@pytest.mark.parametrize(("key", "status"), [("a-1", 200), ("x" * 255, 200), ("x" * 256, 400), ("a b", 400), ("é", 400), ("", 400)])
async def test_an_idempotency_key_is_visible_ascii(anyio_backend: object, key: str, status: int) -> None:
    async with api(offer) as it:
        answer = await it.ask("POST", "/api/things", data={"displayName": "a"}, idempotency_key=key)
    assert answer.status == status


# --- paths and methods -------------------------------------------------------------------------------------------------------


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


# --- request ids, logs, errors ------------------------------------------------------------------------------------------------


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


# --- keys ---------------------------------------------------------------------------------------------------------------------


async def test_a_key_speaks_for_its_tenant_and_the_operator_for_whom_he_names(anyio_backend: object) -> None:
    async with api(offer) as it:
        cases: list[tuple[str, str | None, dict[str, str], int, str]] = [
            ("/api/things", ACME_KEY, {}, 200, "acme"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "acme"}, 200, "acme"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "other"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "nobody"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ADMIN_KEY, {}, 400, "TENANT_REQUIRED"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "other"}, 200, "other"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "nobody"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "../x"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", "wak_unknown", {}, 401, "UNAUTHORIZED"),
            ("/api/things", None, {}, 401, "UNAUTHORIZED"),
            ("/api/operation", ACME_KEY, {}, 403, "ADMIN_KEY_REQUIRED"),
            ("/api/operation", None, {}, 401, "UNAUTHORIZED"),
        ]
        for path, key, headers, status, told in cases:
            answer = await it.ask("GET", path, key=key, **headers)
            assert (answer.status, answer.body["data"]["tenant"] if status == 200 else answer.code) == (status, told), (path, key, headers)
            assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
        answer = await it.ask("GET", "/api/operation", key=ADMIN_KEY)
        assert answer.body["data"] | {"query": {}} == {"tenant": None, "actor": "admin", "path": {}, "query": {}, "body": {}}


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic d2FrX2FjbWU6", "wak_acme", "Bearer\twak_acme", "Bearer wak_acme x", "Bearer \xff\xfe"]
)
async def test_only_a_bearer_key_is_a_key(anyio_backend: object, authorization: str) -> None:
    async with api(offer) as it:
        assert (await it.ask("GET", "/api/things", key=None, authorization=authorization)).status == 401
        assert (await it.ask("GET", "/api/things", key=None, authorization="bearer wak_acme")).status == 200


async def test_a_header_that_stands_there_twice_is_refused(anyio_backend: object) -> None:
    async with api(offer) as it:
        for name, value in (("authorization", f"Bearer {ACME_KEY}"), ("x-tenant-id", "acme")):
            headers = [(name, value), (name, value)] + ([("authorization", f"Bearer {ACME_KEY}")] if name == "x-tenant-id" else [])
            async with it.client.get("/api/things", headers=headers) as answer:
                assert answer.status == 400


async def test_without_an_operators_key_his_calls_say_which_setting_makes_one(anyio_backend: object) -> None:
    async with api(offer, admin_key=None) as it:
        for key in (None, ACME_KEY, ADMIN_KEY):
            answer = await it.ask("GET", "/api/operation", key=key)
            assert (answer.status, answer.code) == (403, "ADMIN_KEY_NOT_SET")
            assert "WORKER_HTTP__ADMIN_KEY" in answer.body["error"]["message"]


async def registered_elsewhere(it: Api, tenant: Tenant) -> None:
    """By another worker, a moment ago: in the store, not in this worker's catalog."""
    await it.store.directory.put(tenant, expected=Revision(0))


async def test_a_tenant_registered_at_another_worker_a_moment_ago_is_known_here(anyio_backend: object) -> None:
    async with api(offer) as it:
        await registered_elsewhere(it, Tenant(id=TenantId("fresh"), api_keys_sha256=(key_sha256("wak_fresh"),)))
        assert (await it.ask("GET", "/api/things", key=ADMIN_KEY, x_tenant_id="fresh")).status == 200
    async with api(offer) as it:
        await registered_elsewhere(it, Tenant(id=TenantId("fresh"), api_keys_sha256=(key_sha256("wak_fresh"),)))
        assert (await it.ask("GET", "/api/things", key="wak_fresh")).body["data"]["tenant"] == "fresh"


async def test_with_the_store_away_known_keys_work_and_nobody_is_called_wrong(anyio_backend: object) -> None:
    async with api(offer) as it:
        it.store.faults.away = True
        assert (await it.ask("GET", "/api/things")).status == 200
        answer = await it.ask("GET", "/api/things", key="wak_unknown")
        assert (answer.status, answer.code) == (503, "STORE_UNAVAILABLE")


async def test_guessing_locks_the_address_out_but_not_the_customers_beside_it(anyio_backend: object) -> None:
    async with api(offer) as it:
        assert (await it.ask("GET", "/api/things", key=OTHER_KEY)).status == 200
        for guess in range(10):
            assert (await it.ask("GET", "/api/things", key=f"wak_{guess}")).status == 401
        answer = await it.ask("GET", "/api/things", key="wak_11")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "LOCKED_OUT", "1")
        assert (await it.ask("GET", "/api/things", key=ACME_KEY)).status == 429, "it was not seen here before: it may be a guess"
        assert (await it.ask("GET", "/api/things", key=OTHER_KEY)).status == 200
        it.now[0] += 1.0
        assert (await it.ask("GET", "/api/things", key=ACME_KEY)).status == 200


# --- limits -------------------------------------------------------------------------------------------------------------------


async def test_a_tenant_that_calls_too_often_is_told_how_long_to_wait(anyio_backend: object) -> None:
    async with api(offer, limits={"create": "2/3600"}) as it:
        thing = {"displayName": "a"}
        statuses = [(await it.ask("POST", "/api/things", data=thing)).status for _ in range(3)]
        answer = await it.ask("POST", "/api/things", data=thing)
        assert statuses == [200, 200, 429]
        assert (answer.code, answer.details) == ("RATE_LIMITED", {"limit": 2, "windowS": 3600})
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert (await it.ask("POST", "/api/things", data=thing, key=OTHER_KEY)).status == 200
        assert (await it.ask("POST", "/api/things", data=thing, key=ADMIN_KEY, x_tenant_id=ACME)).status == 200
        assert (await it.ask("POST", "/api/things", data={"displayName": 1})).status == 400, "what is not allowed is said first"
        it.store.faults.away = True
        assert (await it.ask("POST", "/api/things", data=thing)).status == 200, "a limit protects, it is no promise"


# --- on the wire --------------------------------------------------------------------------------------------------------------

AUTHORIZED = b"Host: x\r\nAuthorization: Bearer " + ACME_KEY.encode() + b"\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_head", "statuses"),
    [
        (b"GET /api/things/\xff\xfe HTTP/1.1\r\n" + AUTHORIZED, {400, 404}),
        (b"GET /api/things?limit=\xff HTTP/1.1\r\n" + AUTHORIZED, {400}),
        (b"GET /api/things?%00=1 HTTP/1.1\r\n" + AUTHORIZED, {400}),
        (b"GET /api/things?a;b HTTP/1.1\r\n" + AUTHORIZED, {400}),
        (b"GET /api/things# HTTP/1.1\r\n" + AUTHORIZED, {200, 400, 404}),
        (b"GET http://elsewhere.example/api/things HTTP/1.1\r\n" + AUTHORIZED, {200, 400, 404}),
        (b"GET //api/things HTTP/1.1\r\n" + AUTHORIZED, {404}),
        (b"GET /api/./things HTTP/1.1\r\n" + AUTHORIZED, {404}),
        (b"GET /api/x/../things HTTP/1.1\r\n" + AUTHORIZED, {404}),
        (b"GET /api/%74hings HTTP/1.1\r\n" + AUTHORIZED, {404}),
        (b"GET /api\\things HTTP/1.1\r\n" + AUTHORIZED, {404}),
        (b"OPTIONS * HTTP/1.1\r\n" + AUTHORIZED, {404, 405}),
        (b"GET /api/things/" + b"a" * 8_000 + b" HTTP/1.1\r\n" + AUTHORIZED, {400, 404}),
        (b"GET /api/" + b"a/" * 4_000 + b" HTTP/1.1\r\n" + AUTHORIZED, {400, 404}),
        (b"GET /api/things HTTP/1.1\r\nX-Tenant-Id: acme\xff\r\n" + AUTHORIZED, {404}),
        (b"GET /api/things HTTP/1.1\r\nX-Request-Id: \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\r\n" + AUTHORIZED, {200}),
        (b"POST /api/things HTTP/1.1\r\nContent-Type: application/json; charset=\xff\r\nContent-Length: 2\r\n" + AUTHORIZED, {415}),
        (b"POST /api/things HTTP/1.1\r\nContent-Type: ;;;\r\nContent-Length: 2\r\n" + AUTHORIZED, {415}),
        (
            b"POST /api/things HTTP/1.1\r\nContent-Encoding: br\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" + AUTHORIZED,
            {400, 415},
        ),
        (b"POST /api/things HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n" + AUTHORIZED, {400}),
        (
            b"POST /api/things HTTP/1.1\r\nIdempotency-Key: \xff\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" + AUTHORIZED,
            {400},
        ),
    ],
)
async def test_tricks_on_the_wire_end_in_an_answer_and_never_in_a_fault(
    anyio_backend: object, request_head: bytes, statuses: set[int]
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with api(offer) as it, await anyio.connect_tcp("127.0.0.1", it.port) as stream:
            await stream.send(request_head + b"\r\n" + (b"" if request_head.startswith((b"GET", b"OPTIONS")) else b"{}"))
            answer = b""
            with anyio.fail_after(15):
                while chunk := await received(stream):
                    answer += chunk
    status, head = int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[0]
    assert status in statuses, answer[:500]
    assert b"Traceback" not in answer
    assert [line for line in lines if line["event"] == "request_failed"] == []
    assert b"\xff" not in head


async def received(stream: anyio.abc.SocketStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""
