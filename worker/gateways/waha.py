"""WAHA: one event per body, `{"event", "session", "payload", …}`, by webhook or as a frame of its websocket. Pure.

Source: WAHA's documentation (how-to/events, receive-messages), OpenAPI 2026.7, and bodies captured from GOWS and NOWEB. `message` and
`message.any` both fire for one message: the identity holds no event name, so they are one event. The `evt_…` id is new
for each webhook URL and for the socket, so it identifies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.domain.errors import MalformedEvent
from worker.domain.event import Connection, EventType
from worker.gateways.identity import NO_IDENTITY, Identity, by_message, by_time, digest, in_chat, phone_first
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import (
    first_text,
    flag_at,
    id_at,
    instant,
    instant_at,
    json_body,
    list_at,
    mapping_at,
    moment_at,
    subtype_of,
    text_at,
)
from worker.gateways.signatures import matches_any
from worker.gateways.waha_payload import Body, MessageId, media_of, message_id_at, push_name_of, who_of

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"your-secret-key", "my-secret-key"})

_ALGORITHM = "sha512"
_ACKS = {-1: "failed", 0: "pending", 1: "sent", 2: "delivered", 3: "read", 4: "played"}
_ACK_NAMES = {"ERROR": "failed", "PENDING": "pending", "SERVER": "sent", "DEVICE": "delivered", "READ": "read", "PLAYED": "played"}
_SESSION_STATES = {"STOPPED": "closed", "STARTING": "connecting", "WORKING": "open", "FAILED": "failed"}
_QR_STATUSES = frozenset({"SCAN_QR_CODE", "PASSKEY_REQUIRED", "PASSKEY_CONFIRMATION_REQUIRED"})
_CLIENT_STATES = {
    "CONFLICT": "replaced",
    "CONNECTED": "open",
    "DEPRECATED_VERSION": "failed",
    "OPENING": "connecting",
    "PAIRING": "connecting",
    "PROXYBLOCK": "failed",
    "SMB_TOS_BLOCK": "failed",
    "TIMEOUT": "closed",
    "TOS_BLOCK": "failed",
    "UNLAUNCHED": "closed",
    "UNPAIRED": "logged_out",
    "UNPAIRED_IDLE": "logged_out",
}
_STATE_OF_DELIVERY = frozenset({"ack", "ackName"})
"""What changes in a message while it is still the same one."""


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`X-Webhook-Hmac`: hex HMAC-SHA512 of the raw body."""
    if push.headers.get("x-webhook-hmac-algorithm", _ALGORITHM).strip().lower() != _ALGORITHM:
        return False
    return matches_any(push.headers.get("x-webhook-hmac"), push.body, secrets, _ALGORITHM)


def decode(push: Push) -> list[Decoded]:
    """Exactly one. Raises `MalformedEvent` where the body is no object with an `event`."""
    raw, whole = json_body(push.body)
    if not isinstance(whole, dict):
        raise MalformedEvent("body", "must be an object")
    event = text_at(whole, "event")
    if event is None:
        raise MalformedEvent("event", "must be a text that is not empty")
    body = Body(whole, mapping_at(whole, "me"), mapping_at(whole, "payload"), raw)
    fields = _fields_of(event, body)
    fields.setdefault("identity", _identity(body, fields))
    return [Decoded(gateway_instance=id_at(whole, "session"), occurred_at=_occurred_at(body), raw=raw, **fields)]


def _fields_of(event: str, body: Body) -> dict[str, Any]:
    """The event's fields; `unknown/undecodable` where the payload is not what this kind of event has."""
    read = _READERS.get(event)
    if read is None:
        family, _, rest = event.partition(".")
        read_family = _FAMILIES.get(family)
        return {"type": EventType.UNKNOWN, "subtype": subtype_of(event)} if read_family is None else read_family(body, rest)
    if event not in _PAYLOAD_MAY_BE_ANYTHING and not isinstance(body.whole.get("payload"), dict):
        return {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    return read(body)


# ─── messages ───


def _message(body: Body) -> dict[str, Any]:
    payload = body.payload
    named = message_id_at(payload, "id")
    fields = who_of(body, named)
    return {
        "type": EventType.MESSAGE,
        **fields,
        "ref_message_id": message_id_at(mapping_at(payload, "replyTo"), "id").id,
        "text": text_at(payload, "body"),
        "media": media_of(payload),
        "push_name": None if fields["from_me"] else push_name_of(payload),
        **_message_identity(body, named, {k: v for k, v in payload.items() if k not in _STATE_OF_DELIVERY}),
    }


def _waiting(body: Body) -> dict[str, Any]:
    """A message that could not be decrypted yet; the message itself follows with the same id."""
    return {**_message(body), "subtype": "waiting"}


def _edited(body: Body) -> dict[str, Any]:
    return {**_message(body), "subtype": "edited", "ref_message_id": message_id_at(body.payload, "editedMessageId").id}


def _revoked(body: Body) -> dict[str, Any]:
    """`after` is the notice, `before` what was revoked; either may be missing."""
    payload = body.payload
    notice = mapping_at(payload, "after") or mapping_at(payload, "before")
    named = message_id_at(notice, "id")
    revoked = message_id_at(payload, "revokedMessageId").id or message_id_at(mapping_at(payload, "before"), "id").id
    who = who_of(body._replace(payload=notice), named)
    return {"type": EventType.MESSAGE, "subtype": "revoked", **who, "ref_message_id": revoked, **_message_identity(body, named, payload)}


def _reaction(body: Body) -> dict[str, Any]:
    """A reaction taken back has an empty text, which is its content too."""
    reaction = mapping_at(body.payload, "reaction")
    changes = {"text": text_at(reaction, "text"), "ref_message_id": message_id_at(reaction, "messageId").id, "media": None}
    return {**_message(body), "subtype": "reaction", **changes}


def _vote(body: Body, subtype: str) -> dict[str, Any]:
    vote = mapping_at(body.payload, "vote")
    named = message_id_at(vote, "id")
    who = who_of(body._replace(payload=vote), named)
    ref = message_id_at(mapping_at(body.payload, "poll"), "id").id
    return {"type": EventType.MESSAGE, "subtype": subtype, **who, "ref_message_id": ref, **_message_identity(body, named, body.payload)}


def _message_identity(body: Body, named: MessageId, content: Mapping[str, Any]) -> dict[str, Identity]:
    """Nothing without an id: then the identity rests on the time, if there is one."""
    return {"identity": by_message(digest(content, body.raw))} if named.id else {}


# ─── receipts ───


def _ack(body: Body) -> dict[str, Any]:
    """Whose receipt: the participant's in a group, the chat's for a message of ours, ours for a message of theirs."""
    payload = body.payload
    named = message_id_at(payload, "id")
    who = who_of(body, named)
    reader, aliases = phone_first(id_at(payload, "participant"))
    if reader is None and who["from_me"] and not who["is_group"]:
        reader, aliases = who["chat_id"], who["chat_aliases"]
    status = _ack_status(payload)
    who |= {"sender_id": reader, "sender_aliases": aliases}
    fields = {"type": EventType.RECEIPT, "subtype": status, "status": status, **who}
    if named.id:
        # Receipts of two readers of one group message must not meet where the gateway does not say who read.
        is_anonymous = who["is_group"] and reader is None
        fields["identity"] = by_message(digest(payload, body.raw)) if is_anonymous else by_message()
    return fields


def _ack_status(payload: Mapping[str, Any]) -> str | None:
    ack, name = payload.get("ack"), text_at(payload, "ackName")
    if isinstance(ack, int) and not isinstance(ack, bool) and ack in _ACKS:
        return _ACKS[ack]
    return _ACK_NAMES.get(name, subtype_of(name.lower())) if name else None


# ─── the instance itself ───


def _session_status(body: Body) -> dict[str, Any]:
    status = text_at(body.payload, "status")
    if status is None:
        return {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    is_qr = status in _QR_STATUSES
    state = "qr" if is_qr else _SESSION_STATES.get(status, "connecting")
    connection = Connection(state=state, reason_code=subtype_of(status), reason=first_text(body.payload.get("error")))
    fields = {"type": EventType.QR if is_qr else EventType.CONNECTION, "subtype": state, "connection": connection}
    if is_qr:
        fields["subtype"] = subtype_of(status.lower())
    history = [at for entry in list_at(body.payload, "statuses") if isinstance(entry, dict) and (at := moment_at(entry, "timestamp"))]
    # While the status stays, a new QR code need not add to its history: there only the envelope's time tells two codes apart.
    if history and not is_qr:
        fields["identity"] = by_time(history[-1], body.payload, body.raw)
    return fields


def _state_change(body: Body) -> dict[str, Any]:
    word = first_text(body.payload.get("state"), body.whole.get("payload"))
    if word is None:
        return {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    state = _CLIENT_STATES.get(word.upper(), "connecting")
    return {"type": EventType.CONNECTION, "subtype": state, "connection": Connection(state=state, reason_code=subtype_of(word))}


def _engine_event(body: Body) -> dict[str, Any]:
    """What the engine under WAHA said, in its own words; a history or offline synchronisation among it."""
    name = text_at(body.payload, "event") or "engine"
    is_history = "history" in name.lower() or "offlinesync" in name.lower()
    return {"type": EventType.HISTORY if is_history else EventType.SYSTEM, "subtype": subtype_of(name), "replay": is_history}


# ─── people, groups, calls ───


def _presence(body: Body) -> dict[str, Any]:
    """One body may tell of several people; sender and subtype only where it is one."""
    fields: dict[str, Any] = {"type": EventType.PRESENCE, **in_chat(phone_first(id_at(body.payload, "id")))}
    presences = [entry for entry in list_at(body.payload, "presences") if isinstance(entry, dict)]
    if len(presences) == 1:
        fields["sender_id"], fields["sender_aliases"] = phone_first(id_at(presences[0], "participant"))
        if word := text_at(presences[0], "lastKnownPresence"):
            fields["subtype"] = subtype_of(word)
    return fields


def _group(body: Body, rest: str) -> dict[str, Any]:
    """`group.join`, `group.leave` and `group.v2.*`."""
    group_id = id_at(mapping_at(body.payload, "group"), "id") or id_at(body.payload, "chatId") or id_at(body.payload, "id")
    chat_id, chat_aliases = phone_first(group_id)
    return {
        "type": EventType.GROUP,
        "subtype": subtype_of(rest.removeprefix("v2.")) or None,
        "chat_id": chat_id,
        "chat_aliases": chat_aliases,
        "is_group": True,
    }


def _call(body: Body, rest: str) -> dict[str, Any]:
    caller, aliases = phone_first(id_at(body.payload, "from"))
    return {
        "type": EventType.CALL,
        "subtype": subtype_of(rest) or None,
        "chat_id": caller,
        "chat_aliases": aliases,
        "sender_id": caller,
        "sender_aliases": aliases,
        "from_me": flag_at(body.payload, "fromMe") or False,
    }


def _poll(body: Body, rest: str) -> dict[str, Any]:
    return _vote(body, subtype_of("poll_" + rest.replace(".", "_")))


def _event_response(body: Body, rest: str) -> dict[str, Any]:
    """An answer to a calendar event, or that it could not be read (`event.response.failed`)."""
    ref = id_at(mapping_at(body.payload, "eventCreationKey"), "id")
    return {**_message(body), "subtype": subtype_of("event_" + rest.replace(".", "_")), "ref_message_id": ref}


def _system(family: str) -> Callable[[Body, str], dict[str, Any]]:
    def read(body: Body, rest: str) -> dict[str, Any]:
        chat = phone_first(id_at(body.payload, "chatId") or (id_at(body.payload, "id") if family == "chat" else None))
        return {"type": EventType.SYSTEM, "subtype": subtype_of(f"{family}_{rest.replace('.', '_')}"), **in_chat(chat)}

    return read


def _occurred_at(body: Body) -> str | None:
    vote_time = mapping_at(body.payload, "vote").get("timestamp")
    return instant_at(body.payload, "timestamp") or instant(vote_time) or instant_at(body.whole, "timestamp")


def _identity(body: Body, fields: Mapping[str, Any]) -> Identity:
    """Of what has no message id: the payload's time, else the envelope's, else none."""
    moment = moment_at(body.payload, "timestamp") or moment_at(body.whole, "timestamp")
    if moment is None:
        return NO_IDENTITY
    part = [body.whole.get("event"), body.whole.get("payload")] if fields["type"] is not EventType.MESSAGE else body.whole.get("payload")
    return by_time(moment, part, body.raw)


_READERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "message": _message,
    "message.any": _message,
    "message.waiting": _waiting,
    "message.edited": _edited,
    "message.revoked": _revoked,
    "message.reaction": _reaction,
    "message.ack": _ack,
    "message.ack.group": _ack,
    "session.status": _session_status,
    "state.change": _state_change,
    "engine.event": _engine_event,
    "presence.update": _presence,
}
_PAYLOAD_MAY_BE_ANYTHING = frozenset({"state.change"})
_FAMILIES: Mapping[str, Callable[[Body, str], dict[str, Any]]] = {
    "group": _group,
    "call": _call,
    "poll": _poll,
    "event": _event_response,
    "chat": _system("chat"),
    "label": _system("label"),
}
