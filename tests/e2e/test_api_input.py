"""What is asked of the API: bodies, queries, headers, and tricks on the wire; what is not allowed is refused with field and hint."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import structlog

from tests.conftest import UVLOOP
from tests.e2e.api_offer import JSON, SECRET, offer
from tests.e2e.api_world import ACME_KEY, api
from worker.api import reading
from worker.api.authentication import key_sha256
from worker.api.reading import MAX_BODY_BYTES

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]


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


async def test_a_body_that_does_not_come_is_waited_for_only_so_long(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_ARRIVES_S", 0.2)
    head = b"POST /api/things HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n" + AUTHORIZED
    async with api(offer) as it, await anyio.connect_tcp("127.0.0.1", it.port) as stream:
        await stream.send(head + b"\r\n{")
        with anyio.fail_after(10):
            answer = await received(stream)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"BODY_TOO_SLOW" in answer


async def test_a_caller_that_hangs_up_in_the_middle_of_its_body_is_no_fault_of_ours(anyio_backend: object) -> None:
    head = b"POST /api/things HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n" + AUTHORIZED
    with structlog.testing.capture_logs() as lines:
        async with api(offer) as it:
            async with await anyio.connect_tcp("127.0.0.1", it.port) as stream:
                await stream.send(head + b"\r\n{")
            assert (await it.ask("GET", "/api/things")).status == 200
    assert [line for line in lines if line["event"] == "request_failed"] == []


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
    if status == 400:
        assert b'"code": "MALFORMED_REQUEST"' in answer or b'"code": "INVALID_REQUEST"' in answer
    assert b"Traceback" not in answer
    assert [line for line in lines if line["event"] == "request_failed"] == []
    assert b"\xff" not in head


async def received(stream: anyio.abc.SocketStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""
