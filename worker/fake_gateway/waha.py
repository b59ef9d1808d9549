"""WAHA's sessions as its documentation and OpenAPI of 2026.7 and its core's source of 2024 say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from worker.fake_gateway.dialect import Known, Route, asked, said, within
from worker.fake_gateway.instances import FakeInstance, State
from worker.fake_gateway.waha_socket import WahaStream

MAX_NAME_CHARS = 54
_STATUSES = {
    State.STOPPED: "STOPPED",
    State.SCAN: "SCAN_QR_CODE",
    State.OPEN: "WORKING",
    State.LOST: "STARTING",
    State.FAILED: "FAILED",
}
_OLDER_EVENTS = frozenset({
    "session.status", "message", "message.reaction", "message.any", "message.ack", "message.waiting", "message.revoked", "state.change",
    "group.join", "group.leave", "presence.update", "poll.vote", "poll.vote.failed", "chat.archive", "call.received", "call.accepted",
    "call.rejected", "label.upsert", "label.deleted", "label.chat.added", "label.chat.deleted",
})  # fmt: skip
_EVENTS = _OLDER_EVENTS | {
    "message.ack.group", "message.edited", "group.v2.join", "group.v2.leave", "group.v2.update", "group.v2.participants",
    "event.response", "event.response.failed", "engine.event",
}  # fmt: skip
_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Entity"}
Verb = Callable[[FakeInstance], None]


class Waha:
    def __init__(self, known: Known) -> None:
        self._known = known
        self.stream = WahaStream(known)

    def routes(self) -> Sequence[Route]:
        session = "/api/sessions/{name}"
        return (
            Route("GET", "/health", self._health),
            Route("GET", "/ping", self._ping),
            Route("GET", "/api/sessions", self._list),
            Route("POST", "/api/sessions", self._create),
            Route("GET", session, self._get),
            Route("DELETE", session, self._delete),
            Route("POST", f"{session}/start", self._verb(_start)),
            Route("POST", f"{session}/stop", self._verb(lambda i: i.enter(State.STOPPED))),
            Route("POST", f"{session}/restart", self._verb(_restart)),
            Route("POST", f"{session}/logout", self._verb(_log_out)),
            Route("GET", "/api/{name}/auth/qr", self._qr),
            Route("GET", "/api/contacts/profile-picture", self._picture),
            Route("GET", "/ws", self.stream.serve),
        )

    def error(self, status: int, request: web.Request) -> web.Response:
        if status >= 500:  # noqa: PLR2004 - what is no HttpException
            exception = {"message": "made up", "name": "Error"}
            asked_for = {"path": request.path_qs, "method": request.method, "body": {}, "query": dict(request.query)}
            told = {"statusCode": status, "timestamp": "2026-11-22T07:45:38.120Z", "exception": exception, "request": asked_for}
            return said({**told, "version": {"version": "2026.7.1", "engine": "NOWEB", "tier": "PLUS"}}, status)
        if status == 404:  # noqa: PLR2004
            text = "Session not found" if request.match_info.get("name") else f"Cannot {request.method} {request.path}"
            return _refused(404, text)
        return _refused(status, _REASONS.get(status, "made up"))

    def guard(self, request: web.Request) -> web.Response | None:
        if request.path in {"/ping", "/ws"} or request.headers.get("X-Api-Key") == self._known.api_key:
            return None
        return said({"message": "Unauthorized", "statusCode": 401}, 401)

    async def _health(self, _request: web.Request) -> web.Response:
        if self._known.is_older:
            return _refused(422, "The feature is available only in Plus version. Check this out: https://waha.devlike.pro/")
        detail = {"mediaFiles.space": {"status": "up"}, "sessionsFiles.space": {"status": "up"}}
        return said({"status": "ok", "info": detail, "error": {}, "details": detail})

    async def _ping(self, _request: web.Request) -> web.Response:
        return said({"message": "pong"})

    async def _list(self, request: web.Request) -> web.Response:
        wants_all = request.query.get("all") == "true"
        return said([_session(i) for i in self._known.instances.values() if wants_all or i.is_running])

    async def _create(self, request: web.Request) -> web.Response:
        body = await asked(request)
        name = body.get("name") or f"session_{len(self._known.instances) + 1:026d}"
        webhooks = within(body, "config").get("webhooks") or []
        if len(name) > MAX_NAME_CHARS:
            return _refused(400, [f"name must be shorter than or equal to {MAX_NAME_CHARS} characters"])
        known = _OLDER_EVENTS if self._known.is_older else _EVENTS
        if not all(set(webhook.get("events", ())) <= known for webhook in webhooks):
            return _refused(400, ["config.webhooks.0.each value in events must be one of the following values: session.status, …"])
        if name in self._known.instances:
            return _refused(422, f"Session '{name}' already exists. Use PUT to update it.")
        made = self._known.instances.make(name)
        if webhooks:
            made.push_url, made.push_secret = webhooks[0].get("url"), within(webhooks[0], "hmac").get("key")
            made.push_events = tuple(webhooks[0].get("events", ()))
        if body.get("start", True) is False:
            made.state = State.STOPPED
            return said(_session(made), 201)
        return said({**_session(made), "status": "STARTING"}, 201)

    async def _get(self, request: web.Request) -> web.Response:
        found = self._known.instances.get(request.match_info["name"])
        return _refused(404, "Session not found") if found is None else said(_session(found))

    async def _delete(self, request: web.Request) -> web.Response:
        self._known.instances.pop(request.match_info["name"], None)
        return web.Response()

    def _verb(self, verb: Verb) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            found = self._known.instances.get(request.match_info["name"])
            if found is None:
                return _refused(404, "Session not found")
            verb(found)
            return said(_session(found), 201)

        return handle

    async def _qr(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = self._known.instances.get(name)
        if found is None or not found.is_running:
            return _not_running(name)
        if found.code is None:
            return _unexpected(found, "SCAN_QR_CODE")
        return said({"value": found.code})

    async def _picture(self, request: web.Request) -> web.Response:
        name = request.query.get("session", "")
        found = self._known.instances.get(name)
        if found is None or not found.is_running:
            return _not_running(name)
        if found.state is not State.OPEN:
            return _unexpected(found, "WORKING")
        contact = request.query.get("contactId", "")
        return said({"profilePictureURL": None if contact.startswith("0") else f"https://pps.example.com/{contact}.jpg"})


def _start(instance: FakeInstance) -> None:
    if not instance.is_running:
        _restart(instance)


def _restart(instance: FakeInstance) -> None:
    instance.enter(State.SCAN if instance.phone is None else State.OPEN)


def _log_out(instance: FakeInstance) -> None:
    instance.unpair(State.SCAN if instance.is_running else State.STOPPED)


def _session(instance: FakeInstance) -> dict[str, Any]:
    me = None if instance.phone is None else {"id": f"{instance.phone}@c.us", "pushName": "Loja"}
    webhooks = [] if instance.push_url is None else [{"url": instance.push_url, "events": instance.push_events}]
    told = {"name": instance.name, "status": _STATUSES[instance.state], "config": {"webhooks": webhooks, "debug": False}, "me": me}
    return {**told, "timestamps": {"activity": instance.changed_ms}, "assignedWorker": "waha", "engine": {"engine": "NOWEB"}}


def _refused(status: int, message: str | list[str]) -> web.Response:
    return said({"message": message, "error": _REASONS.get(status, "made up"), "statusCode": status}, status)


def _not_running(name: str) -> web.Response:
    text = f"We didn't find a session with name '{name}'.\nPlease start it first by using POST /api/sessions/{name}/start request"
    return _refused(404, text)


def _unexpected(instance: FakeInstance, expected: str) -> web.Response:
    why = "Session status is not as expected. Try again later or restart the session"
    return said({"error": why, "session": instance.name, "status": _STATUSES[instance.state], "expected": [expected]}, 422)
