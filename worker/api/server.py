"""The HTTP server: one listener for ingest, health and dashboard. Owns the listener and how it ends; the pages are others'."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import anyio
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from worker.api.errors import error
from worker.api.listening import LISTEN_BACKLOG, why_not
from worker.domain.errors import ConfigurationError

MAX_CONNECTIONS = 4_096
"""Beyond, a connection is closed unanswered. Does not protect against somebody who holds them all open."""
IDLE_CONNECTION_S = 75.0
LINGER_S = 1.0
"""How long the rest of a body is read after an answer given early, so that the sender gets to see the answer."""
CLOSE_S = 2.0
"""`http_close`: what answers under way get once the listener has closed."""

Route: TypeAlias = web.AbstractRouteDef
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger("worker.http")


def application(routes: Iterable[Route], *, max_body_bytes: int) -> web.Application:
    """The pages behind one middleware, so that no answer is bare: every error names its cause in the shape of contract 5."""
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_explained])
    app.add_routes(routes)
    return app


class Listening:
    """Where connections come in. `port`: one of the system's choice where 0 was asked for."""

    def __init__(self, listeners: Sequence[asyncio.Server]) -> None:
        self._listeners = listeners
        self.port: int = listeners[0].sockets[0].getsockname()[1]

    def stop_accepting(self) -> None:
        """Connections that came by now stay; who comes later is taken by whoever else accepts there, or refused. Idempotent."""
        for listener in self._listeners:
            listener.close()


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, listening: Sequence[socket.socket] = ()) -> AsyncIterator[Listening]:
    """Listens inside the block; on sockets that listen already where they are given (others may accept on them too). Leave it last of all.

    Raises `ConfigurationError` when the address cannot be had. A request goes on when its client hangs up: an event half taken in is
    still worth taking in.
    """
    async with _ready_to_accept(app) as accept:
        loop = asyncio.get_running_loop()
        if listening:
            opened = Listening([await loop.create_server(accept, sock=sock, backlog=LISTEN_BACKLOG) for sock in listening])
        else:
            try:
                opened = Listening([await loop.create_server(accept, host, port, backlog=LISTEN_BACKLOG)])
            except OSError as exc:
                raise ConfigurationError([why_not(exc, host, port)]) from exc
        try:
            yield opened
        finally:
            opened.stop_accepting()


@asynccontextmanager
async def _ready_to_accept(app: web.Application) -> AsyncIterator[Callable[[], asyncio.BaseProtocol]]:
    """What makes a protocol for each connection. At the end answers under way get their time."""
    runner = web.AppRunner(app, handler_cancellation=False, shutdown_timeout=CLOSE_S)
    await runner.setup()
    server = runner.server
    assert server is not None, "set up before it listens"
    loop, protocol_log = asyncio.get_running_loop(), _protocol_log()

    def accept() -> asyncio.BaseProtocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            return _TooMany()
        return _Protocol(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None: there is none, as in `AppRunner`
            logger=protocol_log,
            keepalive_timeout=IDLE_CONNECTION_S,
            lingering_time=LINGER_S,
        )

    try:
        yield accept
    finally:
        with anyio.move_on_after(2 * CLOSE_S, shield=True):
            await runner.cleanup()


class _WithoutQuotes(logging.Filter):
    """aiohttp quotes what it could not read, secrets in headers included, as errors of ours: what stays is the fault and its line."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, (HttpProcessingError, web.RequestPayloadError, ConnectionError)):
            record.levelno, record.levelname = logging.INFO, "INFO"
        place = traceback.extract_tb(fault.__traceback__)[-1:] if fault is not None else []
        record.msg = "request_not_read: " + " at ".join([type(fault).__name__, *(f"{Path(at.filename).name}:{at.lineno}" for at in place)])
        record.args = record.exc_info = record.exc_text = None
        return True


def _protocol_log() -> logging.Logger:
    """What aiohttp itself has to say of a connection."""
    protocol_log = logging.getLogger("worker.http.protocol")
    protocol_log.filters = [_WithoutQuotes()]
    return protocol_log


class _Protocol(web.RequestHandler):
    """One connection. What cannot even be read as HTTP is refused in the shape of all errors; aiohttp's own text quotes what was sent."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it, and raises where half an answer is out already
        if status >= 500:  # noqa: PLR2004 -- the class of HTTP statuses that says "our fault"
            return error(status, "INTERNAL_ERROR", "a fault of the worker; its log has the cause")
        answer = error(status, "MALFORMED_REQUEST", "this cannot be read as HTTP/1.1; a line or header has at most 8190 bytes")
        answer.force_close()
        return answer


class _TooMany(asyncio.Protocol):
    """A connection beyond the limit: closed at once, which a balancer understands."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return error(404, "NOT_FOUND", "no such page; README.md lists what is served")
    except web.HTTPMethodNotAllowed as exc:
        allowed = ", ".join(sorted(exc.allowed_methods))
        return error(405, "METHOD_NOT_ALLOWED", f"use {allowed}", headers={"Allow": allowed})
    except web.HTTPRequestEntityTooLarge:
        return error(413, "BODY_TOO_LARGE", "send a smaller body, or raise WORKER_HTTP__MAX_BODY_BYTES")
    except web.HTTPException:
        raise
    except Exception as exc:  # noqa: BLE001 -- the edge: recorded and answered
        request_id = uuid4().hex
        # The type and the lines, not the message (`log.exception` would show it): it may quote what was sent.
        told = {"method": request.method, "route": _route(request), "request_id": request_id, "cause": type(exc).__name__}
        log.error("request_failed", **told, stack="".join(traceback.format_tb(exc.__traceback__)))  # noqa: TRY400 -- see above
        return error(500, "INTERNAL_ERROR", "a fault of the worker; its log has the cause under this requestId", request_id=request_id)


def _route(request: web.Request) -> str:
    """The route's pattern, never the path as sent: that may hold what does not belong into a log."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "?"
