"""Every path of the API over HTTP: from a request to a `Call`, from a `Reply` or an error to an answer (contract 5).

Owns the order of the questions: which path, whose key, whose data, what is asked, how often. 503 `STARTING` until there is something
to ask. No answer is bare: each has its request id, and every error its cause and next step.
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import uuid4

import anyio
import orjson
import structlog
from aiohttp import hdrs, web
from structlog.contextvars import bind_contextvars, bound_contextvars, unbind_contextvars

from worker.api.authentication import TENANT_ID, Authentication, Credentials
from worker.api.endpoints import ApiError, Call, CallKind, Endpoint, Reply
from worker.api.errors import REQUEST_ID, error
from worker.api.openapi import document
from worker.api.paths import Match, Paths, allows
from worker.api.reading import asked_query, idempotency_key, only_header, sent_body
from worker.api.reference import CONTENT_SECURITY_POLICY, page
from worker.api.server import Handler
from worker.domain.errors import StoreFull, StoreUnavailable

CALL_S = 120.0
"""`api_call`: one call, whatever it waits for. Each part of it has a shorter deadline of its own."""
MAX_CALLS = 1_024
MAX_CALLS_PER_TENANT = 256
AGAIN_S = 1.0
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_ALWAYS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}

_PAGE = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}

Answers: TypeAlias = Callable[[web.Request, str], Awaitable[web.Response]]

log = structlog.get_logger("worker.api")


class Meter(Protocol):
    """Counts calls against the tenant's limits."""

    async def count(self, call: Call, kind: CallKind) -> None:
        """Raises `ApiError` 429 when there were too many."""
        ...


@dataclass(frozen=True, slots=True)
class _Behind:
    endpoints: Sequence[Endpoint]
    paths: Paths
    authentication: Authentication
    meter: Meter
    document: bytes
    page: bytes


class Frame:
    """Stands from the first moment; answers once `open`, until `is_shut`."""

    def __init__(self, *, is_shut: Callable[[], bool] = lambda: False) -> None:
        self._is_shut = is_shut
        self._behind: _Behind | None = None
        self._under_way: dict[str, int] = {}

    def open(self, endpoints: Sequence[Endpoint], authentication: Authentication, meter: Meter) -> None:
        """What it answers from now on."""
        described = document(endpoints)
        self._behind = _Behind(endpoints, Paths(endpoints), authentication, meter, document=orjson.dumps(described), page=page(described))

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._behind.endpoints if self._behind is not None else ()

    def statistics(self) -> dict[str, object]:
        locks = self._behind.authentication.lock_out.statistics() if self._behind is not None else {}
        return {"under_way": sum(self._under_way.values()), "tenants_calling": len(self._under_way), "guessing": locks}

    def routes(self) -> list[web.RouteDef]:
        """One for all paths: which of them exist is known only once the store is open. And what describes them, open to everybody."""
        return [
            web.route("*", "/api/{path:.*}", self._serving(self._answer)),
            web.get("/openapi.json", self._serving(self._describe)),
            web.get("/docs", self._serving(self._explain)),
        ]

    def _serving(self, answers: Answers) -> Handler:
        """The answer to one request, with its id; never raises for what a request or a store can do."""

        async def serve(request: web.Request) -> web.StreamResponse:
            request_id = _request_id(request)
            with bound_contextvars(request_id=request_id):
                try:
                    answer = await _answer_or_refusal(answers, request, request_id)
                finally:
                    unbind_contextvars("actor", "tenant")  # the connection's next request may be somebody else's
            answer.headers[REQUEST_ID] = request_id
            return answer

        return serve

    async def _describe(self, _request: web.Request, _request_id: str) -> web.Response:
        """The OpenAPI document."""
        return web.Response(body=self._opened().document, content_type="application/json", headers=_ALWAYS)

    async def _explain(self, _request: web.Request, _request_id: str) -> web.Response:
        """The same for people."""
        return web.Response(body=self._opened().page, content_type="text/html", charset="utf-8", headers=_ALWAYS | _PAGE)

    def _opened(self) -> _Behind:
        if self._behind is None:
            raise ApiError(503, "STARTING", "the worker is not ready yet; try again", retry_after_s=AGAIN_S)
        return self._behind

    async def _answer(self, request: web.Request, request_id: str) -> web.Response:
        behind = self._opened()
        if self._is_shut():
            raise ApiError(503, "DRAINING", "this worker is going away; try again, another one answers", retry_after_s=AGAIN_S)
        match = behind.paths.find(request.rel_url.raw_path)
        if match is None:
            raise ApiError(404, "NOT_FOUND", "no such path; /openapi.json lists what there is")
        endpoint = match.endpoint(request.method)
        if endpoint is None:
            return _other_method(match, request, request_id)
        call = await _call(request, request_id, endpoint, match, behind.authentication)
        with self._one_more(call), anyio.move_on_after(CALL_S):
            if (kind := endpoint.kind(call)) is not None and not call.is_admin:
                await behind.meter.count(call, kind)
            return _response(await endpoint.handle(call))
        raise ApiError(503, "DEADLINE_EXCEEDED", f"not done within {CALL_S:g} s; try again", retry_after_s=AGAIN_S)

    @contextmanager
    def _one_more(self, call: Call) -> Iterator[None]:
        """Calls under way are bounded, in all and for one tenant: nobody's slow calls use up everybody's room."""
        whose = call.tenant or ""
        mine = self._under_way.get(whose, 0)
        if mine >= MAX_CALLS_PER_TENANT or sum(self._under_way.values()) >= MAX_CALLS:
            raise ApiError(503, "TOO_MANY_CALLS", "too many calls are under way; wait for some of them", retry_after_s=AGAIN_S)
        self._under_way[whose] = mine + 1
        try:
            yield
        finally:
            self._under_way[whose] -= 1
            if not self._under_way[whose]:
                del self._under_way[whose]


async def _answer_or_refusal(answers: Answers, request: web.Request, request_id: str) -> web.Response:
    try:
        return await answers(request, request_id)
    except ApiError as exc:
        return _refusal(exc, request_id)
    except StoreUnavailable as exc:
        log.warning("api_store_unavailable", cause=str(exc), next_step="the caller was told to try again")
        return _refusal(_store_away(), request_id)
    except StoreFull:
        return _refusal(ApiError(503, "STORE_FULL", "the store takes nothing more; free or add memory", retry_after_s=10), request_id)
    except Exception as exc:  # noqa: BLE001 -- the edge: recorded and answered
        # The type and the lines, not the message: it may quote what was sent.
        stack = "".join(traceback.format_tb(exc.__traceback__))
        log.error("request_failed", method=request.method, cause=type(exc).__name__, stack=stack)  # noqa: TRY400 -- see above
        return error(500, "INTERNAL_ERROR", "a fault of the worker; its log has the cause under this requestId", request_id=request_id)


async def _call(request: web.Request, request_id: str, endpoint: Endpoint, match: Match, authentication: Authentication) -> Call:
    """Raises `ApiError`. The body is read last: nobody without a key makes the worker hold one."""
    shown = Credentials(
        authorization=only_header(request, hdrs.AUTHORIZATION), tenant_id=only_header(request, TENANT_ID), peer=request.remote or ""
    )
    caller = await authentication.caller(shown, endpoint.audience)
    bind_contextvars(actor=caller.actor, tenant=caller.tenant)
    if not allows(endpoint, match.values):
        raise ApiError(404, "NOT_FOUND", "there is nothing of this id; take ids from the lists")
    return Call(
        request_id=request_id,
        actor=caller.actor,
        is_admin=caller.is_admin,
        tenant=caller.tenant,
        path=match.values,
        query=asked_query(request, endpoint),
        idempotency_key=idempotency_key(request, endpoint),
        body=await sent_body(request, endpoint),
    )


def _request_id(request: web.Request) -> str:
    """The caller's own where it is a sane one, so that it can find its call in our log."""
    sent = request.headers.get(REQUEST_ID, "")
    return sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid4().hex


def _other_method(match: Match, request: web.Request, request_id: str) -> web.Response:
    allow: dict[str, str] = {hdrs.ALLOW: ", ".join(match.allowed)}
    if request.method == hdrs.METH_OPTIONS:
        return web.Response(status=204, headers=allow)
    return error(405, "METHOD_NOT_ALLOWED", f"use {' or '.join(sorted(match.endpoints))}", request_id=request_id, headers=allow)


def _response(reply: Reply) -> web.Response:
    headers = {**_ALWAYS, **reply.headers}
    if reply.content is not None:
        return web.Response(status=reply.status, body=reply.content, content_type=reply.content_type, headers=headers)
    if reply.status == 204:  # noqa: PLR2004 -- no content
        return web.Response(status=reply.status, headers=headers)
    parts = [b'"success":true']
    parts += [
        b'"%s":%s' % (name, value.model_dump_json(by_alias=True).encode())
        for name, value in ((b"data", reply.data), (b"meta", reply.meta))
        if value is not None
    ]
    return web.Response(status=reply.status, body=b"{%s}" % b",".join(parts), content_type="application/json", headers=headers)


def _refusal(refused: ApiError, request_id: str) -> web.Response:
    headers: dict[str, str] = dict(_ALWAYS)
    if refused.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(refused.retry_after_s)))
    if refused.status == 401:  # noqa: PLR2004 -- RFC 9110, 15.5.2
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    answer = error(refused.status, refused.code, refused.message, details=refused.details, request_id=request_id, headers=headers)
    if refused.status in _BODY_NOT_READ:
        answer.force_close()
    return answer


_BODY_NOT_READ = frozenset({408, 413})


def _store_away() -> ApiError:
    return ApiError(
        503, "STORE_UNAVAILABLE", "the store did not answer; whether it was done is unknown: look, or try again", retry_after_s=2
    )
