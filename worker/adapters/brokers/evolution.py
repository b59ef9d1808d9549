"""Evolution API v2: instances by name under `/instance`, the global key in `apikey`.

An instance has a key of its own besides (`hash`, `token`); nothing here needs it. Creating waits 5 s for the first code at the gateway.
Source: Evolution API 2.3.6 (`instance.controller.ts`, `instance.guard.ts`, `monitor.service.ts`, `webhook.controller.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp.abc import AbstractResolver

from worker.adapters.brokers.answers import Answer
from worker.adapters.brokers.client import BrokerClient, Call, RestBroker, segment
from worker.adapters.brokers.reading import contact, phone_of, png_of
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
_FORBIDDEN = 403
_NOT_FOUND = 404
_EVENTS = (
    "QRCODE_UPDATED", "CONNECTION_UPDATE", "STATUS_INSTANCE", "LOGOUT_INSTANCE", "MESSAGES_UPSERT", "MESSAGES_EDITED", "MESSAGES_UPDATE",
    "MESSAGES_DELETE", "SEND_MESSAGE", "SEND_MESSAGE_UPDATE", "CONTACTS_UPDATE", "PRESENCE_UPDATE", "CALL",
    "GROUPS_UPSERT", "GROUP_UPDATE", "GROUPS_UPDATE", "GROUP_PARTICIPANTS_UPDATE",
)  # fmt: skip
"""Without the `_SET` ones: the whole history of a telephone, at once. It documents `GROUP_UPDATE` and compares with `GROUPS_UPDATE`."""


class EvolutionBroker(RestBroker):
    def __init__(self, config: BrokerConfig, resolver: AbstractResolver | None = None) -> None:
        super().__init__(BrokerClient(config, key_header="apikey", needs_key=True, resolver=resolver))

    async def health(self, *, timeout_s: float | None = None) -> None:
        """Asks whether the key is good; the welcome page would ask WhatsApp's own site before it answers."""
        call = self._client.call(timeout_s)
        answer = await call.post("/verify-creds")
        if answer.status == _NOT_FOUND:
            answer = await call.get("/")
        answer.mapping()

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        answer = await self._client.call(timeout_s).get("/instance/fetchInstances")
        return [found for item in answer.mappings() if (found := _instance(item)) is not None]

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:
        asked: dict[str, Any] = {"instanceName": name, "integration": "WHATSAPP-BAILEYS", "qrcode": True}
        if push is not None:
            asked["webhook"] = _webhook(push)
        answer = await self._client.call(timeout_s, changes=True).post("/instance/create", asked)
        if _says_taken(answer):
            raise AlreadyExists(f"{self._client.broker} has an instance {name} already")
        made = answer.mapping()
        instance, code = mapping_at(made, "instance"), mapping_at(made, "qrcode")
        if text_at(instance, "instanceName") is None:
            raise answer.garbage("has no instance's name")
        status = InstanceStatus.QR_REQUIRED if "code" in code or "base64" in code else InstanceStatus.CONNECTING
        return BrokerInstance(name=instance["instanceName"], status=status)

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance:
        answer = await self._client.call(timeout_s).get("/instance/fetchInstances", {"instanceName": name})
        if not name or _says_unknown(answer):
            raise self._nobody(name)
        found = next((i for item in answer.mappings() if (i := _instance(item)) is not None and i.name == name), None)
        if found is None:
            raise self._nobody(name)
        return found

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        answer = await self._client.call(timeout_s).get(f"/instance/connect/{segment(name)}")
        self._expect_known(answer, name)
        said = answer.mapping()
        if said.get("error") is True:  # with a status of 200
            raise answer.refusal(BrokerCause.UNKNOWN)
        code = QrCode(text_at(said, "code"), png_of(said.get("base64")))
        return code if code.text or code.png else None

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        answer = await self._client.call(timeout_s, changes=True).delete(f"/instance/logout/{segment(name)}")
        self._expect_known(answer, name)
        if not (answer.status == _BAD_REQUEST and "not connected" in answer.words()):
            _expect_done(answer)

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        answer = await self._client.call(timeout_s, changes=True).delete(f"/instance/delete/{segment(name)}")
        if not _says_unknown(answer):
            _expect_done(answer)

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        call = self._client.call(timeout_s)
        asked = {"number": contact(contact_id, "s.whatsapp.net")}
        answer = await call.post(f"/chat/fetchProfilePictureUrl/{segment(name)}", asked)
        self._expect_known(answer, name)
        url = text_at(answer.mapping(), "profilePictureUrl")
        if url is None and not await self._is_open(call, name):
            # It answers null for every fault of its own.
            raise self._not_connected(name)
        return url

    async def _is_open(self, call: Call, name: str) -> bool:
        answer = await call.get(f"/instance/connectionState/{segment(name)}")
        self._expect_known(answer, name)
        return mapping_at(answer.mapping(), "instance").get("state") == "open"

    def _expect_known(self, answer: Answer, name: str) -> None:
        if _says_unknown(answer):
            raise self._nobody(name)


def _says_unknown(answer: Answer) -> bool:
    """Its own 404 about an instance; one of a proxy, or of a path it does not know (`Cannot GET …`), is something else."""
    return answer.status == _NOT_FOUND and "instance" in answer.words() and "cannot " not in answer.words()


def _expect_done(answer: Answer) -> None:
    said = answer.mapping()
    if said.get("status") != "SUCCESS" or said.get("error", False) is not False:
        raise answer.garbage("does not say that it is done")


def _says_taken(answer: Answer) -> bool:
    """By its guard; or, of two calls at once, by its database."""
    if answer.status == _FORBIDDEN:
        return "already in use" in answer.words()
    return answer.status == _BAD_REQUEST and "unique constraint" in answer.words() and "name" in answer.words()


def _webhook(push: Push) -> dict[str, Any]:
    """`jwt_key` is no header that is sent: with it each push carries a token signed with it."""
    signing = {} if push.secret is None else {"headers": {"jwt_key": push.secret}}
    return {"enabled": True, "url": push.url, "byEvents": False, "base64": False, "events": _EVENTS, **signing}


def _instance(item: Mapping[str, Any]) -> BrokerInstance | None:
    """A row as 2.x has it; or, as its OpenAPI document still shows, within `instance` and under the names of 1.x."""
    item = mapping_at(item, "instance") or item
    name = text_at(item, "name") or text_at(item, "instanceName")
    if name is None:
        return None
    phone = phone_of(item.get("ownerJid") or item.get("owner"))
    return BrokerInstance(
        name=name,
        status=_status(text_at(item, "connectionStatus") or text_at(item, "status"), is_paired=phone is not None),
        phone_number=phone,
        profile_name=text_at(item, "profileName"),
        last_activity=instant_at(item, "updatedAt"),
    )


def _status(word: str | None, *, is_paired: bool) -> InstanceStatus:
    if word == "connecting":
        return InstanceStatus.CONNECTING if is_paired else InstanceStatus.QR_REQUIRED
    return {"open": InstanceStatus.CONNECTED, "close": InstanceStatus.DISCONNECTED}.get(word or "", InstanceStatus.UNKNOWN)
