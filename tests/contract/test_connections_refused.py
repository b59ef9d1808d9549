"""What keeps a stream from opening, and what is no stream at all: each with its reason, its message, and nothing left open."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.conftest import ASYNCIO, UVLOOP
from tests.contract.connection_worlds import (
    KEY,
    NAME,
    PATIENCE_S,
    assert_tells_nothing,
    bodies,
    config,
    frames,
    instance,
    opened,
    refusal,
    until_closed,
    world,
)
from tests.contract.hostile_endpoint import Behaviour, Connection, answering_once, deaf, endpoint, full_backlog, hanging, refused_port
from worker.adapters.sockets import GATEWAYS_WITH_STREAM, open_connector
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, ConnectionClosed

pytestmark = pytest.mark.anyio
GATEWAYS = pytest.mark.parametrize("gateway", GATEWAYS_WITH_STREAM)
PATHS = {"waha": "GET /ws", "baileys": "GET /stream"}


class Nowhere(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        raise OSError(None, "Domain name not found")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("gateway", ["evolution", "wuzapi"])
def test_a_gateway_without_a_stream_has_no_connector(gateway: str) -> None:
    assert open_connector(config(gateway, "http://x")) is None


@GATEWAYS
def test_a_broker_that_wants_no_sockets_has_no_connector(gateway: str) -> None:
    wants_none = config(gateway, "http://x")
    assert open_connector(wants_none) is not None
    object.__setattr__(wants_none, "sockets", False)
    assert open_connector(wants_none) is None


@GATEWAYS
async def test_nobody_listens(gateway: str) -> None:
    connector = opened(config(gateway, f"http://127.0.0.1:{refused_port()}"))
    refused = await refusal(connector)
    assert refused.reason is CloseReason.REFUSED
    assert_tells_nothing(refused)
    await connector.close()


@GATEWAYS
async def test_a_name_that_leads_nowhere(gateway: str) -> None:
    connector = open_connector(config(gateway, "http://broker.invalid:3000"), resolver=Nowhere())
    assert connector is not None
    refused = await refusal(connector)
    assert refused.reason is CloseReason.REFUSED
    assert "Domain name not found" in str(refused)
    assert_tells_nothing(refused, "broker.invalid")
    await connector.close()


@GATEWAYS
async def test_a_certificate_that_nobody_trusts(gateway: str) -> None:
    async with world(gateway, is_tls=True) as here:
        stranger = opened(config(gateway, here.fake.url))
        refused = await refusal(stranger)
        assert refused.reason is CloseReason.REFUSED
        assert "certificate" in str(refused)
        assert_tells_nothing(refused)
        await stranger.close()


@GATEWAYS
async def test_a_server_that_speaks_no_tls(gateway: str) -> None:
    async with world(gateway) as here:
        stranger = opened(config(gateway, here.fake.url.replace("http:", "https:")))
        refused = await refusal(stranger)
        assert refused.reason is CloseReason.REFUSED
        await stranger.close()


@GATEWAYS
async def test_a_gateway_that_takes_no_connection_is_not_waited_for_longer_than_said(gateway: str) -> None:
    with full_backlog() as full, deaf() as silent:
        for url in (f"http://127.0.0.1:{full}", f"http://127.0.0.1:{silent}", f"https://127.0.0.1:{silent}"):
            connector = opened(config(gateway, url))
            refused = await refusal(connector, timeout_s=0.2)
            assert refused.reason is CloseReason.TIMEOUT
            assert_tells_nothing(refused)
            await connector.close()


@GATEWAYS
async def test_a_gateway_that_hangs_is_not_waited_for_longer_than_said(gateway: str) -> None:
    async with endpoint(hanging) as hung:
        connector = opened(config(gateway, f"http://127.0.0.1:{hung.port}"))
        refused = await refusal(connector, timeout_s=0.2)
        assert refused.reason is CloseReason.TIMEOUT
        with anyio.fail_after(PATIENCE_S):
            await hung.closed.wait()
        await connector.close()


@GATEWAYS
@pytest.mark.parametrize("key", ["another-key", None])
async def test_a_key_that_is_not_good(gateway: str, key: str | None) -> None:
    async with world(gateway) as here:
        stranger = opened(config(gateway, here.fake.url, key))
        refused = await refusal(stranger)
        assert refused.reason is CloseReason.UNAUTHORIZED
        assert_tells_nothing(refused, "another-key")
        await stranger.close()


@GATEWAYS
async def test_a_key_that_cannot_be_sent(gateway: str) -> None:
    async with world(gateway) as here:
        stranger = opened(config(gateway, here.fake.url, "two\r\nlines"))
        refused = await refusal(stranger)
        assert refused.reason in {CloseReason.REFUSED, CloseReason.UNAUTHORIZED}
        assert_tells_nothing(refused, "lines")
        await stranger.close()


async def test_an_instance_that_the_broker_does_not_know() -> None:
    """WAHA says nothing of that: whoever comes may read, and hears nothing."""
    async with world("baileys") as here:
        here.fake.instances.clear()
        refused = await refusal(here.connector)
        assert refused.reason is CloseReason.UNKNOWN_INSTANCE
        assert_tells_nothing(refused)
        await here.until_readers(0)


@GATEWAYS
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, CloseReason.UNAUTHORIZED),
        (403, CloseReason.UNAUTHORIZED),
        (404, CloseReason.UNKNOWN_INSTANCE),
        (429, CloseReason.REFUSED),
        (500, CloseReason.REFUSED),
        (502, CloseReason.REFUSED),
        (503, CloseReason.REFUSED),
        (200, CloseReason.PROTOCOL),
        (400, CloseReason.PROTOCOL),
        (426, CloseReason.PROTOCOL),
    ],
)
async def test_a_refusal_has_a_reason(gateway: str, status: int, reason: CloseReason) -> None:
    async with world(gateway) as here:
        here.fake.trouble(PATHS[gateway], "status", status=status, body="<html>It works!</html>", times=None)
        refused = await refusal(here.connector)
        assert refused.reason is reason
        assert_tells_nothing(refused, "html")
        assert here.fake.readers(NAME) == 0


@GATEWAYS
@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("86400", 3600.0), ("soon", None)])
async def test_how_long_to_wait_is_passed_on(gateway: str, said: str, seconds: float | None) -> None:
    async with world(gateway) as here:
        here.fake.trouble(PATHS[gateway], "status", status=429, headers={"Retry-After": said})
        refused = await refusal(here.connector)
        assert (refused.reason, refused.retry_after_s) == (CloseReason.REFUSED, seconds)


@GATEWAYS
async def test_a_redirect_is_not_followed(gateway: str) -> None:
    async with world(gateway) as here, endpoint(hanging) as elsewhere:
        target = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        here.fake.trouble(PATHS[gateway], "status", status=302, headers=target, body="")
        refused = await refusal(here.connector)
        assert refused.reason is CloseReason.PROTOCOL
        assert elsewhere.connections == 0, "the key would have gone along"


@GATEWAYS
async def test_a_reset_instead_of_an_answer(gateway: str) -> None:
    async with world(gateway) as here:
        here.fake.trouble(PATHS[gateway], "reset")
        refused = await refusal(here.connector)
        assert refused.reason is CloseReason.REFUSED
        connection = await here.connect()
        sent = here.emit()
        assert [frame.body for frame in await frames(connection, 1)] == sent, "the next time is not spoiled by it"
        await connection.close()


@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
@GATEWAYS
async def test_a_connect_that_was_cancelled_leaves_nothing_open(gateway: str) -> None:
    async with world(gateway) as here:
        chance, made = random.Random(3), 0
        for _ in range(150):
            with anyio.move_on_after(chance.uniform(0, 0.006)):
                connection = await here.connect()
                made += 1
                with anyio.CancelScope(shield=True):
                    await connection.close()
        assert 0 < made < 150, "some of both"
        await here.until_readers(0)
        assert repr(here.connector).endswith(" 0 open>")


# ─── servers that have their own idea of a websocket ───


def accepting(*after: bytes, cut: bool = False) -> Behaviour:
    """A handshake, then these bytes; `cut`: and the end, else until the other side has gone."""

    async def behave(connection: Connection) -> None:
        heard = await connection.hear()
        key = heard.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324 - RFC 6455, 1.3
        head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        await connection.say(head.encode() + b"".join(after))
        if not cut:
            await connection.until_closed()

    return behave


Reading = Callable[[], Awaitable[tuple[list[bytes], ConnectionClosed]]]


@asynccontextmanager
async def talking_to(behaviour: Behaviour, gateway: str = "waha") -> AsyncIterator[Reading]:
    """What is read of such a server, and how it ends."""
    async with endpoint(behaviour) as server:
        connector = opened(config(gateway, f"http://127.0.0.1:{server.port}"))

        async def read() -> tuple[list[bytes], ConnectionClosed]:
            connection = await connector.connect(instance(gateway), after=None, timeout_s=PATIENCE_S)
            found, closed = await until_closed(connection)
            await connection.close()
            return [frame.body for frame in found], closed

        yield read
        with anyio.fail_after(PATIENCE_S):
            await server.closed.wait()
        await connector.close()


HELLO = b"\x81\x02{}"


@pytest.mark.parametrize(
    "broken",
    [
        b"\xc1\x02{}",  # compressed, and nobody asked for that
        b"\x83\x02{}",  # an opcode that does not exist
        b"\x80\x02{}",  # goes on with what never began
        b"\x09\x00",  # a ping in pieces
        b"\x89\x7e\x00\x80" + b"x" * 128,  # a ping too long
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",  # longer than anything
        b"\x81\x7f" + (MAX_FRAME_BYTES + 1).to_bytes(8),
        b"\x01\x7f" + MAX_FRAME_BYTES.to_bytes(8) + b"x" * MAX_FRAME_BYTES + b"\x80\x01x",  # too long in all its pieces
        b"\x88\x01x",  # a goodbye cut in half
        b"\x88\x02\x03\xec",  # a code that is not to be sent
        b"\x88\x03\x03\xe8\xff",  # a reason that is no text
    ],
)
async def test_what_no_websocket_allows_ends_it(broken: bytes) -> None:
    async with talking_to(accepting(HELLO, broken)) as read:
        found, closed = await read()
        assert (found, closed.reason) == ([b"{}"], CloseReason.PROTOCOL)
        assert_tells_nothing(closed)


async def test_a_larger_frame_ends_a_websocket() -> None:
    async with world("waha") as here:
        connection = await here.connect()
        await here.until_readers(1)
        sent = here.emit()
        here.fake.streams.tell(NAME, "large", b"x" * (MAX_FRAME_BYTES + 1))
        found, closed = await until_closed(connection)
        assert (bodies(found), closed.reason) == (sent, CloseReason.PROTOCOL)
        assert_tells_nothing(closed)
        await connection.close()


@pytest.mark.parametrize("sign", [b"\x89\x00", b"\x8a\x00"], ids=["pings", "pongs"])
async def test_signs_of_life_without_end_end_a_websocket(sign: bytes) -> None:
    async with talking_to(accepting(HELLO, sign * 200_000)) as read:
        found, closed = await read()
        assert (found, closed.reason) == ([b"{}"], CloseReason.PROTOCOL)
        assert_tells_nothing(closed)


async def test_a_message_in_pieces_with_a_ping_between_comes_whole() -> None:
    pieces = b"\x01\x01{", b"\x89\x00", b'\x00\x03"a"', b"\x80\x03:1}", b"\x88\x02\x03\xe9"
    async with talking_to(accepting(*pieces)) as read:
        found, closed = await read()
        assert (found, closed.reason) == ([b'{"a":1}'], CloseReason.SERVER_LEFT)


async def test_a_connection_that_ends_without_a_goodbye_is_broken_and_what_came_before_counts() -> None:
    async with talking_to(accepting(HELLO, HELLO, b"\x81\x05{", cut=True)) as read:
        found, closed = await read()
        assert (found, closed.reason) == ([b"{}", b"{}"], CloseReason.BROKEN)


async def test_a_goodbye_without_a_code_is_one() -> None:
    async with talking_to(accepting(HELLO, b"\x88\x00")) as read:
        found, closed = await read()
        assert (found, closed.reason) == ([b"{}"], CloseReason.SERVER_LEFT)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: d3Jvbmc=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"not even HTTP\r\n\r\n",
    ],
)
@GATEWAYS
async def test_an_answer_that_is_no_stream(gateway: str, head: bytes) -> None:
    async with endpoint(answering_once(head)) as server:
        connector = opened(config(gateway, f"http://127.0.0.1:{server.port}"))
        refused = await refusal(connector)
        assert refused.reason is CloseReason.PROTOCOL
        assert_tells_nothing(refused)
        await connector.close()


async def test_a_peer_that_floods_and_one_that_drips_are_read_alike() -> None:
    many = HELLO * 20_000

    async def drip(connection: Connection) -> None:
        await accepting(cut=True)(connection)
        for start in range(0, len(HELLO) * 50, 3):
            await connection.say((HELLO * 50)[start : start + 3])
            await anyio.lowlevel.checkpoint()

    async with talking_to(accepting(many, cut=True)) as read:
        found, _ = await read()
        assert found == [b"{}"] * 20_000
    async with talking_to(drip) as read:
        found, _ = await read()
        assert found == [b"{}"] * 50


def test_the_key_of_this_suite_is_one_that_would_be_found() -> None:
    with pytest.raises(AssertionError):
        assert_tells_nothing(ConnectionClosed(CloseReason.REFUSED, f"http://x?x-api-key={KEY}; "))
