"""Evolution API v2's instances as the source of 2.3.6 says. Two things are not played: the 5 s that a create waits, and its own retries."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from worker.adapters.clock import rfc3339, utc_now
from worker.fake_gateway.dialect import PNG, Known, Route, asked, said, within
from worker.fake_gateway.instances import FakeInstance, State

_STATES = {State.STOPPED: "close", State.SCAN: "connecting", State.OPEN: "open", State.LOST: "connecting", State.FAILED: "close"}
_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


class Evolution:
    stream = None

    def __init__(self, known: Known) -> None:
        self._known = known

    def routes(self) -> Sequence[Route]:
        verify = () if self._known.is_older else (Route("POST", "/verify-creds", self._verify),)
        return (
            *verify,
            Route("GET", "/", self._welcome),
            Route("POST", "/instance/create", self._create),
            Route("GET", "/instance/fetchInstances", self._fetch),
            Route("GET", "/instance/connect/{name}", self._connect),
            Route("GET", "/instance/connectionState/{name}", self._state),
            Route("DELETE", "/instance/logout/{name}", self._logout),
            Route("DELETE", "/instance/delete/{name}", self._delete),
            Route("POST", "/chat/fetchProfilePictureUrl/{name}", self._picture),
        )

    def guard(self, request: web.Request) -> web.Response | None:
        """First whether the instance is there, then the key, in its order of guards."""
        name = request.match_info.get("name")
        if name is not None and name not in self._known.instances:
            return _unknown(name)
        if request.path == "/" or request.headers.get("apikey") == self._known.api_key:
            return None
        return _refused(401, "Unauthorized")

    def error(self, status: int, request: web.Request) -> web.Response:
        if status == 404:  # noqa: PLR2004
            name = request.match_info.get("name") or request.query.get("instanceName")
            return _unknown(name) if name else _refused(404, [f"Cannot {request.method} {request.path}"])
        return _refused(status, _REASONS.get(status, "made up"))

    async def _welcome(self, _request: web.Request) -> web.Response:
        return said({"status": 200, "message": "Welcome to the Evolution API, it is working!", "version": "2.3.6", "clientName": "fake"})

    async def _verify(self, _request: web.Request) -> web.Response:
        return said({"status": 200, "message": "Credentials are valid", "facebookAppId": "", "facebookConfigId": ""})

    async def _create(self, request: web.Request) -> web.Response:
        body = await asked(request)
        name = body.get("instanceName")
        if not isinstance(name, str):
            return _refused(400, ["Invalid integration"])
        if name in self._known.instances:
            return _refused(403, [f'This name "{name}" is already in use.'])
        made = self._known.instances.make(name)
        made.token = body.get("token") or f"00000000-0000-4000-8000-{made.number:012d}"
        webhook = within(body, "webhook")
        made.push_url, made.push_secret = webhook.get("url"), within(webhook, "headers").get("jwt_key")
        made.push_events = tuple(webhook.get("events", ()))
        if body.get("qrcode") is not True:
            made.state = State.STOPPED
        told = {"instanceName": name, "instanceId": _id(made), "integration": body.get("integration"), "webhookWaBusiness": None}
        told |= {"accessTokenWaBusiness": "", "status": _STATES[made.state]}
        hooks = {"webhookUrl": made.push_url, "webhookHeaders": webhook.get("headers"), "webhookByEvents": False, "webhookBase64": False}
        rest = {"websocket": {}, "rabbitmq": {}, "nats": {}, "sqs": {}, "settings": {"rejectCall": False}, "qrcode": _code(made)}
        return said({"instance": told, "hash": made.token, "webhook": hooks, **rest}, 201)

    async def _fetch(self, request: web.Request) -> web.Response:
        name = request.query.get("instanceName")
        if name and name not in self._known.instances:
            return _refused(404, [f'Instance "{name}" not found'])
        return said([_row(i) for i in self._known.instances.values() if not name or i.name == name])

    async def _connect(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if found.state is State.OPEN:
            return await self._state(request)
        if found.state is State.STOPPED:
            found.enter(State.SCAN if found.phone is None else State.OPEN)
        return said(_code(found))

    async def _state(self, request: web.Request) -> web.Response:
        found = self._found(request)
        return said({"instance": {"instanceName": found.name, "state": _STATES[found.state]}})

    async def _logout(self, request: web.Request) -> web.Response:
        found = self._found(request)
        if _STATES[found.state] == "close":
            return _refused(400, [f'The "{found.name}" instance is not connected'])
        found.unpair(State.STOPPED)
        return said({"status": "SUCCESS", "error": False, "response": {"message": "Instance logged out"}})

    async def _delete(self, request: web.Request) -> web.Response:
        del self._known.instances[request.match_info["name"]]
        return said({"status": "SUCCESS", "error": False, "response": {"message": "Instance deleted"}})

    async def _picture(self, request: web.Request) -> web.Response:
        found = self._found(request)
        number = str((await asked(request)).get("number", ""))
        is_seen = found.state is State.OPEN and not number.startswith("0")
        return said({"wuid": number, "profilePictureUrl": f"https://pps.example.com/{number}.jpg" if is_seen else None})

    def _found(self, request: web.Request) -> FakeInstance:
        return self._known.instances[request.match_info["name"]]


def _id(instance: FakeInstance) -> str:
    return f"11111111-1111-4111-8111-{instance.number:012d}"


def _code(instance: FakeInstance) -> dict[str, Any]:
    if instance.code is None:
        return {"count": 0}
    return {
        "pairingCode": None,
        "code": instance.code,
        "base64": f"data:image/png;base64,{b64encode(PNG).decode()}",
        "count": instance.codes,
    }


def _row(instance: FakeInstance) -> dict[str, Any]:
    paired = instance.phone is not None
    return {
        "id": _id(instance),
        "name": instance.name,
        "connectionStatus": _STATES[instance.state],
        "ownerJid": f"{instance.phone}@s.whatsapp.net" if paired else None,
        "profileName": "Loja" if paired else None,
        "profilePicUrl": None,
        "integration": "WHATSAPP-BAILEYS",
        "number": None,
        "token": instance.token,
        "clientName": "evolution",
        "createdAt": rfc3339(utc_now()),
        "updatedAt": rfc3339(utc_now()),
        "Setting": {"rejectCall": False},
        "_count": {"Message": 0, "Contact": 0, "Chat": 0},
    }


def _refused(status: int, message: str | list[str]) -> web.Response:
    return said({"status": status, "error": _REASONS.get(status, "made up"), "response": {"message": message}}, status)


def _unknown(name: str) -> web.Response:
    return _refused(404, [f'The "{name}" instance does not exist'])
