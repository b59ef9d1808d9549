"""GOWA (go-whatsapp-web-multidevice): one event per body, `{"event", "device_id", "session_id"?, "timestamp"?, "payload"}`. Pure.

Source: GOWA's documentation (docs/webhook-payload.md, v9.2) and its senders of that day; `gowa_payload.py` also reads the flat
bodies of v7 and before. GOWA tells nothing of the connection, of QR codes or of what it could not decrypt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.domain.event import EventType
from worker.gateways.gowa_payload import Body, content_of, media_of, opened, who_of
from worker.gateways.identity import NO_IDENTITY, Identity, Named, by_message, by_time, digest, in_chat, phone_first
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import first_text, id_at, ids_at, instant_at, json_body, list_at, moment_at, subtype_of, text_at
from worker.gateways.signatures import after_scheme, matches_any

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"secret", "your-super-secret-key"})
"""The first is what GOWA signs with where nobody chose another."""

_STATUSES = {
    "sender": "delivered",
    "delivered": "delivered",
    "read": "read",
    "read-self": "read",
    "played": "played",
    "played-self": "played",
    "server-error": "failed",
}
_BY_ME = frozenset({"read-self", "played-self"})
"""We read or played what others wrote."""
_UNDECODABLE: dict[str, Any] = {"type": EventType.UNKNOWN, "subtype": "undecodable"}


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the raw body>`."""
    return matches_any(after_scheme(push.headers.get("x-hub-signature-256"), "sha256"), push.body, secrets, "sha256")


def decode(push: Push) -> list[Decoded]:
    """Exactly one. Raises `MalformedEvent` where the body is neither an object with an `event` nor an old flat message."""
    raw, whole = json_body(push.body)
    body = opened(whole, raw)
    fields = _fields_of(body) if body.payload else dict(_UNDECODABLE)
    fields.setdefault("identity", _identity(body))
    name = id_at(body.whole, "session_id") or id_at(body.whole, "device_id")
    return [Decoded(gateway_instance=name, occurred_at=_occurred_at(body), raw=raw, **fields)]


def _fields_of(body: Body) -> dict[str, Any]:
    read = _READERS.get(body.event)
    if read is not None:
        return read(body)
    family, _, rest = body.event.partition(".")
    read_family = _FAMILIES.get(family)
    return {"type": EventType.UNKNOWN, "subtype": subtype_of(body.event)} if read_family is None else read_family(body, rest)


# ─── messages ───


def _message(body: Body) -> dict[str, Any]:
    payload, who = body.payload, who_of(body)
    message_id = id_at(payload, "id")
    fields = {
        "type": EventType.MESSAGE,
        **who,
        "message_ids": (message_id,) if message_id else (),
        "ref_message_id": id_at(payload, "replied_to_id"),
        "text": first_text(payload.get("body"), payload.get("interactive")),
        "media": media_of(payload),
        "push_name": None if who["from_me"] else text_at(payload, "from_name"),
    }
    return fields | ({"identity": by_message(digest(content_of(payload), body.raw))} if message_id else {})


def _reaction(body: Body) -> dict[str, Any]:
    """A reaction taken back has an empty text, which is its content too."""
    told = {"text": text_at(body.payload, "reaction"), "ref_message_id": id_at(body.payload, "reacted_message_id"), "media": None}
    return {**_message(body), "subtype": "reaction", **told}


def _revoked(body: Body) -> dict[str, Any]:
    return {**_message(body), "subtype": "revoked", "ref_message_id": id_at(body.payload, "revoked_message_id")}


def _edited(body: Body) -> dict[str, Any]:
    return {**_message(body), "subtype": "edited", "ref_message_id": id_at(body.payload, "original_message_id")}


def _deleted(body: Body) -> dict[str, Any]:
    """Somebody deleted a message for themselves: a notice without an id of its own."""
    return {"type": EventType.MESSAGE, "subtype": "deleted", **who_of(body), "ref_message_id": id_at(body.payload, "deleted_message_id")}


def _newsletter_message(body: Body) -> dict[str, Any]:
    """What changed in a channel: its newest messages without their texts, and how often they were seen."""
    messages = [item for item in list_at(body.payload, "messages") if isinstance(item, dict)]
    ids = tuple(dict.fromkeys(found for item in messages if (found := id_at(item, "message_id"))))
    return {"type": EventType.MESSAGE, "subtype": "newsletter", "chat_id": id_at(body.payload, "newsletter_id"), "message_ids": ids} | (
        {"identity": by_message(digest([_moment(body), content_of(body.payload)], body.raw))} if ids else {}
    )


# ─── receipts ───


def _ack(body: Body) -> dict[str, Any]:
    """Who received or read is the sender; the messages are ours, but for the types of `_BY_ME`."""
    word = text_at(body.payload, "receipt_type")
    status = None if word is None else _STATUSES.get(word, subtype_of(word))
    is_by_me = word in _BY_ME
    who = who_of(body) | {"from_me": not is_by_me}
    ids = ids_at(body.payload, "ids")
    fields = {
        "type": EventType.RECEIPT,
        "subtype": f"{status}_by_me" if is_by_me else status,
        "status": status,
        **who,
        "message_ids": ids,
    }
    if ids:
        # Two readers of one message must not meet where GOWA does not say who read, nor two types that we cannot tell apart.
        is_plain = word in _STATUSES and word != "sender" and who["sender_id"] is not None
        fields["identity"] = by_message() if is_plain else by_message(digest(body.payload, body.raw))
    return fields


# ─── people, groups, calls ───


def _presence(body: Body) -> dict[str, Any]:
    """Without identity: its time is when GOWA got round to it, in whole seconds, and typing begins twice within one."""
    state = text_at(body.payload, "state")
    is_recording = state == "composing" and text_at(body.payload, "media") == "audio"
    subtype = "recording" if is_recording else None if state is None else subtype_of(state)
    return {"type": EventType.PRESENCE, "subtype": subtype, **who_of(body), "identity": NO_IDENTITY}


def _group(body: Body, rest: str) -> dict[str, Any]:
    """`group.participants` says what happened to whom in `type`."""
    word = text_at(body.payload, "type") if rest == "participants" else None
    chat = phone_first(id_at(body.payload, "chat_id"))
    return {"type": EventType.GROUP, "subtype": subtype_of(word or rest) or None, **in_chat(chat), "is_group": True}


def _call(body: Body, rest: str) -> dict[str, Any]:
    who = who_of(body)
    group_id = id_at(body.payload, "group_jid")
    chat = phone_first(group_id) if group_id else Named(who["sender_id"], who["sender_aliases"])
    return {"type": EventType.CALL, "subtype": subtype_of(rest) or None, **who, **in_chat(chat)}


def _system(family: str) -> Callable[[Body, str], dict[str, Any]]:
    def read(body: Body, rest: str) -> dict[str, Any]:
        chat = phone_first(id_at(body.payload, "chat_id") or id_at(body.payload, "newsletter_id"), id_at(body.payload, "chat_lid"))
        return {"type": EventType.SYSTEM, "subtype": subtype_of(f"{family}_{rest.replace('.', '_')}"), **in_chat(chat)}

    return read


# ─── time ───


def _moment(body: Body) -> str | None:
    return moment_at(body.payload, "timestamp") or moment_at(body.whole, "timestamp")


def _occurred_at(body: Body) -> str | None:
    return instant_at(body.payload, "timestamp") or instant_at(body.whole, "timestamp")


def _identity(body: Body) -> Identity:
    """Of what has no message id."""
    moment = _moment(body)
    return NO_IDENTITY if moment is None else by_time(moment, body.whole, body.raw)


_READERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "message": _message,
    "message.reaction": _reaction,
    "message.revoked": _revoked,
    "message.edited": _edited,
    "message.deleted": _deleted,
    "message.ack": _ack,
    "newsletter.message": _newsletter_message,
    "chat_presence": _presence,
}
_FAMILIES: Mapping[str, Callable[[Body, str], dict[str, Any]]] = {
    "group": _group,
    "call": _call,
    "label": _system("label"),
    "newsletter": _system("newsletter"),
}
