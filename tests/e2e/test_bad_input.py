"""Bad input at the door of a real process, beside good events: each is answered for what it is, nothing is lost, nothing is a 500."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import anyio
import orjson
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, Worker, declared, everything_arrives, generic_event, pushing

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 600))]

BIG = 5 << 20
IDLE_CONNECTIONS = scaled(1_500, 4_000)
ROUNDS = scaled(3, 100)
GATEWAYS_OF = """
[[instances]]
id = "signed"
tenant_id = "t"
gateway = "generic"
ingest_secrets = ["a secret of ours"]
[[instances]]
id = "waha"
tenant_id = "t"
gateway = "waha"
[[instances]]
id = "cloud"
tenant_id = "t"
gateway = "cloud-api"
"""
"""Instances that bad bodies are sent to; none of their events is routed to the webhook that counts."""


def bad_bodies(chance: random.Random) -> Iterator[bytes]:
    """No event of any gateway."""
    yield from (b"", b"{", b"[]", b"null", b"0", b'"x"', b"\0" * 100, b"[" * 200_000, b'{"a":' * 50_000, b"[[]]", b"{}")
    yield from (b'{"type": 5}', b'{"type": "message", "elephant": 1}', b'{"type": "message", "message_ids": {}}', b'"\\ud800"')
    yield from (b'{"type": "message", "text": "\xff\xfe"}', b'{"type": "message", "message_ids": ["' + b"x" * 100_000 + b'"]}')
    yield b'{"type": "message", "occurred_at": ' + b"9" * 5_000 + b"}"
    yield b"[" + b",".join([b'{"type": "message"}'] * 5_000) + b"]"
    for _ in range(20):
        yield chance.randbytes(chance.randrange(1, 5_000))
    good = orjson.dumps({"event": "message", "session": "waha", "payload": {"id": "x", "from": "1@c.us", "body": "hi"}})
    for _ in range(20):
        spoilt = bytearray(good)
        spoilt[chance.randrange(len(good))] = chance.randrange(256)
        yield bytes(spoilt)


async def barrage(rig: Rig, worker: Worker, statuses: Counter[int], chance: random.Random) -> None:
    """One of everything."""

    async def post(path: str, data: object, **headers: str) -> None:
        async with rig.session.post(worker.url + path, data=data, headers=headers) as answer:
            statuses[answer.status] += 1
            assert answer.status < 500 or answer.status == 503, (path, answer.status, await answer.text())
            if answer.status >= 400:
                assert answer.content_type == "application/json", await answer.text()

    for body in bad_bodies(chance):
        for path in ("generic/signed", "waha/waha", "cloud-api/cloud", "generic/i"):
            # What the last one would take is a good event for the webhook that counts.
            if path != "generic/i" or not body.startswith((b'{"type": "message"', b'[{"type": "message"')):
                await post(f"/ingest/{path}", body)
    for path in ("generic/nobody", "waha/i", "elephant/i", "generic/%00", "generic/" + "i" * 5_000, "generic/../../etc/passwd"):
        await post(f"/ingest/{path}", b"{}")
    await post("/ingest/generic/signed", orjson.dumps(generic_event("forged")), **{"x-signature": "sha256=" + "0" * 64})
    await post("/ingest/generic/signed", orjson.dumps(generic_event("forged")), **{"x-signature": "sha256=\udcff"})
    await post("/ingest/generic/i", io.BytesIO(b"x" * BIG))
    await post("/ingest/generic/i", chunks(BIG))
    await post("/ingest/generic/i", gzip.compress(b" " * (64 << 20)), **{"content-encoding": "gzip"})
    await post("/ingest/generic/i", b"not gzip at all", **{"content-encoding": "gzip"})
    await post("/ingest/generic/i", b"{}", **{"content-encoding": "elephant"})


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size >> 16):
        yield b"x" * (1 << 16)


@asynccontextmanager
async def idle_connections(worker: Worker, count: int) -> AsyncIterator[None]:
    """Connections that say nothing."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(socket.create_connection(("127.0.0.1", worker.port), timeout=10))
        yield


async def raw(worker: Worker, sent: bytes, *, then_hang_up: bool = False, within_s: float = 20) -> bytes:
    """What comes back until the other side closes, for bytes that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    answer = b""
    try:
        with anyio.fail_after(within_s):
            writer.write(sent)
            await writer.drain()
            if not then_hang_up:
                answer = await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


HEAD = b"POST /ingest/generic/i HTTP/1.1\r\nHost: x\r\n"
NO_HTTP = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64),
    b"POST /ingest/generic/i HTTP/9.9\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    HEAD + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    HEAD + b"X-Bad\0: 1\r\n\r\n",
    HEAD + b"Authorization: Bearer hush-hush\0\r\n\r\n",
    HEAD + b"Authorization: " + b"hush-hush" * 10_000 + b"\r\n\r\n",
]
BODIES_UNFINISHED = [
    HEAD + b"Content-Length: 1000\r\n\r\nonly this",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhell",
    HEAD + b"Content-Length: 4000000\r\n\r\n" + b"x" * 1_000_000,
]


async def test_whatever_comes_in_the_good_events_go_on_and_nothing_is_a_500(rig: Rig) -> None:
    chance = random.Random(7)
    hooks = [Hook("crm", rig.sink.url("crm"), ("i",))]
    worker = rig.worker(declared(hooks) + GATEWAYS_OF)
    await worker.start()
    gateway = rig.gateway(worker)
    statuses: Counter[int] = Counter()
    async with idle_connections(worker, IDLE_CONNECTIONS), pushing(gateway, per_s=50):
        for _ in range(ROUNDS):
            await barrage(rig, worker, statuses, chance)
        for sent in NO_HTTP:
            answer = await raw(worker, sent)
            assert answer.startswith(b"HTTP/1.") or not answer, answer[:200]
            assert b" 500 " not in answer.partition(b"\r\n")[0], (sent[:80], answer[:500])
        for sent in BODIES_UNFINISHED:
            await raw(worker, sent, then_hang_up=True)
        # Slow ones are told so at their deadline, all at once.
        async with anyio.create_task_group() as slow:
            answers: list[bytes] = []

            async def trickle(sent: bytes) -> None:
                answers.append(await raw(worker, sent))

            for sent in BODIES_UNFINISHED * 20:
                slow.start_soon(trickle, sent)
    await everything_arrives(rig, gateway, hooks, 30)
    faults = [line for line in worker.lines() if line.get("level") == "error" or "text" in line]
    state("bad input", good=len(gateway.accepted), lost=0, statuses=dict(statuses), slow=dict(Counter(a[9:12].decode() for a in answers)))
    assert {a[9:12] for a in answers} <= {b"408", b"400", b"503"}
    assert {400, 401, 404, 413} <= statuses.keys()
    assert faults == []
    assert "hush-hush" not in worker.log.read_text()
    assert (await worker.get("/readyz"))[0] == 200
    assert (await worker.stop())[0] == 0
