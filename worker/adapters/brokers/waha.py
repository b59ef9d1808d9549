"""WAHA: sessions by name under `/api/sessions`, key in `X-Api-Key` (it can also run without one).

Source: WAHA's documentation and OpenAPI of 2026.7, its core's source of 2024 (`sessions.controller.ts`, `manager.abc.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver

from worker.adapters.brokers.answers import Answer
from worker.adapters.brokers.client import BrokerClient, Call, RestBroker, segment
from worker.adapters.brokers.reading import contact, phone_of
from worker.gateways.reading import instant_at, mapping_at, text_at
from worker.instances.broker import (
    AlreadyExists,
    BrokerCause,
    BrokerConfig,
    BrokerInstance,
    InstanceStatus,
    Push,
    QrCode,
)

_BAD_REQUEST = 400
_UNPROCESSABLE = 422
_NOT_FOUND = 404
_SERVER_ERROR = 500
_NO_PICTURE = ("not-authorized", "item-not-found")
"""What WhatsApp answers where there is no picture, or it is not for us to see (devlikeapro/waha#381)."""
_STATUSES: Mapping[str, InstanceStatus] = {
    "STOPPED": InstanceStatus.DISCONNECTED,
    "STARTING": InstanceStatus.CONNECTING,
    "SCAN_QR_CODE": InstanceStatus.QR_REQUIRED,
    "PASSKEY_REQUIRED": InstanceStatus.CONNECTING,
    "PASSKEY_CONFIRMATION_REQUIRED": InstanceStatus.CONNECTING,
    "WORKING": InstanceStatus.CONNECTED,
    "FAILED": InstanceStatus.FAILED,
}
_EVENTS = (
    "session.status", "message.any", "message.reaction", "message.ack", "message.waiting", "message.revoked", "presence.update",
    "poll.vote", "poll.vote.failed", "call.received", "call.accepted", "call.rejected",
)  # fmt: skip
_GROUPS_UNTIL_2024 = ("group.join", "group.leave")
_SINCE_2025 = (
    "message.ack.group", "message.edited", "group.v2.join", "group.v2.leave", "group.v2.update", "group.v2.participants",
)  # fmt: skip
_SINCE_2026 = ("event.response", "event.response.failed")
_WHAT_IT_MAY_KNOW = ((*_EVENTS, *_SINCE_2025, *_SINCE_2026), (*_EVENTS, *_SINCE_2025), (*_EVENTS, *_GROUPS_UNTIL_2024))
"""A name that its version does not know is a 400 for the whole session, what is not asked for is lost: tried in turn, the most first."""
_RETRIES = {"policy": "exponential", "delaySeconds": 2, "attempts": 15}


class WahaBroker(RestBroker):
    def __init__(self, config: BrokerConfig, resolver: AbstractResolver | None = None) -> None:
        super().__init__(BrokerClient(config, key_header="X-Api-Key", needs_key=False, resolver=resolver))

    async def health(self, *, timeout_s: float | None = None) -> None:
        """`/health` where this edition has it, else `/ping`."""
        call = self._client.call(timeout_s)
        answer = await call.get("/health")
        if answer.status in {_NOT_FOUND, _UNPROCESSABLE}:
            answer = await call.get("/ping")
        said = answer.mapping()
        if said.get("status", "ok") != "ok":
            raise answer.refusal(BrokerCause.SERVICE_UNAVAILABLE)

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        answer = await self._client.call(timeout_s).get("/api/sessions", {"all": "true"})
        return [found for item in answer.mappings() if (found := _instance(item)) is not None]

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:
        call = self._client.call(timeout_s, changes=True)
        for events in _WHAT_IT_MAY_KNOW:
            config = {} if push is None else {"webhooks": [_webhook(push, events)]}
            answer = await call.post("/api/sessions", {"name": name, "start": True, "config": config})
            if not (answer.status == _BAD_REQUEST and "events" in answer.words()):
                break
        if answer.status == _UNPROCESSABLE and "already exists" in answer.words():
            raise AlreadyExists(f"{self._client.broker} has a session {name} already")
        return _read(answer)

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance:
        return _read(await self._session(self._client.call(timeout_s), name))

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        call = self._client.call(timeout_s)
        session = await self._session(call, name)
        status = _read(session).status
        if status in {InstanceStatus.DISCONNECTED, InstanceStatus.FAILED}:
            # `start` does nothing for a session that failed: it counts as running.
            verb = "start" if status is InstanceStatus.DISCONNECTED else "restart"
            _read(await call.post(f"/api/sessions/{segment(name)}/{verb}"))
            return None
        if status is not InstanceStatus.QR_REQUIRED:
            return None
        answer = await call.get(f"/api/{segment(name)}/auth/qr", {"format": "raw"})
        if answer.status == _UNPROCESSABLE:
            return None  # scanned, or timed out, between the two questions
        value = text_at(answer.mapping(), "value")
        return None if value is None else QrCode(value, None)

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        answer = await self._client.call(timeout_s, changes=True).post(f"/api/sessions/{segment(name)}/logout")
        self._expect_known(answer, name)
        _read(answer)

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        """What it deleted it does not speak of: its success has no body."""
        answer = await self._client.call(timeout_s, changes=True).delete(f"/api/sessions/{segment(name)}")
        if not _says_unknown(answer):
            answer.expect_empty()

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        call = self._client.call(timeout_s)
        asked = {"contactId": contact(contact_id, "c.us"), "session": name}
        answer = await call.get("/api/contacts/profile-picture", asked)
        if _says_unknown(answer):
            await self._session(call, name)  # of one that is stopped it says the same
            raise self._not_connected(name)
        if answer.status == _UNPROCESSABLE and "not as expected" in answer.words():
            raise self._not_connected(name)
        if answer.status == _SERVER_ERROR and any(said in answer.words() for said in _NO_PICTURE):
            return None
        return text_at(answer.mapping(), "profilePictureURL")

    async def _session(self, call: Call, name: str) -> Answer:
        answer = await call.get(f"/api/sessions/{segment(name)}")
        self._expect_known(answer, name)
        return answer

    def _expect_known(self, answer: Answer, name: str) -> None:
        if _says_unknown(answer):
            raise self._nobody(name)


def _says_unknown(answer: Answer) -> bool:
    """Its own 404 about a session; one of a proxy, or of a path it does not know (`Cannot GET …`), is something else."""
    return answer.status == _NOT_FOUND and "session" in answer.words() and "cannot " not in answer.words()


def _webhook(push: Push, events: Sequence[str]) -> dict[str, Any]:
    signing = {} if push.secret is None else {"hmac": {"key": push.secret}}
    return {"url": push.url, "events": events, "retries": _RETRIES, **signing}


def _read(answer: Answer) -> BrokerInstance:
    found = _instance(answer.mapping())
    if found is None:
        raise answer.garbage("has no session's name")
    return found


def _instance(session: Mapping[str, Any]) -> BrokerInstance | None:
    name = text_at(session, "name")
    if name is None:
        return None
    me = mapping_at(session, "me")
    return BrokerInstance(
        name=name,
        status=_STATUSES.get(text_at(session, "status") or "", InstanceStatus.UNKNOWN),
        phone_number=phone_of(me.get("id")),
        profile_name=text_at(me, "pushName"),
        last_activity=instant_at(mapping_at(session, "timestamps"), "activity"),
    )
