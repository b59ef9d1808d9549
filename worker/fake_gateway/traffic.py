"""Made-up but realistic traffic of one gateway, signed as that gateway signs. Pure: seeded, and the caller brings the time.

The people are invented: Brazilian numbers whose subscriber part (9 0000 0xxx) belongs to nobody.
"""

from __future__ import annotations

import hmac
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson

_CHATS = 200
_TEXTS = ("Bom dia!", "O pedido já saiu?", "Obrigada 🙂", "Pode ser às 15h?", "Segue o comprovante.", "👍", "Qual o valor do frete?")
_NAMES = ("Ana", "Bruno", "Carla", "Davi", "Elisa", "Fábio")
_ACKS = ((2, "DEVICE", "delivered"), (3, "READ", "read"))

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One request to `/ingest/{gateway}/{instance}`; header names are lower-case, the signature is among them."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The instance whose traffic it is: its name at the gateway, and the secret it signs with (None: unsigned)."""

    gateway_instance: str
    secret: str | None = field(default=None, repr=False)


class Traffic:
    """The pushes of one gateway, one event each, every one with an id of its own: two runs with one seed are the same run."""

    def __init__(self, gateway: str, seed: int) -> None:
        """Raises `KeyError` for a gateway that is not in `GATEWAYS`."""
        self._make = _MAKERS[gateway]
        self._sign = _SIGNERS[gateway]
        self._write = _WRITERS.get(gateway)
        self._chance = random.Random(f"{gateway} {seed}")  # noqa: S311 - made-up texts need no secrecy
        self._life = f"{self._chance.getrandbits(40):010X}"
        self._number = 0

    def next_push(self, sender: Sender, now_s: float) -> Push:
        """`now_s` is the wall clock, in seconds since 1970: when the event is said to have happened."""
        self._number += 1
        scene = _Scene.of(self._chance, f"3EB0{self._life}{self._number:06X}", now_s)
        said = self._make(scene, sender.gateway_instance)
        content_type, body = ("application/json", orjson.dumps(said)) if self._write is None else self._write(said)
        signature = {} if sender.secret is None else self._sign(sender.secret.encode(), body, now_s)
        return Push(headers={"content-type": content_type, **signature}, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What happens, before a gateway puts it into its own words. `kind`: text, image, receipt."""

    kind: str
    message_id: str
    digits: str
    name: str
    text: str
    ack: tuple[int, str, str]
    at_s: int

    @staticmethod
    def of(chance: random.Random, message_id: str, now_s: float) -> _Scene:
        return _Scene(
            kind=chance.choices(("text", "image", "receipt"), (60, 10, 30))[0],
            message_id=message_id,
            digits=f"55119000{chance.randrange(_CHATS):05d}",
            name=chance.choice(_NAMES),
            text=chance.choice(_TEXTS),
            ack=chance.choice(_ACKS),
            at_s=int(now_s),
        )


def _generic(scene: _Scene, _gateway_instance: str) -> Json:
    chat = f"{scene.digits}@s.whatsapp.net"
    at = datetime.fromtimestamp(scene.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {"message_ids": [scene.message_id], "chat_id": chat, "occurred_at": at}
    if scene.kind == "receipt":
        return {"type": "receipt", "subtype": scene.ack[2], "status": scene.ack[2], **event}
    said: Json = {"type": "message", **event, "sender_id": chat, "from_me": False, "push_name": scene.name, "text": scene.text}
    return said if scene.kind == "text" else {**said, "media": {"kind": "image", "mimetype": "image/jpeg", "size": 48_213}}


def _waha(scene: _Scene, gateway_instance: str) -> Json:
    chat = f"{scene.digits}@c.us"
    is_receipt = scene.kind == "receipt"
    payload: Json = {
        "id": f"{str(is_receipt).lower()}_{chat}_{scene.message_id}",
        "timestamp": scene.at_s,
        "from": chat,
        "fromMe": is_receipt,
    }
    if is_receipt:
        payload |= {"participant": None, "ack": scene.ack[0], "ackName": scene.ack[1]}
    else:
        payload |= {"body": scene.text, "hasMedia": scene.kind == "image", "ack": 1, "ackName": "SERVER", "_data": {"pushName": scene.name}}
    if scene.kind == "image":
        payload["media"] = {"url": "https://media.example.com/sample.jpg", "mimetype": "image/jpeg", "filename": None}
    return {
        "id": f"evt_{scene.message_id.lower()}",
        "timestamp": scene.at_s * 1000,
        "event": "message.ack" if is_receipt else "message",
        "session": gateway_instance,
        "metadata": {},
        "me": {"id": "5511900000000@c.us", "pushName": "Loja"},
        "payload": payload,
        "engine": "NOWEB",
        "environment": {"version": "2026.7.1", "engine": "NOWEB", "tier": "PLUS"},
    }


def _cloud_api(scene: _Scene, gateway_instance: str) -> Json:
    value: Json = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "5511900000000", "phone_number_id": gateway_instance},
    }
    wamid = f"wamid.HBgN{scene.message_id}"
    if scene.kind == "receipt":
        told = {"id": wamid, "status": scene.ack[2], "timestamp": str(scene.at_s), "recipient_id": scene.digits}
        value["statuses"] = [told]
    else:
        value["contacts"] = [{"profile": {"name": scene.name}, "wa_id": scene.digits}]
        said = {"from": scene.digits, "id": wamid, "timestamp": str(scene.at_s), "type": scene.kind}
        picture = {"mime_type": "image/jpeg", "sha256": "3q2+7w==", "id": "1000000000000003", "caption": scene.text}
        value["messages"] = [{**said, "text": {"body": scene.text}} if scene.kind == "text" else {**said, "image": picture}]
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1000000000000001", "changes": [{"value": value, "field": "messages"}]}],
    }


def _gowa(scene: _Scene, gateway_instance: str) -> Json:
    chat = f"{scene.digits}@s.whatsapp.net"
    at = datetime.fromtimestamp(scene.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told: Json = {"device_id": "5511900000000@s.whatsapp.net", "session_id": gateway_instance}
    if scene.kind == "receipt":
        receipt = {"ids": [scene.message_id], "chat_id": chat, "from": chat, "receipt_type": scene.ack[2]}
        return {"event": "message.ack", **told, "timestamp": at, "payload": receipt}
    payload: Json = {"id": scene.message_id, "chat_id": chat, "from": chat, "sender_display_name": scene.name, "from_name": scene.name}
    payload |= {"timestamp": at, "is_from_me": False, "body": scene.text}
    if scene.kind == "image":
        payload["image"] = {"path": f"statics/media/{scene.message_id}.jpeg", "caption": scene.text}
    return {"event": "message", **told, "payload": payload}


def _evolution(scene: _Scene, gateway_instance: str) -> Json:
    chat = f"{scene.digits}@s.whatsapp.net"
    if scene.kind == "receipt":
        event = "messages.update"
        data: Json = {
            "keyId": scene.message_id,
            "remoteJid": chat,
            "fromMe": True,
            "status": {"delivered": "DELIVERY_ACK"}.get(scene.ack[2], "READ"),
        }
    else:
        event = "messages.upsert"
        picture = {"imageMessage": {"mimetype": "image/jpeg", "caption": scene.text, "fileLength": "48213"}}
        said = {"conversation": scene.text} if scene.kind == "text" else picture
        key = {"remoteJid": chat, "fromMe": False, "id": scene.message_id}
        data = {"key": key, "pushName": scene.name, "status": "DELIVERY_ACK", "message": said, "messageType": next(iter(said))}
        data |= {"messageTimestamp": scene.at_s, "source": "android"}
    at = datetime.fromtimestamp(scene.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    told = {"event": event, "instance": gateway_instance, "data": data, "destination": "https://worker.example.com/ingest", "date_time": at}
    return {**told, "sender": "5511900000000@s.whatsapp.net", "server_url": "https://gateway.example.com", "apikey": "INVENTED-KEY"}


def _wuzapi(scene: _Scene, gateway_instance: str) -> Json:
    """The fields of its form; `jsonData` is an event of the whatsmeow library."""
    chat = f"{scene.digits}@s.whatsapp.net"
    at = datetime.fromtimestamp(scene.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    source = {"Chat": chat, "Sender": chat, "IsFromMe": False, "IsGroup": False, "SenderAlt": "", "RecipientAlt": ""}
    if scene.kind == "receipt":
        receipt = {**source, "MessageIDs": [scene.message_id], "Timestamp": at, "Type": "read" if scene.ack[2] == "read" else ""}
        posted: Json = {"type": "ReadReceipt", "event": receipt, "state": scene.ack[2].capitalize()}
    else:
        info = {**source, "ID": scene.message_id, "Type": "text", "PushName": scene.name, "Timestamp": at}
        picture = {"imageMessage": {"mimetype": "image/jpeg", "caption": scene.text, "fileLength": 48_213}}
        said = {"conversation": scene.text} if scene.kind == "text" else picture
        posted = {"type": "Message", "event": {"Info": info, "Message": said}}
    return {"instanceName": gateway_instance, "jsonData": orjson.dumps(posted).decode(), "userID": "7"}


def _zapi(scene: _Scene, gateway_instance: str) -> Json:
    told: Json = {"instanceId": gateway_instance, "momment": scene.at_s * 1000, "phone": scene.digits, "isGroup": False}
    if scene.kind == "receipt":
        status = {"delivered": "RECEIVED", "read": "READ"}[scene.ack[2]]
        return {"type": "MessageStatusCallback", **told, "status": status, "ids": [scene.message_id], "phoneDevice": 0}
    told |= {"chatLid": None, "connectedPhone": "5511900000000", "messageId": scene.message_id, "fromMe": False, "senderName": scene.name}
    told |= {"waitingMessage": False, "isEdit": False, "status": "RECEIVED", "chatName": scene.name, "fromApi": False}
    picture = {"imageUrl": "https://media.example.com/sample.jpg", "mimeType": "image/jpeg", "caption": scene.text}
    return {"type": "ReceivedCallback", **told, **({"text": {"message": scene.text}} if scene.kind == "text" else {"image": picture})}


def _baileys(scene: _Scene, gateway_instance: str) -> Json:
    chat = f"{scene.digits}@s.whatsapp.net"
    told: Json = {"instanceId": gateway_instance, "timestamp": scene.at_s}
    if scene.kind == "receipt":
        change = {"key": {"remoteJid": chat, "fromMe": True, "id": scene.message_id}, "update": {"status": scene.ack[0] + 1}}
        return {"event": "WHATSAPP_MESSAGES_UPDATE", **told, "payload": {"iid": gateway_instance, "raw": {"updates": [change]}}}
    contact = {"owner": "user", "remoteJid": chat, "participant": None, "phone": f"+{scene.digits}", "displayName": scene.name}
    message: Json = {"id": scene.message_id, "chatId": chat, "type": scene.kind, "text": scene.text}
    if scene.kind == "image":
        message["media"] = {"mediaType": "image", "mimetype": "image/jpeg", "fileName": None, "size": 48_213, "caption": scene.text}
    at = datetime.fromtimestamp(scene.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    metadata = {"timestamp": at, "broker": {"direction": "inbound", "type": "baileys"}, "source": "baileys-acessus", "pollChoice": None}
    payload = {"contact": {**contact, "isGroup": False}, "message": message, "metadata": metadata}
    return {"event": "MESSAGE_INBOUND", **told, "payload": payload}


def _web_token(secret: bytes, now_s: float) -> str:
    """As Evolution makes it for ten minutes; it says nothing of the body."""
    claims = {"iat": int(now_s), "exp": int(now_s) + 600, "app": "evolution", "action": "webhook"}
    parts = [urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(parts)
    return (signed + b"." + urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")).decode()


def _hex_mac(secret: bytes, body: bytes, algorithm: str) -> str:
    return hmac.digest(secret, body, algorithm).hex()


_MAKERS: Mapping[str, Callable[[_Scene, str], Json]] = {
    "baileys": _baileys,
    "evolution": _evolution,
    "generic": _generic,
    "gowa": _gowa,
    "waha": _waha,
    "wuzapi": _wuzapi,
    "zapi": _zapi,
    "cloud-api": _cloud_api,
}
_SIGNERS: Mapping[str, Callable[[bytes, bytes, float], dict[str, str]]] = {
    "baileys": lambda secret, body, _now_s: {"x-signature": _hex_mac(secret, body, "sha256")},
    "evolution": lambda secret, _body, now_s: {"authorization": f"Bearer {_web_token(secret, now_s)}"},
    "generic": lambda secret, body, _now_s: {"x-signature": f"sha256={_hex_mac(secret, body, 'sha256')}"},
    "gowa": lambda secret, body, _now_s: {"x-hub-signature-256": f"sha256={_hex_mac(secret, body, 'sha256')}"},
    "waha": lambda secret, body, _now_s: {"x-webhook-hmac": _hex_mac(secret, body, "sha512"), "x-webhook-hmac-algorithm": "sha512"},
    "wuzapi": lambda secret, body, _now_s: {"x-hmac-signature": _hex_mac(secret, body, "sha256")},
    "zapi": lambda secret, _body, _now_s: {"z-api-token": secret.decode()},
    "cloud-api": lambda secret, body, _now_s: {"x-hub-signature-256": f"sha256={_hex_mac(secret, body, 'sha256')}"},
}
_WRITERS: Mapping[str, Callable[[Json], tuple[str, bytes]]] = {
    "wuzapi": lambda said: ("application/x-www-form-urlencoded", urlencode(said).encode()),
}
"""Of gateways that do not write JSON: the content type, and the body."""
GATEWAYS = tuple(sorted(_MAKERS))
