"""Endpoints on real loopback sockets that do everything an endpoint should not. Each behaviour is a coroutine over one connection."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

CERTIFICATE = Path(__file__).parent / "certificates" / "localhost.pem"
"""Self-signed for localhost and 127.0.0.1, with its key; trusted by nobody but the tests that ask for it."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request; `connection` counts from 1."""

    connection: int
    request_line: bytes
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """What a listening socket has seen."""

    port: int
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    closed: anyio.Event = field(default_factory=anyio.Event)
    """Set when a connection has ended."""


class Connection:
    """One accepted connection, as a behaviour sees it."""

    def __init__(self, stream: ByteStream, endpoint: Endpoint) -> None:
        self._stream = stream
        self._buffered = BufferedByteReceiveStream(stream)
        self._endpoint = endpoint
        self._number = endpoint.connections

    async def hear(self) -> Heard:
        """The next request, whole."""
        head = await self._buffered.receive_until(b"\r\n\r\n", 65_536)
        request_line, *lines = head.split(b"\r\n")
        headers = {k.decode().lower(): v.decode().strip() for k, _, v in (line.partition(b":") for line in lines)}
        body = await self._buffered.receive_exactly(int(headers.get("content-length", 0)))
        heard = Heard(connection=self._number, request_line=request_line, headers=headers, body=body)
        self._endpoint.heard.append(heard)
        return heard

    async def say(self, data: bytes) -> None:
        await self._stream.send(data)

    async def until_closed(self) -> None:
        """Returns when the other side has closed."""
        while True:
            await self._stream.receive()

    def reset(self) -> None:
        """The next close sends RST instead of FIN."""
        raw = self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 (anyio's, not Django's)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


Behaviour = Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def endpoint(behaviour: Behaviour, *, tls: bool = False, host: str = "127.0.0.1") -> AsyncIterator[Endpoint]:
    """Listens on a free loopback port for as long as the block runs."""
    listener = await anyio.create_tcp_listener(local_host=host, local_port=0)
    seen = Endpoint(port=listener.extra(SocketAttribute.local_port))  # noqa: S610

    async def serve(stream: ByteStream) -> None:
        seen.connections += 1
        seen.open_connections += 1
        try:
            async with stream:
                await behaviour(Connection(stream, seen))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead, anyio.ClosedResourceError):
            pass  # the other side went away: what most of these tests are about
        finally:
            seen.open_connections -= 1
            seen.closed.set()

    async with anyio.create_task_group() as group:
        group.start_soon((TLSListener(listener, _server_tls(), standard_compatible=False) if tls else listener).serve, serve)
        yield seen
        group.cancel_scope.cancel()
    await listener.aclose()


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a socket that lets connections in and never reads a byte: no TLS hello is answered, no large body is taken."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a socket that listens but whose queue is full: a further SYN gets no answer."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def refused_port() -> int:
    """A port on which nobody listens (any more)."""
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port: int = gone.getsockname()[1]
        return port


def answering(*responses: bytes) -> Behaviour:
    """One response for each request, the last again and again; keeps the connection alive."""

    async def behave(connection: Connection) -> None:
        left = list(responses)
        while True:
            await connection.hear()
            await connection.say(left.pop(0) if len(left) > 1 else left[0])

    return behave


def answering_once(response: bytes, *, reset: bool = False) -> Behaviour:
    """One response, then the end."""

    async def behave(connection: Connection) -> None:
        await connection.hear()
        await connection.say(response)
        if reset:
            connection.reset()

    return behave


async def hanging(connection: Connection) -> None:
    """Reads the request and never answers."""
    await connection.hear()
    await connection.until_closed()


async def endless(connection: Connection) -> None:
    """A body without an end, as fast as it is taken."""
    await connection.hear()
    await connection.say(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await connection.say(b"x" * 16_384)


async def dripping(connection: Connection) -> None:
    """A status line, half a body, and then nothing until the other side gives up."""
    await connection.hear()
    await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"x" * 2000)
    await connection.until_closed()


async def closing_when_idle(connection: Connection) -> None:
    """Answers one request and resets the connection when the next has come: the race of every reused connection."""
    await connection.hear()
    await connection.say(OK)
    await connection.hear()
    connection.reset()


def _server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context
