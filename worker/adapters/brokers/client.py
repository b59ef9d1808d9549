"""Asking one broker over HTTP: its connections, the time a call may take, and what goes wrong on the way, in our words.

Repeats nothing (retries have one owner, `worker/instances/`), follows no redirect, keeps no cookie, uses no proxy, and reads at most 8 MiB.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import orjson
from aiohttp.abc import AbstractResolver
from yarl import URL

from worker.adapters.brokers.answers import Answer, AnswerTooLong, code_of, failure, retry_after_s
from worker.adapters.clock import utc_now
from worker.adapters.http_failures import explain
from worker.domain.deadline import Deadline
from worker.event_integration.transport import Cause
from worker.instances.broker import BrokerCause, BrokerConfig, BrokerFailure, NoSuchInstance, NotConnected

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_CONNECTIONS = 32
KEEPALIVE_S = 2.0
"""Below what the four keep an idle connection for (Node's default, the shortest, is 5 s): a request never meets a closing one."""
CLOSE_DEADLINE_S = 1.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
_JSON = {"Content-Type": "application/json"}
_REQUEST_IDS = ("x-request-id", "request-id")
_CAUSES = {
    Cause.DNS: BrokerCause.DNS,
    Cause.REFUSED: BrokerCause.CONNECT,
    Cause.RESET: BrokerCause.CONNECT,
    Cause.TLS: BrokerCause.TLS,
    Cause.TIMEOUT: BrokerCause.TIMEOUT,
    Cause.PROTOCOL: BrokerCause.PROTOCOL,
    Cause.FORBIDDEN: BrokerCause.NOT_CONFIGURED,
}


class BrokerClient:
    """The connections to one broker; made on first use, inside the loop.

    `needs_key`: nothing works without one. `tls` None: the machine's own certificates.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        key_header: str,
        needs_key: bool,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.config = config
        self.broker = f"broker {config.id} ({config.gateway})"
        self._keys = {key_header: config.api_key} if config.api_key else {}
        self._missing = (f"brokers.{config.id}.api_key",) if needs_key and not config.api_key else ()
        self._resolver = resolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<BrokerClient {self.broker}>"

    def call(self, timeout_s: float | None, *, changes: bool = False) -> Call:
        """One call of the port, of one or more requests under one deadline. Raises `BrokerFailure` where the broker is not configured."""
        if self._missing:
            raise failure(self.broker, BrokerCause.NOT_CONFIGURED, "has no api_key", missing=self._missing)
        patience_s = self.config.timeout_s if timeout_s is None else timeout_s
        return Call(self, Deadline(self.broker, anyio.current_time() + patience_s), changes=changes)

    async def close(self) -> None:
        """Idempotent; takes a second at most, also where a peer does not say goodbye."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await session.close()

    def session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise failure(self.broker, BrokerCause.CONNECT, "is not asked any more, this worker is stopping")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, resolver=self._resolver, ssl=self._tls or True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
                auto_decompress=False,
                trust_env=False,
                trace_configs=[_watching()],
            )
            # Else a GET or DELETE whose connection broke is sent again behind our back, and its caller's count of attempts is wrong.
            self._session._retry_connection = False  # noqa: SLF001 - aiohttp has no public switch; its own test client does the same
        return self._session

    def url(self, path: str, query: Mapping[str, str]) -> URL:
        """Below the path of the broker's own url, whose query is left out; `path` is quoted already."""
        base = URL(self.config.url)
        return base.with_path(base.raw_path.rstrip("/") + path, encoded=True).with_query(query)

    def keys(self, own: Mapping[str, str] | None) -> Mapping[str, str]:
        """The header with the broker's key; or `own` in its place."""
        return self._keys if own is None else own

    @property
    def key(self) -> str:
        return self.config.api_key or ""


class Call:
    """Requests that share one deadline. `has_changed`: what follows can no longer be said to have changed nothing."""

    def __init__(self, client: BrokerClient, deadline: Deadline, *, changes: bool) -> None:
        self._client = client
        self._deadline = deadline
        self._changes = changes
        self.has_changed = False

    async def get(self, path: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("GET", path, query, None, headers)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        return self._noted(await self._ask("POST", path, None, orjson.dumps(body or {}), headers))

    async def delete(self, path: str) -> Answer:
        return self._noted(await self._ask("DELETE", path, None, None, None))

    def _noted(self, answer: Answer) -> Answer:
        self.has_changed = self.has_changed or (self._changes and answer.is_success)
        return answer

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes | None, own: Mapping[str, str] | None
    ) -> Answer:
        """One request. Raises `BrokerFailure` where no whole answer came; whatever status did come is an `Answer`."""
        session, keys, trip = self._client.session(), self._client.keys(own), _Trip(changes=self._changes and method != "GET")
        headers = {**keys, **_PLAIN, **({} if body is None else _JSON)}
        try:
            with anyio.move_on_after(self._deadline.left_s(anyio.current_time())):
                url = self._client.url(path, query or {})
                async with session.request(
                    method, url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=trip
                ) as response:
                    trip.status = response.status
                    return Answer(
                        broker=self._client.broker,
                        changes=trip.changes,
                        has_changed=self.has_changed,
                        status=response.status,
                        body=await self._body(response, trip),
                        response_time_ms=trip.lasted_ms(),
                        request_id=next((i for name in _REQUEST_IDS if (i := code_of(response.headers.get(name)))), None),
                        retry_after_s=retry_after_s(response.headers.get("Retry-After"), utc_now()),
                        hidden=tuple(keys.values()),
                    )
        except (aiohttp.ClientError, OSError) as exc:
            cause, detail = explain(exc)
            raise self._failure(_CAUSES.get(cause, BrokerCause.UNKNOWN), f"could not be asked: {detail}", trip) from None
        except ValueError:  # a line break in the key; a key and a password for one header
            raise self._failure(BrokerCause.NOT_CONFIGURED, "has a url or an api_key that cannot be sent", trip) from None
        raise self._failure(BrokerCause.TIMEOUT, f"took too long {trip.where}", trip)

    async def _body(self, response: aiohttp.ClientResponse, trip: _Trip) -> bytes:
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > MAX_BODY_BYTES:
                what = f"answered {response.status} with more than {MAX_BODY_BYTES >> 20} MiB"
                raise self._failure(BrokerCause.PROTOCOL, what, trip, AnswerTooLong)
        return bytes(body)

    def _failure(self, cause: BrokerCause, what: str, trip: _Trip, kind: type[BrokerFailure] = BrokerFailure) -> BrokerFailure:
        return failure(
            self._client.broker,
            cause,
            what,
            kind,
            status=trip.status,
            response_time_ms=trip.lasted_ms(),
            is_certain=not (self.has_changed or (trip.changes and trip.may_have_arrived)),
        )


class _Trip:
    """How far one request has come."""

    def __init__(self, *, changes: bool) -> None:
        self.changes = changes
        self._began_s = perf_counter()
        self.where = "before a connection was free"
        self.may_have_arrived = False
        self.status: int | None = None

    def lasted_ms(self) -> int:
        return int((perf_counter() - self._began_s) * 1000)


def _watching() -> aiohttp.TraceConfig:
    async def looks_up(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        context.trace_request_ctx.where = "to be found by name"

    async def connects(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        context.trace_request_ctx.where = "to accept a connection"

    async def sends(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        context.trace_request_ctx.where = "to answer"
        context.trace_request_ctx.may_have_arrived = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(connects)
    trace.on_dns_resolvehost_start.append(looks_up)
    trace.on_dns_resolvehost_end.append(connects)
    trace.on_connection_create_end.append(sends)
    trace.on_connection_reuseconn.append(sends)
    return trace


class RestBroker:
    """What the four adapters share: who they are, and their client."""

    def __init__(self, client: BrokerClient) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client.config.id}>"

    @property
    def id(self) -> str:
        return self._client.config.id

    @property
    def gateway(self) -> str:
        return self._client.config.gateway

    async def close(self) -> None:
        await self._client.close()

    def _nobody(self, name: str) -> NoSuchInstance:
        return NoSuchInstance(f"{self._client.broker} has no instance {name}; create it, or ask for the list again")

    def _not_connected(self, name: str) -> NotConnected:
        return NotConnected(f"{name} of {self._client.broker} is not connected to WhatsApp; scan its code, or wait until it is")


def segment(name: str) -> str:
    """A name as one segment of a path. Raises `NoSuchInstance` for those that a server takes for directions."""
    if name in {"", ".", ".."}:
        raise NoSuchInstance(f"no broker has an instance named {name!r}; give it a name of letters and digits")
    return quote(name, safe="")
