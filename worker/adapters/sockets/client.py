"""Opening one broker's streams over HTTP: as many connections as there are instances, no retry, no redirect, no cookie, no proxy.

One connector, one session and one TLS context for all of them. Nothing is pooled: a stream's connection is never used again.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import NamedTuple, Protocol, TypeVar

import aiohttp
import anyio
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from aiohttp.http_websocket import WSMessageTextBytes
from yarl import URL

from worker.adapters.brokers.answers import retry_after_s
from worker.adapters.clock import utc_now
from worker.adapters.sockets.reasons import Ending, of_exception, of_status
from worker.instances.broker import BrokerConfig
from worker.websocket.port import CloseReason

READ_BUFFER_BYTES = 64 * 1024
"""Of one stream, before reading pauses; only what has arrived takes memory."""
CLOSE_WITHIN_S = 1.0
LEAVE_SILENCE_S, LEAVE_WITHIN_S = 1.0, 5.0
"""After our goodbye: how long nothing may come, and how long anything may."""
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
T = TypeVar("T")
Session = aiohttp.ClientSession
Message = aiohttp.WSMessage | WSMessageTextBytes


class Reaching(NamedTuple):
    """How a broker's host is found and believed; None: as this machine does."""

    resolver: AbstractResolver | None = None
    tls: ssl.SSLContext | None = None


class Closing(Protocol):
    """What the client closes with itself."""

    async def close(self) -> None: ...


class StreamClient:
    """The streams of one broker; the session is made on first use, inside the loop."""

    def __init__(self, config: BrokerConfig, reaching: Reaching) -> None:
        self.config = config
        self.broker = f"broker {config.id} ({config.gateway})"
        self.open: set[Closing] = set()
        self._reaching = reaching
        self._session: Session | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<StreamClient {self.broker} {len(self.open)} open>"

    def url(self, path: str, query: Mapping[str, str]) -> URL:
        """Below the path of the broker's own url, whose query is left out."""
        base = URL(self.config.url)
        return base.with_path(base.raw_path.rstrip("/") + path, encoded=True).with_query(query)

    async def opened(self, timeout_s: float, opening: Callable[[Session], Awaitable[T]]) -> T:
        """What `opening` makes of the session. Raises `ConnectionClosed`; cancelled, it leaves nothing open."""
        if self._is_closed:
            raise Ending(CloseReason.REFUSED, "is not connected to any more, this worker is stopping").closed(self.broker)
        try:
            with anyio.move_on_after(timeout_s):
                return await opening(self._made())
        except aiohttp.WSServerHandshakeError as refused:
            ending = of_status(refused.status, retry_after_s(refused.headers.get(hdrs.RETRY_AFTER) if refused.headers else None, utc_now()))
            raise ending.closed(self.broker) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise of_exception(exc).closed(self.broker) from None
        except ValueError:  # a line break in the key
            raise Ending(CloseReason.REFUSED, "has a url or an api_key that cannot be sent").closed(self.broker) from None
        raise Ending(CloseReason.TIMEOUT, f"gave no stream within {timeout_s:g} s").closed(self.broker)

    async def close(self) -> None:
        """Idempotent; takes a second at most, also where a peer does not say goodbye."""
        self._is_closed = True
        with anyio.move_on_after(CLOSE_WITHIN_S / 2, shield=True):
            for connection in tuple(self.open):
                await connection.close()
        session, self._session = self._session, None
        if session is not None:
            with anyio.move_on_after(CLOSE_WITHIN_S / 2, shield=True):
                await session.close()

    def _made(self) -> Session:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, resolver=self._reaching.resolver, ssl=self._reaching.tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BUFFER_BYTES,
                ws_response_class=Socket,
                trace_configs=[_refusing_redirects()],
            )
            self._session._retry_connection = False  # noqa: SLF001 - aiohttp has no public switch; its own test client does the same
        return self._session


class Socket(aiohttp.ClientWebSocketResponse):
    """aiohttp's websocket, read message by message: its own `receive` and `close` throw away what came before the peer's goodbye."""

    async def next_message(self) -> Message:
        """Cancel-safe: what was not answered comes with the next call. Raises `EofStream`, `WebSocketError`, `ClientError`."""
        return await self._reader.read()

    def drop(self) -> None:
        """Closes the connection now, after what was written. Idempotent."""
        self._set_closed()
        self._parser = None
        self._response.close()


def arrived(content: aiohttp.StreamReader) -> bytes:
    """What is in the buffer, also where the connection has broken since: `readany` then gives nothing any more."""
    return content._read_nowait(-1) if content._buffer else b""  # noqa: SLF001 - aiohttp has no other way to what came before a break


def _refusing_redirects() -> aiohttp.TraceConfig:
    """The library follows a redirect of a handshake, and would take the key along to wherever that points."""

    async def refuse(_session: Session, _context: SimpleNamespace, told: aiohttp.TraceRequestRedirectParams) -> None:
        told.response.close()
        raise aiohttp.WSServerHandshakeError(
            told.response.request_info, (), status=told.response.status, message="redirect", headers=told.response.headers
        )

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace
