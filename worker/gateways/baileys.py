"""baileys-acessuswpp: `{"event", "instanceId", "timestamp", "payload"}`; from its store with `id`, `sequence`, `direction`. Pure.

Source: the broker's docs/api-reference.md and its senders of February 2026. It tells an inbound message twice, as `MESSAGE_INBOUND` and,
as WhatsApp wrote it, in `WHATSAPP_MESSAGES_UPSERT` (`baileys_raw.py`); for a plain message both have one identity. Edits, revokes, what
was sent from the phone and what could not be decrypted come in the second only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from worker.domain.errors import MalformedEvent
from worker.domain.event import Connection, EventType, Media
from worker.gateways import baileys_raw
from worker.gateways.baileys_raw import STATUSES, plain_facts
from worker.gateways.identity import (
    NO_IDENTITY,
    UNNAMED,
    Identity,
    by_message,
    by_source,
    by_time,
    digest,
    from_sender,
    in_chat,
    is_group,
    phone_first,
)
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import (
    first_text,
    flag_at,
    id_at,
    instant_at,
    json_body,
    mapping_at,
    moment_at,
    size_at,
    subtype_of,
    text_at,
)
from worker.gateways.signatures import matches_any
from worker.gateways.whatsapp_message import Content, content_of

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"57c1acd47dc2524ab06dc4640443d755072565ebed06e1a7cc6d27ab4986e0ce"})
"""The API key in the broker's source, which also signs where nobody set another."""

_MEDIA_KINDS = frozenset({"image", "video", "audio", "document", "sticker"})
_CONNECTION_STATES = {"open": "open", "connecting": "connecting", "close": "closed", "qr_timeout": "failed"}
_LOGGED_OUT = 401
_REPLACED = 440


class Body(NamedTuple):
    """The body, opened. `payload` is empty where it is missing or no object."""

    whole: Mapping[str, Any]
    payload: Mapping[str, Any]
    raw: bytes


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`x-signature`: hex HMAC-SHA256 of the raw body."""
    return matches_any(push.headers.get("x-signature"), push.body, secrets, "sha256")


def decode(push: Push) -> list[Decoded]:
    """One, or as many as a raw body holds, in its order. Raises `MalformedEvent` where there is neither `event` nor `type`."""
    raw, whole = json_body(push.body)
    if not isinstance(whole, dict):
        raise MalformedEvent("body", "must be an object")
    event = text_at(whole, "event") or text_at(whole, "type")
    if event is None:
        raise MalformedEvent("event", "must be a text that is not empty")
    items = baileys_raw.LISTS.get(event)
    if items is not None:
        return baileys_raw.decoded(event, items, whole, raw)
    body = Body(whole, mapping_at(whole, "payload"), raw)
    fields = _fields_of(event, body)
    fields.setdefault("identity", _identity(body))
    name = id_at(whole, "instanceId") or id_at(body.payload, "instanceId") or id_at(mapping_at(whole, "instance"), "id")
    return [Decoded(gateway_instance=name, occurred_at=_occurred_at(body), raw=raw, **fields)]


def _fields_of(event: str, body: Body) -> dict[str, Any]:
    if isinstance(body.whole.get("instance"), dict) and (read_instance := _INSTANCE_READERS.get(event)):
        return read_instance(body)
    read = _READERS.get(event)
    if read is None:
        return {"type": EventType.UNKNOWN, "subtype": subtype_of(event)}
    return read(body) if body.payload else {"type": EventType.UNKNOWN, "subtype": "undecodable"}


# ─── messages ───


def _inbound(body: Body) -> dict[str, Any]:
    return _message(body, from_me=False)


def _outbound(body: Body) -> dict[str, Any]:
    return _message(body, from_me=True)


def _message(body: Body, *, from_me: bool) -> dict[str, Any]:
    message, metadata = mapping_at(body.payload, "message"), mapping_at(body.payload, "metadata")
    who = _who(body.payload, from_me=from_me)
    message_id = _message_id(body, message)
    # One of its shapes is WhatsApp's own message instead of a summary with a type.
    content = Content() if "type" in message else content_of(message)
    vote = mapping_at(metadata, "pollChoice")
    media = _media(mapping_at(message, "media")) or content.media
    text = first_text(message.get("text"), content.text, mapping_at(message, "media").get("caption"))
    fields = {
        "type": EventType.MESSAGE,
        "subtype": "poll_vote" if vote else None,
        **who,
        "message_ids": (message_id,) if message_id else (),
        "ref_message_id": id_at(vote, "pollId") or content.ref_message_id,
        "text": text,
        "media": media,
        "push_name": None if from_me else first_text(*(mapping_at(body.payload, "contact").get(n) for n in ("displayName", "name"))),
    }
    if message_id is not None:
        facts = None if vote else plain_facts(text, media, instant_at(metadata, "timestamp"))
        fields["identity"] = by_message(*(facts or (digest([message, metadata], body.raw),)))
    return fields


def _message_id(body: Body, message: Mapping[str, Any]) -> str | None:
    """The message's own; where the envelope has an `id` that its store did not number, that is WhatsApp's too."""
    own = id_at(message, "id") or id_at(message, "messageId")
    return own or (None if _is_stored(body) else id_at(body.whole, "id"))


def _media(media: Mapping[str, Any]) -> Media | None:
    kind = text_at(media, "mediaType") or text_at(media, "type")
    if kind not in _MEDIA_KINDS:
        return None
    return Media(kind=kind, mimetype=text_at(media, "mimetype"), filename=text_at(media, "fileName"), size=size_at(media, "size"))


def _poll_choice(body: Body) -> dict[str, Any]:
    """A vote, with the poll's sums as they are after it."""
    payload = body.payload
    message_id = id_at(payload, "messageId")
    fields = {
        "type": EventType.MESSAGE,
        "subtype": "poll_vote",
        **in_chat(phone_first(id_at(payload, "chatId"))),
        **from_sender(phone_first(id_at(payload, "voterJid"))),
        "message_ids": (message_id,) if message_id else (),
        "ref_message_id": id_at(payload, "pollId"),
    }
    return fields | ({"identity": by_message(digest(payload, body.raw))} if message_id else {})


def _who(payload: Mapping[str, Any], *, from_me: bool) -> dict[str, Any]:
    """`contact.phone` is the participant's in a group, else the chat's."""
    contact = mapping_at(payload, "contact")
    phone, told_chat = id_at(contact, "phone"), id_at(contact, "remoteJid") or id_at(mapping_at(payload, "message"), "chatId")
    in_group = is_group(told_chat) or flag_at(contact, "isGroup") is True
    chat = phone_first(told_chat, None if in_group else phone)
    sender = phone_first(id_at(contact, "participant"), phone) if in_group else chat
    return {**in_chat(chat), **from_sender(UNNAMED if from_me else sender), "from_me": from_me, "is_group": in_group}


# ─── receipts, the instance itself ───


def _status(body: Body) -> dict[str, Any]:
    """Of a message of ours; in a group it does not say whose news it is."""
    chat_id, chat_aliases = phone_first(id_at(body.payload, "chatId"))
    message_id, status = id_at(body.payload, "messageId"), baileys_raw.status_at(body.payload, "status")
    reader, aliases = phone_first() if is_group(chat_id) else (chat_id, chat_aliases)
    fields: dict[str, Any] = {
        "type": EventType.RECEIPT,
        "subtype": status,
        "status": status,
        "chat_id": chat_id,
        "chat_aliases": chat_aliases,
        "sender_id": reader,
        "sender_aliases": aliases,
        "from_me": True,
        "is_group": is_group(chat_id),
        "message_ids": (message_id,) if message_id else (),
    }
    if message_id:
        is_plain = status in STATUSES and reader is not None
        fields["identity"] = by_message() if is_plain else by_message(digest(body.payload, body.raw))
    return fields


def _connection(body: Body) -> dict[str, Any]:
    instance = mapping_at(body.whole, "instance")
    detail = mapping_at(instance, "connectionStateDetail")
    word, code = text_at(instance, "connectionState"), detail.get("statusCode")
    state = _CONNECTION_STATES.get(word or "", "connecting")
    if state == "closed" and (flag_at(detail, "isLoggedOut") or code == _LOGGED_OUT):
        state = "logged_out"
    elif state == "closed" and code == _REPLACED:
        state = "replaced"
    connection = Connection(state=state, reason_code=id_at(detail, "statusCode"), reason=text_at(detail, "reason"))
    return {"type": EventType.CONNECTION, "subtype": state, "connection": connection}


def _qr(_body: Body) -> dict[str, Any]:
    return {"type": EventType.QR, "subtype": "scan_qr_code", "connection": Connection(state="qr")}


def _pairing(_body: Body) -> dict[str, Any]:
    return {"type": EventType.QR, "subtype": "pairing", "connection": Connection(state="qr")}


def _system(subtype: str) -> Callable[[Body], dict[str, Any]]:
    def read(_body: Body) -> dict[str, Any]:
        return {"type": EventType.SYSTEM, "subtype": subtype}

    return read


# ─── identity and time of what has no message id ───


def _is_stored(body: Body) -> bool:
    """Whether the broker's store numbered it: then its `id` is the store's, one for each event, the same at every reading."""
    return id_at(body.whole, "sequence") is not None


def _identity(body: Body) -> Identity:
    event_id = id_at(body.whole, "id") if _is_stored(body) else None
    if event_id is not None:
        return by_source(event_id)
    instance = mapping_at(body.whole, "instance")
    moment = moment_at(body.payload, "timestamp") or moment_at(body.whole, "timestamp")
    moment = moment or moment_at(instance, "connectionUpdatedAt") or moment_at(instance, "qrReceivedAt")
    return NO_IDENTITY if moment is None else by_time(moment, body.whole, body.raw)


def _occurred_at(body: Body) -> str | None:
    return (
        instant_at(mapping_at(body.payload, "metadata"), "timestamp")
        or instant_at(body.payload, "timestamp")
        or instant_at(body.whole, "timestamp")
        or instant_at(body.whole, "createdAt")
        or instant_at(mapping_at(body.whole, "instance"), "connectionUpdatedAt")
    )


_READERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "MESSAGE_INBOUND": _inbound,
    "MESSAGE_OUTBOUND": _outbound,
    "POLL_CHOICE": _poll_choice,
    "MESSAGE_STATUS": _status,
    "WEBHOOK_DELIVERY": _system("webhook_delivery"),
    "QUICK_SEND_RESULT": _system("quick_send_result"),
}
_INSTANCE_READERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "connection": _connection,
    "qr": _qr,
    "pairing": _pairing,
    "error": _system("error"),
    "metadata": _system("metadata"),
}
"""Frames of `/instances/events`, which carry the instance itself in place of a payload."""
