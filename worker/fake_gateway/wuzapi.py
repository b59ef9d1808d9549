"""wuzapi's users as API.md and the source of 2026 say; or, older, as the source of 2025-05 does.

Newer are 201 with an envelope around what was made, ids that are texts, `hmacKey`, other capital letters, `/health`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from worker.fake_gateway.dialect import PNG, Known, Route, asked, said
from worker.fake_gateway.instances import FakeInstance, State

MIN_HMAC_CHARS = 32
_EVENTS = frozenset({"Message", "ReadReceipt", "Presence", "HistorySync", "ChatPresence", "All"})


class Wuzapi:
    stream = None

    def __init__(self, known: Known) -> None:
        self._known = known
        self._is_newer = not known.is_older

    def routes(self) -> Sequence[Route]:
        health = (Route("GET", "/health", self._health),) if self._is_newer else ()
        return (
            *health,
            Route("GET", "/admin/users", self._list),
            Route("POST", "/admin/users", self._add),
            Route("DELETE", "/admin/users/{number}", self._delete),
            Route("POST", "/session/connect", self._connect),
            Route("POST", "/session/logout", self._logout),
            Route("GET", "/session/status", self._status),
            Route("GET", "/session/qr", self._qr),
            Route("POST", "/user/avatar", self._avatar),
        )

    def guard(self, request: web.Request) -> web.Response | None:
        if request.path.startswith("/admin"):
            is_good = request.headers.get("Authorization") == self._known.api_key
        elif request.path.startswith(("/session", "/user")):
            is_good = self._caller(request) is not None
        else:
            is_good = True
        return None if is_good else self._refused(401, "Unauthorized")

    def error(self, status: int, request: web.Request) -> web.Response:
        if status == 404:  # noqa: PLR2004 - its file server answers for paths that it does not know
            return web.Response(status=404, text="404 page not found\n")
        reasons = {401: "Unauthorized", 409: "User with the same token already exists"}
        return self._refused(status, reasons.get(status, f"made up for {request.method}"))

    async def _health(self, _request: web.Request) -> web.Response:
        return said({"status": "ok", "uptime": "1h", "active_connections": len(self._known.instances), "total_users": 1})

    async def _list(self, _request: web.Request) -> web.Response:
        return said({"code": 200, "data": [self._user(i) for i in self._known.instances.values()], "success": True})

    async def _add(self, request: web.Request) -> web.Response:
        body = await asked(request)
        name, token, key = str(body.get("name", "")), str(body.get("token", "")), str(body.get("hmacKey", ""))
        if self._is_newer and key and len(key) < MIN_HMAC_CHARS:
            return self._refused(400, "HMAC key must be at least 32 characters long")
        if any(user.token == token for user in self._known.instances.values()):
            which = "user with this" if self._is_newer else "User with the same"
            return self._refused(409, f"{which} token already exists")
        if not {event.strip() for event in str(body.get("events", "")).split(",")} <= _EVENTS:
            return self._refused(400, "invalid event type" if self._is_newer else "Invalid event: …")
        made = self._known.instances.make(name)
        made.token, made.state, made.push_url = token, State.STOPPED, body.get("webhook") or None
        made.push_secret, made.push_events = key or None, (str(body.get("events", "")),)
        if not self._is_newer:
            return said({"id": made.number})
        told = {**self._user(made), "hmac_key": bool(key)}
        return said({"code": 201, "data": told, "success": True}, 201)

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._known.instances.numbered(request.match_info["number"].removeprefix("u"))
        if found is None:
            return self._refused(404, "User not found")
        self._known.instances.remove(found)
        return said({"Details": "User deleted successfully"})

    async def _connect(self, request: web.Request) -> web.Response:
        user = self._me(request)
        if user.is_running:
            return self._refused(500, "Already Connected")
        user.enter(State.SCAN)
        told = {"webhook": user.push_url or "", "jid": _jid(user), "events": "All", "details": "Connected!"}
        return self._done(told)

    async def _logout(self, request: web.Request) -> web.Response:
        user = self._me(request)
        why_not = {
            State.STOPPED: "No session",
            State.SCAN: "Could not logout as it was not logged in",
            State.LOST: "Could not disconnect as it was not connected",
        }.get(user.state)
        if why_not is not None:
            return self._refused(500, why_not)
        user.unpair(State.STOPPED)
        return self._done({"Details": "Logged out"})

    async def _status(self, request: web.Request) -> web.Response:
        user = self._me(request)
        if not user.is_running:
            return self._refused(500, "No session")
        return self._done({"Connected": user.state in {State.SCAN, State.OPEN}, "LoggedIn": user.state is State.OPEN})

    async def _qr(self, request: web.Request) -> web.Response:
        user = self._me(request)
        why_not = {State.STOPPED: "No session", State.LOST: "Not connected", State.OPEN: "Already Loggedin"}.get(user.state)
        if why_not is not None:
            return self._refused(500, why_not)
        return self._done({"QRCode": _picture_of_code(user)})

    async def _avatar(self, request: web.Request) -> web.Response:
        user, phone = self._me(request), str((await asked(request)).get("Phone", ""))
        if not user.is_running:
            return self._refused(500, "No session")
        if user.state is not State.OPEN:
            return self._refused(500, "Failed to get avatar: failed to send usync query: websocket not connected")
        if phone.startswith("0"):
            return self._refused(500, "Failed to get avatar: that user or group does not have a profile picture")
        found = {"URL": f"https://pps.example.com/{phone}.jpg", "ID": "1645308319", "Type": "image", "DirectPath": "/v/sample.jpg"}
        return self._done(found)

    def _caller(self, request: web.Request) -> FakeInstance | None:
        token = request.headers.get("token") or request.query.get("token")
        return next((user for user in self._known.instances.values() if user.token == token), None)

    def _me(self, request: web.Request) -> FakeInstance:
        me = self._caller(request)
        assert me is not None, "the guard has looked"
        return me

    def _user(self, user: FakeInstance) -> dict[str, Any]:
        return {
            "id": f"u{user.number}" if self._is_newer else user.number,
            "name": user.name,
            "token": user.token,
            "webhook": user.push_url or "",
            "jid": _jid(user),
            "qrcode": _picture_of_code(user),
            "connected": user.state in {State.SCAN, State.OPEN},
            "loggedIn": user.state is State.OPEN,
            "expiration": 0,
            "proxy_url": "",
            "events": "All",
        }

    def _done(self, data: dict[str, Any]) -> web.Response:
        return said({"code": 200, "data": data, "success": True})

    def _refused(self, status: int, error: str) -> web.Response:
        if self._is_newer and status == 500:  # noqa: PLR2004 - its sentences begin with small letters now
            error = error[0].lower() + error[1:]
        return said({"code": status, "error": error, "success": False}, status)


def _jid(user: FakeInstance) -> str:
    return f"{user.phone}:12@s.whatsapp.net" if user.phone is not None else ""


def _picture_of_code(user: FakeInstance) -> str:
    return f"data:image/png;base64,{b64encode(PNG).decode()}" if user.code is not None else ""
