"""baileys-acessuswpp's instances as docs/api-reference.md and its source of February 2026 say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from worker.adapters.clock import rfc3339, utc_now
from worker.fake_gateway.baileys_events import BaileysStream
from worker.fake_gateway.dialect import PNG, Known, Route, asked, said
from worker.fake_gateway.instances import FakeInstance, State

_STATES = {State.STOPPED: "close", State.SCAN: "connecting", State.OPEN: "open", State.LOST: "connecting", State.FAILED: "qr_timeout"}


class Baileys:
    def __init__(self, known: Known) -> None:
        self._known = known
        self.stream = BaileysStream(known)

    def routes(self) -> Sequence[Route]:
        one = "/instances/{name}"
        return (
            Route("GET", "/health", self._health),
            Route("GET", "/instances", self._list),
            Route("POST", "/instances", self._create),
            Route("GET", one, self._get),
            Route("DELETE", one, self._delete),
            Route("GET", f"{one}/qr.png", self._qr),
            Route("POST", f"{one}/logout", self._logout),
            Route("POST", f"{one}/session/wipe", self._wipe),
            Route("GET", f"{one}/profile-pic", self._picture),
            *self.stream.routes(),
        )

    def guard(self, request: web.Request) -> web.Response | None:
        if not request.path.startswith(("/instances", "/stream")):
            return None
        key = request.headers.get("X-API-Key") or request.query.get("apiKey")
        if key != self._known.api_key:
            return said({"error": "unauthorized"}, 401)
        name = request.match_info.get("name")
        return None if name is None or name in self._known.instances else _unknown(request)

    def error(self, status: int, request: web.Request) -> web.Response:
        if status == 404:  # noqa: PLR2004
            return _unknown(request) if request.match_info.get("name") else web.Response(status=404, text=f"Cannot {request.method}")
        if status == 429:  # noqa: PLR2004
            return said({"error": "rate limit exceeded"}, 429)
        codes = {401: "unauthorized", 409: "conflict", 500: "internal_server_error"}
        return said({"error": codes.get(status, "made_up"), "message": "made up"}, status)

    async def _health(self, _request: web.Request) -> web.Response:
        queue = {"pending": 0, "total": 0, "lastEventAt": None, "lastAckAt": None}
        states = [{"id": i.name, "connected": i.state is State.OPEN, "connectionState": _STATES[i.state]} for i in self._all()]
        return said({"status": "ok", "uptime": 123.45, "instances": states, "queue": queue, "proxyMetrics": {"total": 0}})

    async def _list(self, _request: web.Request) -> web.Response:
        return said([_snapshot(i) for i in self._all()])

    async def _create(self, request: web.Request) -> web.Response:
        name = str((await asked(request)).get("name") or "").strip()
        made_id = re.sub(r"[^A-Za-z0-9_]+", "-", name.lower()) or f"00000000-0000-4000-8000-{len(self._known.instances) + 1:012d}"
        if made_id in self._known.instances:
            return said({"error": "instance_exists"}, 409)
        self._known.instances.make(made_id)
        now = rfc3339(utc_now())
        metadata = {"note": "", "createdAt": now, "updatedAt": now, "revisions": []}
        return said({"id": made_id, "name": name or made_id, "dir": f"/app/sessions/{made_id}", "metadata": metadata})

    async def _get(self, request: web.Request) -> web.Response:
        found = self._found(request)
        return said({**_snapshot(found), "qrVersion": found.codes, "hasLastQr": found.code is not None, "lastError": None})

    async def _delete(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "default":
            return said({"error": "default_instance_cannot_be_deleted"}, 400)
        del self._known.instances[request.match_info["name"]]
        return said({"ok": True, "message": "Instância removida permanentemente."})

    async def _qr(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if found.code is not None:
            return web.Response(body=PNG, content_type="image/png")
        if found.state in {State.STOPPED, State.FAILED}:
            found.enter(State.SCAN if found.phone is None else State.OPEN)
        return web.Response(status=204)

    async def _logout(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if found.state is not State.OPEN:
            return _offline(found)
        found.unpair(State.SCAN)
        return said({"ok": True, "message": "Sessão desconectada. Um novo QR aparecerá em breve."})

    async def _wipe(self, request: web.Request) -> web.Response:
        self._found(request).unpair(State.SCAN)
        return said({"ok": True, "message": "Sessão reiniciando. O QR será regenerado em instantes."}, 202)

    async def _picture(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if found.state is not State.OPEN:
            return _offline(found)
        number = request.query.get("number", "").strip()
        if not number:
            return said({"error": "Missing number parameter"}, 400)
        return said({"profilePicUrl": None if number.startswith("0") else f"https://pps.example.com/{number}.jpg"})

    def _all(self) -> Sequence[FakeInstance]:
        return tuple(self._known.instances.values())

    def _found(self, request: web.Request) -> FakeInstance:
        return self._known.instances[request.match_info["name"]]


def _snapshot(instance: FakeInstance) -> dict[str, Any]:
    is_open = instance.state is State.OPEN
    user = {"id": f"{instance.phone}:12@s.whatsapp.net", "name": "Loja", "lid": "100000000000001:12@lid"}
    now = rfc3339(utc_now())
    return {
        "id": instance.name,
        "name": instance.name,
        "note": "",
        "metadata": {"note": "", "createdAt": now, "updatedAt": now, "revisions": []},
        "connected": is_open,
        "connectionState": _STATES[instance.state],
        "connectionUpdatedAt": now,
        "user": user if is_open else None,
        "counters": {"sent": 0, "status": {}},
        "network": {"proxyUrl": None, "status": "unknown"},
        "queue": {"enabled": False},
        "pairedAt": None if instance.phone is None else now,
    }


def _offline(instance: FakeInstance) -> web.Response:
    return said({"error": "instance_offline", "state": _STATES[instance.state], "updatedAt": rfc3339(utc_now())}, 503)


def _unknown(request: web.Request) -> web.Response:
    """`qr.png` says it as plain text."""
    if request.path.endswith("/qr.png"):
        return web.Response(status=404, text="instance_not_found")
    return said({"error": "instance_not_found"}, 404)
