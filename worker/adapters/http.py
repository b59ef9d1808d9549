"""The transport over aiohttp: one attempt, its deadline, the stage it ended in. Hot path: plain asyncio, no task per attempt.

Owns the client session, its connections and their timing. Decides nothing about retries (and aiohttp repeats only
idempotent methods by itself, never a POST), keeps no cookies, follows no redirects, uses no proxy.

Where an attempt is, as seen from outside of aiohttp:

```
 deliver ──▶ socket_factory ──▶ TLS context's wrap_bio ──▶ connector.connect returns ──▶ write buffer empty ──▶ status line
         dns               connect                     tls                          send                  first_byte
```

A pooled connection jumps to `send`; a plain one never sees `tls`. One sweep every 20 ms ends what is past its deadline, so an
attempt costs no timer. The body of an answer is not read: aiohttp's own flow control lets at most 64 KiB in, its end gives the
connection back to the pool, and the sweep closes what has not ended after 1 s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from io import BytesIO
from time import perf_counter
from typing import Any

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from worker.adapters.http_failures import ForbiddenDestination, explain
from worker.adapters.http_urls import Urls
from worker.domain.deadline import Deadline
from worker.domain.destinations import Destinations
from worker.event_integration.transport import Answer, Cause, Failure, Request, Stage

SWEEP_EVERY_S = 0.02
BODY_GRACE_S = 1.0
MAX_BODY_BYTES = 65_536
MAX_DRAINS = 256
WHOLE_BODY_BYTES = 65_536
KEEPALIVE_S = 30.0
LOOKUP_DEADLINE_S = 30.0
CLOSE_DEADLINE_S = 1.0
DNS_CACHE_S = 10
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class AiohttpTransport:
    """`Transport` for real sockets. To be made inside a running loop; `close` it.

    `destinations` is asked with each URL, and again with each address and port before a socket is made to just that address: a name
    that is looked up anew between the two answers changes nothing. Of several addresses the refused are passed over. `tls` comes from
    `tls_context`; one context is shared by all connections, because a new one blocks the loop for 45 ms.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._destinations = destinations
        self._resolver = _BoundedResolver(resolver or aiohttp.AsyncResolver())
        self._connector = _Connector(
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            ssl=tls or tls_context(),
            resolver=self._resolver,
            ttl_dns_cache=DNS_CACHE_S,
            socket_factory=self._make_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding"),
            read_bufsize=MAX_BODY_BYTES // 2,
        )
        self._urls = Urls(destinations)
        self._under_way: set[_Attempt] = set()
        self._earliest_s = float("inf")
        self._drains: deque[tuple[float, aiohttp.ClientResponse]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def deliver(self, request: Request, deadline: Deadline) -> Answer | Failure:
        """One attempt (see the port). A deadline that has passed already ends in stage `queue`; nothing is sent."""
        now_s = self._loop.time()
        if deadline.has_passed(now_s):
            return Failure(stage=Stage.QUEUE, cause=Cause.TIMEOUT, detail=f"{deadline.name} passed before the attempt began")
        attempt = _Attempt(deadline.at_s)
        _current.set(attempt)
        self._watch(attempt)
        response = None
        try:
            # A large body goes out in pieces, between which the loop turns.
            body = request.body if len(request.body) <= WHOLE_BODY_BYTES else BytesIO(request.body)
            response = await self._session.post(self._urls.parsed(request.url), data=body, headers=request.headers, allow_redirects=False)
        except BaseException as exc:  # noqa: ASYNC103 - what is not raised again is the sweep’s own cancellation, taken back
            if attempt.took_back_its_cancellation():
                return attempt.failure(Cause.TIMEOUT, f"{deadline.name} passed")
            if not isinstance(exc, Exception):
                raise
            return attempt.failed(exc)
        finally:
            self._under_way.discard(attempt)
            if response is None:
                attempt.abort()
        attempt.took_back_its_cancellation()
        self._drain(response)
        return Answer(
            status=response.status,
            retry_after=response.headers.get("Retry-After"),
            phases_s=attempt.phases_s(Stage.FIRST_BYTE),
        )

    async def close(self) -> None:
        """Idempotent. Attempts still under way end as failures."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._drains:
            _abort(self._drains.popleft()[1])
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await self._connector.close(abort_ssl=True)
            await self._session.close()
            await self._resolver.close()

    def statistics(self) -> Mapping[str, int]:
        return {"under_way": len(self._under_way), "drains": len(self._drains)}

    def __repr__(self) -> str:
        return f"<AiohttpTransport {len(self._under_way)} under way, {len(self._drains)} bodies draining>"

    def _watch(self, attempt: _Attempt) -> None:
        self._under_way.add(attempt)
        self._earliest_s = min(self._earliest_s, attempt.deadline_s)
        self._keep_sweeping()

    def _keep_sweeping(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_EVERY_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        if now_s >= self._earliest_s:
            for attempt in self._under_way:
                if attempt.deadline_s <= now_s:
                    attempt.expire()
            self._earliest_s = min((a.deadline_s for a in self._under_way if not a.has_expired), default=float("inf"))
        if self._drains:
            self._sweep_drains(now_s)
        if self._under_way or self._drains:
            self._keep_sweeping()

    def _sweep_drains(self, now_s: float) -> None:
        for _ in range(len(self._drains)):
            ends_s, response = self._drains.popleft()
            if response.closed:
                continue
            if now_s >= ends_s or response.content.total_bytes > MAX_BODY_BYTES:
                _abort(response)
            else:
                self._drains.append((ends_s, response))

    def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Lets the body end behind the caller's back; it usually has, having come with the status line."""
        if response.closed:
            return
        if (response.content_length or 0) > MAX_BODY_BYTES or self._connector.closed:
            _abort(response)
            return
        if len(self._drains) >= MAX_DRAINS:
            _abort(self._drains.popleft()[1])
        self._drains.append((self._loop.time() + BODY_GRACE_S, response))
        self._keep_sweeping()

    def _make_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        attempt = _current.get()
        refusal = self._destinations.refusal(address[0], address[1])
        if refusal is not None:
            raise ForbiddenDestination(refusal)
        made = socket.socket(family, kind, protocol)
        attempt.connects(perf_counter())
        return made


def tls_context(cafile: str | None = None) -> ssl.SSLContext:
    """Verifies like `ssl.create_default_context`, and tells attempts when their handshake begins. Blocks for some 45 ms."""
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    if cafile is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Attempt:
    """The instants of one attempt and the cancellation that its deadline asked for.

    Instants are on `perf_counter`: uvloop's own clock stands still within a turn of the loop and counts whole milliseconds.
    Only `deadline_s` is on the loop's clock.
    """

    __slots__ = (
        "_cancelling", "_expired_in", "_task",
        "began_s", "connected_s", "deadline_s", "handshake_s", "has_expired", "socket_s", "transport",
    )  # fmt: skip

    def __init__(self, deadline_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.began_s = perf_counter()
        self.deadline_s = deadline_s
        self.socket_s: float | None = None
        self.handshake_s: float | None = None
        self.connected_s: float | None = None
        self.transport: asyncio.Transport | None = None
        self.has_expired = False
        self._expired_in: Stage | None = None

    def connects(self, now_s: float) -> None:
        """A socket was made; a second one (the next address of the host) connects anew, whatever the first had reached."""
        self.handshake_s = None
        if self.socket_s is None:
            self.socket_s = now_s

    def expire(self) -> None:
        """Cancels the await inside `deliver`, once, and notes where it was: what follows tears the evidence down."""
        if not self.has_expired:
            self.has_expired = True
            self._expired_in = self.stage()
            self._task.cancel()

    def took_back_its_cancellation(self) -> bool:
        """True when the deadline, and nobody else, cancelled the task (the way of `asyncio.Timeout`)."""
        return self.has_expired and self._task.uncancel() <= self._cancelling

    def abort(self) -> None:
        """Closes at once; a polite TLS goodbye would wait 30 s for a peer that hangs."""
        if self.transport is not None:
            self.transport.abort()

    def stage(self) -> Stage:
        if self.connected_s is not None:
            unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
            return Stage.SEND if unsent else Stage.FIRST_BYTE
        if self.handshake_s is not None:
            return Stage.TLS
        return Stage.DNS if self.socket_s is None else Stage.CONNECT

    def phases_s(self, last: Stage) -> dict[Stage, float]:
        """Seconds per stage that was entered; `send` stands alone only where the attempt ended in it."""
        phases: dict[Stage, float] = {}
        until_s = perf_counter()
        if self.connected_s is not None:
            phases[last] = until_s - self.connected_s
            until_s = self.connected_s
        if self.handshake_s is not None:
            phases[Stage.TLS] = until_s - self.handshake_s
            until_s = self.handshake_s
        if self.socket_s is not None:
            phases[Stage.CONNECT] = until_s - self.socket_s
            until_s = self.socket_s
        if self.socket_s is not None or self.connected_s is None:
            phases[Stage.DNS] = until_s - self.began_s
        return phases

    def failure(self, cause: Cause, detail: str) -> Failure:
        stage = self._expired_in or self.stage()
        return Failure(stage=stage, cause=cause, detail=detail, phases_s=self.phases_s(stage))

    def failed(self, exc: Exception) -> Failure:
        cause, detail = explain(exc)
        if cause is Cause.FORBIDDEN and self.socket_s is not None:
            # The last of several addresses was forbidden, another was allowed and failed: that one may work tomorrow.
            cause, detail = Cause.REFUSED, "no address that is allowed let us connect"
        return self.failure(cause, detail)


_current: ContextVar[_Attempt] = ContextVar("attempt")
"""Sockets are made and handshakes begun in tasks and callbacks of aiohttp; the context is what they share with `deliver`."""


class _Connector(aiohttp.TCPConnector):
    """Tells an attempt when it has its connection."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (aiohttp's signature; it never times out here)
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        attempt = _current.get()
        attempt.connected_s = perf_counter()
        attempt.transport = connection.transport
        return connection


class _TlsContext(ssl.SSLContext):
    """Tells an attempt when its handshake begins: asyncio and uvloop ask for the TLS object at that moment."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 (the standard library's signature)
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        attempt = _current.get()
        attempt.handshake_s = perf_counter()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class _BoundedResolver(AbstractResolver):
    """aiohttp shares one look-up per host and shields it from cancellation; this ends it when nobody can still be waiting."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        with anyio.move_on_after(LOOKUP_DEADLINE_S):
            return await self._inner.resolve(host, port, family)
        raise OSError(None, f"no answer within {LOOKUP_DEADLINE_S:.0f} s")

    async def close(self) -> None:
        await self._inner.close()


def _abort(response: aiohttp.ClientResponse) -> None:
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()
