"""baileys-acessuswpp: instances by id under `/instances`, key in `X-API-Key`.

An instance's id, by which it is asked for, is its name where that has only small letters, digits and `-_`; else it is made from the name.
Where it pushes is set in its environment (`WEBHOOK_URL`, `WEBHOOK_HMAC_SECRET`), for all instances: what `create` is told goes nowhere.
Source: docs/api-reference.md and `src/routes/instances.ts` of February 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp.abc import AbstractResolver

from worker.adapters.brokers.answers import Answer
from worker.adapters.brokers.client import BrokerClient, RestBroker, segment
from worker.adapters.brokers.reading import PNG, phone_of
from worker.gateways.reading import flag_at, instant_at, mapping_at, text_at
from worker.instances.broker import (
    AlreadyExists,
    BrokerCause,
    BrokerConfig,
    BrokerInstance,
    InstanceStatus,
    Push,
    QrCode,
)

_NO_CONTENT = 204
_NOT_FOUND = 404
_CONFLICT = 409
_UNAVAILABLE = 503


class BaileysBroker(RestBroker):
    def __init__(self, config: BrokerConfig, resolver: AbstractResolver | None = None) -> None:
        super().__init__(BrokerClient(config, key_header="X-API-Key", needs_key=True, resolver=resolver))

    async def health(self, *, timeout_s: float | None = None) -> None:
        answer = await self._client.call(timeout_s).get("/health")
        if answer.mapping().get("status") != "ok":
            raise answer.refusal(BrokerCause.SERVICE_UNAVAILABLE)

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        answer = await self._client.call(timeout_s).get("/instances")
        return [found for item in answer.mappings() if (found := _instance(item)) is not None]

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:  # noqa: ARG002
        answer = await self._client.call(timeout_s, changes=True).post("/instances", {"name": name})
        if answer.status == _CONFLICT and answer.broker_code() == "instance_exists":
            raise AlreadyExists(f"{self._client.broker} has an instance {name} already")
        made = text_at(answer.mapping(), "id")
        if made is None:
            raise answer.garbage("has no instance's id")
        return BrokerInstance(name=made, status=InstanceStatus.CONNECTING)

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance:
        answer = await self._client.call(timeout_s).get(_path(name))
        self._expect_known(answer, name)
        found = _instance(answer.mapping())
        if found is None:
            raise answer.garbage("has no instance's id")
        return found

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        """Its own picture only. It keeps the last code after that was scanned: whether there is one to scan is asked first."""
        call = self._client.call(timeout_s)
        seen = await call.get(_path(name))
        self._expect_known(seen, name)
        if seen.mapping().get("connectionState") == "open":
            return None
        answer = await call.get(f"{_path(name)}/qr.png")
        self._expect_known(answer, name)
        if answer.status == _NO_CONTENT:
            return None
        answer.expect_success()
        if not answer.body.startswith(PNG):
            raise answer.garbage("is no picture")
        return QrCode(None, answer.body)

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        """One that is offline for now cannot be logged out, and would come back: then its session is wiped."""
        call = self._client.call(timeout_s, changes=True)
        answer = await call.post(f"{_path(name)}/logout")
        self._expect_known(answer, name)
        if _says_offline(answer):
            answer = await call.post(f"{_path(name)}/session/wipe")
            self._expect_known(answer, name)
        _expect_done(answer)

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        answer = await self._client.call(timeout_s, changes=True).delete(_path(name))
        if not _says_unknown(answer):
            _expect_done(answer)

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        """It can be asked about telephone numbers only."""
        number = phone_of(contact_id)
        call = self._client.call(timeout_s)
        answer = await call.get(f"{_path(name)}/profile-pic", {"number": number or "0"})
        self._expect_known(answer, name)
        if _says_offline(answer):
            raise self._not_connected(name)
        url = text_at(answer.mapping(), "profilePicUrl")
        return None if number is None else url

    def _expect_known(self, answer: Answer, name: str) -> None:
        if _says_unknown(answer):
            raise self._nobody(name)


def _path(name: str) -> str:
    return f"/instances/{segment(name)}"


def _says_unknown(answer: Answer) -> bool:
    """`qr.png` says it as plain text."""
    return answer.status == _NOT_FOUND and (answer.broker_code() == "instance_not_found" or answer.body == b"instance_not_found")


def _expect_done(answer: Answer) -> None:
    if answer.mapping().get("ok") is not True:
        raise answer.garbage("does not say that it is done")


def _says_offline(answer: Answer) -> bool:
    return answer.status == _UNAVAILABLE and answer.broker_code() == "instance_offline"


def _instance(item: Mapping[str, Any]) -> BrokerInstance | None:
    name = text_at(item, "id")
    if name is None:
        return None
    user = mapping_at(item, "user")
    return BrokerInstance(
        name=name,
        status=_status(item),
        phone_number=phone_of(user.get("id")),
        profile_name=text_at(user, "name"),
        last_activity=instant_at(item, "connectionUpdatedAt"),
    )


def _status(item: Mapping[str, Any]) -> InstanceStatus:
    """`qr_timeout`: nobody scanned in time; asking for the code starts it again. The list does not say `hasLastQr`."""
    word = text_at(item, "connectionState")
    if word == "connecting":
        never_paired = item.get("pairedAt", "unsaid") is None
        return InstanceStatus.QR_REQUIRED if flag_at(item, "hasLastQr") or never_paired else InstanceStatus.CONNECTING
    return _STATUSES.get(word or "", InstanceStatus.UNKNOWN)


_STATUSES: Mapping[str, InstanceStatus] = {
    "open": InstanceStatus.CONNECTED,
    "close": InstanceStatus.DISCONNECTED,
    "qr_timeout": InstanceStatus.QR_REQUIRED,
}
