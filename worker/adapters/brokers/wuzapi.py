"""wuzapi: an instance is a user with a token of its own; the admin's key in `Authorization` for `/admin`, the user's in `token` elsewhere.

wuzapi keeps tokens apart, not names. The token of a user that this adapter makes is derived from the admin's key and the name: a create
whose answer was lost meets its own user again (409). A user made by somebody else is found by its name in the admin's list.
Source: `handlers.go`, `routes.go` and API.md of 2025-05, and the same files of 2026 (201 with an envelope, ids that are texts, `hmacKey`).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from aiohttp.abc import AbstractResolver

from worker.adapters.brokers.answers import Answer
from worker.adapters.brokers.client import BrokerClient, Call, RestBroker, segment
from worker.adapters.brokers.reading import contact, phone_of, png_of
from worker.gateways.reading import flag_at, id_at, mapping_at, text_at
from worker.instances.broker import (
    AlreadyExists,
    BrokerConfig,
    BrokerInstance,
    InstanceStatus,
    Push,
    QrCode,
)

MAX_TOKENS = 10_000
_UNAUTHORIZED = 401
_NOT_FOUND = 404
_CONFLICT = 409
_SERVER_ERROR = 500
_STARTING: Mapping[str, Any] = {"Subscribe": ["All"], "Immediate": True}
_NO_SESSION = ("no session", "not connected", "not logged in")
_NOTHING_TO_LOG_OUT = ("no session", "not logged in")
_NO_PICTURE = ("no avatar found", "does not have a profile picture", "hidden their profile picture")


class WuzapiBroker(RestBroker):
    def __init__(self, config: BrokerConfig, resolver: AbstractResolver | None = None) -> None:
        super().__init__(BrokerClient(config, key_header="Authorization", needs_key=True, resolver=resolver))
        self._foreign_tokens: dict[str, str] = {}
        """Of users that somebody else made, by name."""

    async def health(self, *, timeout_s: float | None = None) -> None:
        """`/health` of newer versions; of an older one, whether the admin's list can be had."""
        call = self._client.call(timeout_s)
        answer = await call.get("/health")
        if answer.status == _NOT_FOUND:
            await self._users(call)
        else:
            answer.mapping()

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        """Of two with one name, ours."""
        users = await self._users(self._client.call(timeout_s))
        users.sort(key=lambda user: text_at(user, "token") == self._token(text_at(user, "name") or ""))
        return list({found.name: found for user in users if (found := _instance(user)) is not None}.values())

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:
        call = self._client.call(timeout_s, changes=True)
        asked = {"name": name, "token": self._token(name), "webhook": push.url if push else "", "events": "All"}
        if push is not None and push.secret is not None:
            asked["hmacKey"] = push.secret
        answer = await call.post("/admin/users", asked)
        if answer.status == _CONFLICT:
            call.has_changed = True  # a user with this token is our own, perhaps of a call that ended here
        else:
            _expect_done(answer, before="id")
        await self._start(call, self._token(name))
        if answer.status == _CONFLICT:
            raise AlreadyExists(f"{self._client.broker} has the user {name} already")
        return BrokerInstance(name=name, status=InstanceStatus.CONNECTING)

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance:
        found = _instance(await self._user(self._client.call(timeout_s), name))
        if found is None:
            raise self._nobody(name)
        return found

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        call = self._client.call(timeout_s)
        answer, token = await self._as_user(call, name, "/session/qr")
        if _says(answer, "no session"):
            await self._start(call, token)
            return None
        if _says(answer, "already logged", "not connected"):
            return None
        code = mapping_at(answer.mapping(), "data").get("QRCode")
        png = png_of(code)
        return None if png is None else QrCode(None, png)

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        """One whose connection is down for now cannot be logged out, and will come back: that is a failure, to be tried again."""
        answer, _token = await self._as_user(self._client.call(timeout_s, changes=True), name, "/session/logout", {})
        if not _says(answer, *_NOTHING_TO_LOG_OUT):
            _expect_done(answer)

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        """Logged out first: deleting alone leaves it running until the gateway's next start."""
        call = self._client.call(timeout_s, changes=True)
        user = _named(await self._users(call), name, self._token(name))
        if user is None:
            return
        answer = await call.post("/session/logout", headers={"token": text_at(user, "token") or ""})
        if not _says(answer, *_NO_SESSION):
            _expect_done(answer)
        answer = await call.delete(f"/admin/users/{segment(id_at(user, 'id') or '')}")
        if not (answer.status == _NOT_FOUND and "user not found" in answer.words()):
            _expect_done(answer, before="Details")
        self._foreign_tokens.pop(name, None)

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        call = self._client.call(timeout_s)
        asked = {"Phone": contact(contact_id, "s.whatsapp.net"), "Preview": False}
        answer, _token = await self._as_user(call, name, "/user/avatar", asked)
        if _says(answer, *_NO_PICTURE):
            return None
        if _says(answer, *_NO_SESSION):
            raise self._not_connected(name)
        said = answer.mapping()
        return text_at(mapping_at(said, "data"), "URL") or text_at(said, "URL")

    async def _users(self, call: Call) -> list[Mapping[str, Any]]:
        """In its envelope, or as API.md shows them; whoever says neither has not said that somebody is no user."""
        answer = await call.get("/admin/users")
        said = answer.value()
        listed = said.get("data") if isinstance(said, dict) else said
        if not isinstance(listed, list) or not all(isinstance(user, dict) for user in listed):
            raise answer.garbage("has no list of users")
        return listed

    async def _user(self, call: Call, name: str) -> Mapping[str, Any]:
        found = _named(await self._users(call), name, self._token(name))
        if found is None:
            raise self._nobody(name)
        return found

    async def _as_user(self, call: Call, name: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[Answer, str]:
        """A GET, or with a body a POST, and the token it went with. Raises `NoSuchInstance` where no user has this name."""
        token = self._foreign_tokens.get(name) or self._token(name)
        answer = await _ask(call, path, body, token)
        if answer.status != _UNAUTHORIZED:
            return answer, token
        self._foreign_tokens.pop(name, None)
        token = text_at(await self._user(call, name), "token") or ""
        if len(self._foreign_tokens) < MAX_TOKENS:
            self._foreign_tokens[name] = token
        return await _ask(call, path, body, token), token

    async def _start(self, call: Call, token: str) -> None:
        answer = await call.post("/session/connect", _STARTING, {"token": token})
        if not _says(answer, "already connected"):
            _expect_done(answer)

    def _token(self, name: str) -> str:
        return hmac.digest(self._client.key.encode(), f"whatsapp-worker user {name}".encode(), "sha256").hex()


async def _ask(call: Call, path: str, body: Mapping[str, Any] | None, token: str) -> Answer:
    headers = {"token": token}
    return await (call.get(path, headers=headers) if body is None else call.post(path, body, headers))


def _expect_done(answer: Answer, *, before: str | None = None) -> None:
    """`{code, data, success}`; of the admin's paths, `before` they had this envelope, the one field that they answered."""
    said = answer.mapping()
    if before is not None and "success" not in said and said.get(before):
        return
    code = said.get("code", answer.status)
    if said.get("success") is not True or not isinstance(code, int) or not 200 <= code < 300:  # noqa: PLR2004 - RFC 9110, 15.3
        raise answer.garbage("does not say that it is done")


def _says(answer: Answer, *reasons: str) -> bool:
    """It says what is in its way with a 500 and a sentence; capital letters changed between versions."""
    return answer.status == _SERVER_ERROR and any(reason in answer.words() for reason in reasons)


def _named(users: list[Mapping[str, Any]], name: str, token: str) -> Mapping[str, Any] | None:
    """Ours, before another of the same name."""
    same = [user for user in users if text_at(user, "name") == name]
    return next((user for user in same if text_at(user, "token") == token), same[0] if same else None)


def _instance(user: Mapping[str, Any]) -> BrokerInstance | None:
    """`jid` stays after a logout: it is somebody's number only while `loggedIn`. Where that is not said, `connected` means both."""
    name = text_at(user, "name")
    if name is None:
        return None
    is_connected = flag_at(user, "connected") is True
    is_logged_in = is_connected and flag_at(user, "loggedIn") is not False
    status = InstanceStatus.DISCONNECTED
    if is_connected:
        status = InstanceStatus.CONNECTED if is_logged_in else InstanceStatus.QR_REQUIRED
    return BrokerInstance(name=name, status=status, phone_number=phone_of(user.get("jid")) if is_logged_in else None)
