"""Ingest, health and dashboard over a real socket: what only HTTP can get wrong."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
import orjson
import pytest
import structlog
from aiohttp import web
from anyio.lowlevel import checkpoint

from tests.conftest import UVLOOP
from worker.adapters.memory_store import MemoryStore
from worker.api import server
from worker.api.dashboard import dashboard_routes
from worker.api.health import Health, Keys, Readiness, health_routes
from worker.api.server import application, serving
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.errors import ConfigurationError
from worker.domain.ids import EventKey, InstanceId, Shard, TenantId
from worker.gateways import GATEWAYS
from worker.ingest import routes
from worker.ingest.door import Door, RoomLimits
from worker.ingest.handler import Ingest
from worker.ingest.preparation import Preparation, Stamps
from worker.ingest.routes import ingest_routes
from worker.ingest.segments import SegmentWriter
from worker.metrics import Metrics

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]

MAX_BODY_BYTES = 256 << 10
ACME = TenantId("acme")
READY = Readiness(ready=True, reason="")
LOCAL = Keys(on_loopback=True, admin_key="the-admin-key")
PUBLIC = Keys(on_loopback=False, admin_key="the-admin-key", metrics_key="the-metrics-key")


@dataclass
class Site:
    """A worker's listener and a client on it."""

    client: aiohttp.ClientSession = field(repr=False)
    port: int
    door: Door
    store: MemoryStore
    readiness: Readiness = READY

    async def get(self, path: str, key: str | None = None) -> tuple[int, bytes, Any]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with self.client.get(path, headers=headers) as answer:
            return answer.status, await answer.read(), answer.headers

    async def push(self, body: bytes, path: str = "/ingest/generic/sales", **headers: str) -> tuple[int, Any, Any]:
        async with self.client.post(path, data=body, headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read()), answer.headers


@asynccontextmanager
async def site(keys: Keys = LOCAL, **bounds: int) -> AsyncIterator[Site]:
    clock = asyncio.get_running_loop().time
    store, metrics = MemoryStore(shards=2, clock=clock), Metrics()
    writer = SegmentWriter(store.journal, 2, clock)
    door = Door(store.room, [Shard(0), Shard(1)], RoomLimits(max_events=1_000, max_bytes=1 << 30, tenant_share=1.0))
    named = {"generic": "sales", "cloud-api": "meta", "evolution": "evo"}
    instances = [
        Instance(id=InstanceId(name), tenant_id=ACME, gateway=gateway, gateway_instance=name, ingest_verify_token="ours")
        for gateway, name in named.items()
    ]
    stamps = Stamps(received_at=lambda: "2026-11-22T07:45:38.300Z", fresh_key=lambda: EventKey("ulid:1"))
    preparation = Preparation(catalog=Catalog([Tenant(id=ACME)], instances, []), shards=2, stamps=stamps)
    ingest = Ingest(preparation, GATEWAYS, writer, door, metrics, clock)
    health = Health(
        ready=lambda: it.readiness,
        role=lambda: {"role": "active", "shards": [{"shard": 0, "token": 7, "validForS": 11.5, "since": "2026-11-22T07:45:38Z"}]},
        statistics=lambda: {"ingest": ingest.statistics()},
        metrics_text=metrics.text,
    )
    pages = [*ingest_routes(ingest, max_body_bytes=MAX_BODY_BYTES, **bounds), *health_routes(health, keys), *dashboard_routes()]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        async with (
            serving(application(pages, max_body_bytes=MAX_BODY_BYTES), "127.0.0.1", 0) as listening,
            aiohttp.ClientSession(f"http://127.0.0.1:{listening.port}", timeout=aiohttp.ClientTimeout(5)) as client,
        ):
            it = Site(client, listening.port, door, store)
            yield it
        tasks.cancel_scope.cancel()


async def raw_exchange(port: int, sent: bytes) -> bytes:
    """What comes back until the connection ends."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(sent)
        answer = b""
        with anyio.fail_after(8):
            while True:
                try:
                    answer += await stream.receive()
                except anyio.EndOfStream:
                    return answer


async def test_a_push_is_answered_202_and_is_in_the_journal() -> None:
    async with site() as it:
        status, told, headers = await it.push(b'{"type": "message", "event_key": "k1"}')
        assert (status, told) == (202, {"accepted": 1, "duplicates": 0})
        assert headers["Content-Type"] == "application/json"
        assert (await it.store.room.waiting([Shard(0), Shard(1)])) != {}


async def test_an_event_of_evolution_may_be_named_in_the_path_too() -> None:
    body = orjson.dumps({"event": "messages.upsert", "instance": "evo", "data": {"key": {"id": "A", "remoteJid": "1@c.us"}}})
    async with site() as it:
        assert (await it.push(body, "/ingest/evolution/evo/messages-upsert"))[:2] == (202, {"accepted": 1, "duplicates": 0})
        assert (await it.push(body, "/ingest/evolution/evo"))[:2] == (202, {"accepted": 0, "duplicates": 1})
        async with it.client.post("/ingest/generic/sales/message", data=b'{"type":"message"}') as answer:
            assert answer.status == 404


async def test_header_names_are_known_whatever_their_case() -> None:
    async with site() as it:
        status, _, _ = await it.push(gzip.compress(b'{"type": "message"}'), **{"CONTENT-ENCODING": "gzip"})
        assert status == 202


async def test_a_body_over_64_kib_is_decoded_off_the_loop_and_answered_the_same() -> None:
    async with site() as it:
        body = orjson.dumps({"type": "message", "event_key": "k1", "text": "x" * 100_000})
        status, told, _ = await it.push(body)
        assert (status, told) == (202, {"accepted": 1, "duplicates": 0})


async def test_an_announced_body_beyond_the_limit_is_413_without_being_read() -> None:
    async with site() as it:
        head = b"POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        answer = await raw_exchange(it.port, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"BODY_TOO_LARGE"' in answer


async def test_an_unannounced_body_beyond_the_limit_is_413() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (64 << 10)

    async with site() as it, it.client.post("/ingest/generic/sales", data=chunks()) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "BODY_TOO_LARGE"


async def test_a_body_that_unpacks_beyond_the_limit_is_413() -> None:
    async with site() as it:
        status, told, _ = await it.push(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), **{"content-encoding": "gzip"})
        assert (status, told["code"]) == (413, "BODY_TOO_LARGE")


async def test_a_body_that_trickles_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_ARRIVES_S", 0.1)
    async with site() as it:
        answer = await raw_exchange(it.port, b'POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"typ')
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_bodies_beyond_what_may_be_under_way_together_are_503() -> None:
    async with site(bodies_bytes=MAX_BODY_BYTES) as it:
        async with await anyio.connect_tcp("127.0.0.1", it.port) as slow:
            await slow.send(b"POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES - 10))
            with anyio.fail_after(20):
                while (await it.push(b'{"type": "message", "event_key": "k1"}'))[0] != 503:
                    await checkpoint()
        with anyio.fail_after(20):
            while (await it.push(b'{"type": "message", "event_key": "k1"}'))[0] != 202:
                await checkpoint()


async def test_a_leaving_worker_closes_the_connection_after_its_answer() -> None:
    async with site() as it:
        it.door.leave()
        body = b'{"type":"message"}'
        answer = await raw_exchange(
            it.port, b"POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_a_refusal_carries_retry_after() -> None:
    async with site() as it:
        it.door.shut()
        status, told, headers = await it.push(b'{"type": "message"}')
        assert (status, told["code"], headers["Retry-After"]) == (503, "DRAINING", "1")


async def test_a_client_that_hangs_up_does_not_take_its_event_back() -> None:
    async with site() as it:
        reached = anyio.Event()

        async def note(_script: str) -> None:
            reached.set()
            await hung_up.wait()

        hung_up = anyio.Event()
        it.store.faults.before = note
        async with await anyio.connect_tcp("127.0.0.1", it.port) as stream:
            await stream.send(
                b'POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n{"type":"message","event_key":"k1"}'
            )
            with anyio.fail_after(20):
                await reached.wait()
        hung_up.set()
        status, told, _ = await it.push(b'{"type":"message","event_key":"k1"}')
        assert (status, told) == (202, {"accepted": 0, "duplicates": 1})


async def test_an_answer_under_way_is_still_given_while_the_listener_closes() -> None:
    body = b'{"type":"message"}'
    sent = b"POST /ingest/generic/sales HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    answers: list[bytes] = []
    reached, go_on = anyio.Event(), anyio.Event()

    async def note(_script: str) -> None:
        reached.set()
        await go_on.wait()

    async def exchange(port: int) -> None:
        answers.append(await raw_exchange(port, sent))

    async with anyio.create_task_group() as clients:
        async with site() as it:
            it.store.faults.before = note
            clients.start_soon(exchange, it.port)
            await reached.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert go_on.is_set(), "the close waited for the answer"
    assert answers[0].startswith(b"HTTP/1.1 202 ")


async def test_a_key_that_is_no_utf8_or_has_no_scheme_is_just_wrong() -> None:
    async with site(PUBLIC) as it:
        for value in (b"Bearer \xff\xfe", b"the-admin-key", b"Basic the-admin-key"):
            answer = await raw_exchange(
                it.port, b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n" % value
            )
            assert answer.startswith(b"HTTP/1.1 401 ")


async def test_metas_challenge_is_answered_as_plain_text() -> None:
    async with site() as it:
        status, body, headers = await it.get("/ingest/cloud-api/meta?hub.mode=subscribe&hub.verify_token=ours&hub.challenge=42")
        assert (status, body, headers["Content-Type"].partition(";")[0]) == (200, b"42", "text/plain")
        assert (await it.get("/ingest/cloud-api/meta?hub.mode=subscribe&hub.verify_token=x&hub.challenge=42"))[0] == 403
        assert (await it.get("/ingest/generic/sales"))[0] == 405


async def test_readiness_says_why_not_while_liveness_stays() -> None:
    async with site() as it:
        assert (await it.get("/readyz"))[0] == 200
        it.readiness = Readiness(ready=False, reason="draining")
        status, body, _ = await it.get("/readyz")
        assert (status, orjson.loads(body)["reason"]) == (503, "draining")
        assert (await it.get("/livez"))[0] == 200


async def test_on_loopback_everything_is_open_with_and_without_a_key() -> None:
    async with site() as it:
        for path in ("/rolez", "/status", "/metrics"):
            assert [(await it.get(path, key))[0] for key in (None, "the-admin-key")] == [200, 200]
        assert orjson.loads((await it.get("/rolez"))[1])["shards"][0]["token"] == 7


async def test_not_on_loopback_only_liveness_and_readiness_are_open() -> None:
    async with site(PUBLIC) as it:
        assert [(await it.get(path))[0] for path in ("/livez", "/readyz")] == [200, 200]
        for path in ("/rolez", "/status"):
            assert [(await it.get(path, key))[0] for key in (None, "wrong", "the-metrics-key", "the-admin-key")] == [401, 401, 401, 200]
        assert [(await it.get("/metrics", key))[0] for key in (None, "wrong", "the-metrics-key", "the-admin-key")] == [401, 401, 200, 200]


async def test_metrics_show_what_came_in() -> None:
    async with site() as it:
        await it.push(b'{"type": "message"}')
        _, body, headers = await it.get("/metrics")
    assert b'ingest_events_total{tenant="acme",event_type="message"} 1\n' in body
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_the_dashboard_is_one_page_that_needs_nobody_else() -> None:
    async with site(PUBLIC) as it:
        status, body, headers = await it.get("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"http://" not in body
    assert b"https://" not in body


async def test_an_error_has_the_contracts_shape() -> None:
    async with site() as it:
        status, body, _ = await it.get("/no-such-page")
        told = orjson.loads(body)
        assert (status, told["success"], told["error"]["code"]) == (404, False, "NOT_FOUND")
        assert set(told["error"]) == {"code", "message", "details", "requestId"}


async def test_a_port_in_use_is_a_configuration_error_that_names_it() -> None:
    async with site() as it:
        with pytest.raises(ConfigurationError, match=rf"http\.port \(WORKER_HTTP__PORT\): {it.port} "):
            async with serving(application([], max_body_bytes=1), "127.0.0.1", it.port):
                raise AssertionError("must not listen")


async def test_a_connection_beyond_the_limit_is_closed_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    async with site() as it:
        assert (await it.get("/livez"))[0] == 200  # this client's connection stays open: it is the one
        assert await raw_exchange(it.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert (await it.get("/livez"))[0] == 200


async def test_a_fault_in_a_page_is_500_with_its_shape_and_shows_nothing_of_itself() -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("of 5511900000001")

    with structlog.testing.capture_logs() as logs:
        async with (
            serving(application([web.get("/{what}", broken)], max_body_bytes=1), "127.0.0.1", 0) as listening,
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{listening.port}/5511900000001") as answer,
        ):
            told = await answer.json()
    assert (answer.status, told["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "5511900000001" not in str(told)
    assert [entry["cause"] for entry in logs] == ["RuntimeError"]
    assert "5511900000001" not in str([{**entry, "stack": ""} for entry in logs])
    assert [(entry["event"], entry["route"], entry["request_id"]) for entry in logs] == [
        ("request_failed", "/{what}", told["error"]["requestId"])
    ]


async def test_an_address_that_is_not_ours_is_a_configuration_error_that_names_it() -> None:
    with pytest.raises(ConfigurationError, match=r"http\.host \(WORKER_HTTP__HOST\): cannot listen on 192\.0\.2\.1:0"):
        async with serving(application([], max_body_bytes=1), "192.0.2.1", 0):
            raise AssertionError("must not listen")
