"""Health, for orchestrators, operators and Prometheus: `/livez`, `/readyz`, `/rolez`, `/status`, `/metrics` (contract 6).

Owns who may see what; knows nothing by itself, it asks the callables it was given. No answer waits for anything: they say what
is known now, so that a store that is away never makes a worker look dead.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiohttp import hdrs, web

from worker.api.errors import error
from worker.metrics_text import CONTENT_TYPE


class Readiness(NamedTuple):
    """`reason` says why not, or is empty."""

    ready: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the pages ask. Each answers at once, from memory."""

    ready: Callable[[], Readiness]
    role: Callable[[], Mapping[str, Any]]
    """`{role: standby|active|draining, shards: [{shard, token, validForS, since}], …}`."""
    statistics: Callable[[], Mapping[str, Any]]
    metrics_text: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who may look. `on_loopback`: the listener is bound to loopback, and whoever reaches it may see everything."""

    on_loopback: bool
    admin_key: str | None = field(default=None, repr=False)
    metrics_key: str | None = field(default=None, repr=False)

    def lets_in(self, request: web.BaseRequest, *, metrics: bool = False) -> bool:
        """In constant time. Decided by where we listen, not by the peer: a proxy beside us is on loopback too."""
        if self.on_loopback:
            return True
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        accepted = [self.admin_key, self.metrics_key if metrics else None]
        matches = [key is not None and hmac.compare_digest(_bytes(shown), _bytes(key)) for key in accepted]
        return scheme.lower() == "bearer" and any(matches)


def health_routes(health: Health, keys: Keys) -> list[web.RouteDef]:
    """The five pages."""

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(_request: web.Request) -> web.Response:
        ready, reason = health.ready()
        return web.json_response({"ready": ready, "reason": reason}, status=200 if ready else 503)

    async def rolez(request: web.Request) -> web.Response:
        return _json(health.role()) if keys.lets_in(request) else _wants_key()

    async def status(request: web.Request) -> web.Response:
        return _json(health.statistics()) if keys.lets_in(request) else _wants_key()

    async def metrics(request: web.Request) -> web.Response:
        if not keys.lets_in(request, metrics=True):
            return _wants_key()
        return web.Response(body=health.metrics_text().encode(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    pages = {"/livez": livez, "/readyz": readyz, "/rolez": rolez, "/status": status, "/metrics": metrics}
    return [web.get(path, page) for path, page in pages.items()]


def _bytes(header: str) -> bytes:
    """As sent: what is no UTF-8 in a header arrives as surrogates."""
    return header.encode("utf-8", "surrogateescape")


def _json(value: Mapping[str, Any]) -> web.Response:
    body = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-store"})


def _wants_key() -> web.Response:
    return error(401, "UNAUTHORIZED", "send the operator's key: Authorization: Bearer <WORKER_HTTP__ADMIN_KEY>")
