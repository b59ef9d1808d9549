"""Z-API and its compatible clones: one callback per body, a flat object with a `type`. Pure.

Source: Z-API's documentation (webhooks/*) and bodies captured from it. A callback is not signed: the header `z-api-token` shows the
instance's token. One chat comes as a phone number and as a LID in callbacks that follow each other; only some carry both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.domain.errors import MalformedEvent
from worker.domain.event import Connection, EventType
from worker.gateways.identity import (
    NO_IDENTITY,
    UNNAMED,
    Identity,
    by_message,
    by_time,
    digest,
    from_sender,
    in_chat,
    is_group,
    phone_first,
)
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import flag_at, id_at, ids_at, instant_at, json_body, moment_at, subtype_of, text_at
from worker.gateways.signatures import is_same
from worker.gateways.zapi_message import address_at, content_of, media_of, ref_of, subtype_in, text_of, who_of

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"SEU_TOKEN", "YOUR_TOKEN"})

_TOKEN_HEADERS = ("z-api-token", "client-token")
_STATUSES = {
    "FAILED": "failed",
    "PENDING": "pending",
    "SENT": "sent",
    "RECEIVED": "delivered",
    "READ": "read",
    "READ_BY_ME": "read",
    "READ-SELF": "read",
    "PLAYED": "played",
    "PLAYED_BY_ME": "played",
}
_BY_ME = frozenset({"READ_BY_ME", "READ-SELF", "PLAYED_BY_ME"})
"""We read or played what others wrote."""
_NOTIFICATIONS = {
    "CALL_": EventType.CALL,
    "GROUP_": EventType.GROUP,
    "MEMBERSHIP_": EventType.GROUP,
    "REVOKED_MEMBERSHIP_": EventType.GROUP,
    "PROFILE_": EventType.CONTACT,
}
"""By how the notification's name begins; all others are `system`."""


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """The token itself, in `z-api-token` or `client-token`. Proves who sent, not that the body is theirs."""
    sent = next((sent for name in _TOKEN_HEADERS if (sent := push.headers.get(name, "").strip())), None)
    if sent is None:
        return False
    found = False
    for secret in secrets:
        found |= is_same(sent, secret)
    return found


def decode(push: Push) -> list[Decoded]:
    """Exactly one. Raises `MalformedEvent` where the body is no object with a `type`."""
    raw, body = json_body(push.body)
    if not isinstance(body, dict):
        raise MalformedEvent("body", "must be an object")
    kind = text_at(body, "type")
    if kind is None:
        raise MalformedEvent("type", "must be a text that is not empty")
    read = _READERS.get(kind.lower())
    fields: dict[str, Any] = {"type": EventType.UNKNOWN, "subtype": subtype_of(kind)} if read is None else read(body, raw)
    fields.setdefault("identity", _timed(body, raw))
    return [Decoded(gateway_instance=id_at(body, "instanceId"), occurred_at=instant_at(body, "momment"), raw=raw, **fields)]


# ─── messages and what stands among them ───


def _received(body: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    word = text_at(body, "notification")
    if word is None:
        return _message(body, raw, subtype_in(body), ref_of(body))
    if word == "REVOKE":
        # The notice carries the id of the message that is gone.
        return _message(body, raw, "revoked", id_at(body, "messageId"))
    kind = next((kind for start, kind in _NOTIFICATIONS.items() if word.startswith(start)), EventType.SYSTEM)
    name = subtype_of(word.removeprefix("CALL_").removeprefix("GROUP_").lower())
    return {"type": kind, "subtype": name or None, **who_of(body)}


def _message(body: Mapping[str, Any], raw: bytes, subtype: str | None, ref: str | None) -> dict[str, Any]:
    message_id, who = id_at(body, "messageId"), who_of(body)
    fields = {
        "type": EventType.MESSAGE,
        "subtype": subtype,
        **who,
        "message_ids": (message_id,) if message_id else (),
        "ref_message_id": ref,
        "text": text_of(body),
        "media": media_of(body),
        "push_name": None if who["from_me"] else text_at(body, "senderName"),
    }
    return fields | ({"identity": by_message(digest(content_of(body), raw))} if message_id else {})


# ─── receipts ───


def _status(body: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """Who received or read: the participant in a group, else the chat; of their messages (`…_BY_ME`) we ourselves."""
    word = text_at(body, "status")
    status = None if word is None else _STATUSES.get(word, subtype_of(word.lower()))
    is_by_me = word in _BY_ME
    chat_id, chat_aliases = phone_first(address_at(body, "phone"), id_at(body, "chatLid"))
    in_group = is_group(chat_id) or flag_at(body, "isGroup") is True
    reader, aliases = phone_first(id_at(body, "participant"), id_at(body, "participantLid"))
    if reader is None and not in_group and not is_by_me:
        reader, aliases = chat_id, chat_aliases
    ids = ids_at(body, "ids")
    fields: dict[str, Any] = {
        "type": EventType.RECEIPT,
        "subtype": f"{status}_by_me" if is_by_me else status,
        "status": status,
        "chat_id": chat_id,
        "chat_aliases": chat_aliases,
        "sender_id": reader,
        "sender_aliases": aliases,
        "from_me": not is_by_me,
        "is_group": in_group,
        "message_ids": ids,
    }
    if ids:
        # Each of a reader's devices reports for itself; where nobody is named, or the word is new, only the same body is the same.
        is_plain = word in _STATUSES and (reader is not None or is_by_me)
        device = id_at(body, "participantDevice") or id_at(body, "phoneDevice") or ""
        fields["identity"] = by_message("device", device) if is_plain else by_message(digest(body, raw))
    return fields


def _delivery(body: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """WhatsApp's servers took, or refused, a message of ours; not yet that anybody received it."""
    status = "failed" if body.get("error") else "sent"
    message_id = id_at(body, "messageId") or id_at(body, "zaapId")
    fields = {
        "type": EventType.RECEIPT,
        "subtype": status,
        "status": status,
        **in_chat(phone_first(address_at(body, "phone"), id_at(body, "chatLid"))),
        "from_me": True,
        "message_ids": (message_id,) if message_id else (),
    }
    return fields | ({"identity": by_message(digest(content_of(body), raw))} if message_id else {})


# ─── presence, the instance itself, history ───


def _presence(body: Mapping[str, Any], _raw: bytes) -> dict[str, Any]:
    """Tells no time of its own; `lastSeen` is the contact's."""
    chat = phone_first(address_at(body, "phone"), id_at(body, "chatLid"))
    word = text_at(body, "status")
    return {
        "type": EventType.PRESENCE,
        "subtype": None if word is None else subtype_of(word.lower()),
        **in_chat(chat),
        **from_sender(UNNAMED if is_group(chat.id) else chat),
        "identity": NO_IDENTITY,
    }


def _connected(body: Mapping[str, Any], _raw: bytes) -> dict[str, Any]:
    return _connection("closed" if flag_at(body, "connected") is False else "open", body)


def _disconnected(body: Mapping[str, Any], _raw: bytes) -> dict[str, Any]:
    return _connection("closed", body)


def _connection(state: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Told in whole seconds it has no identity: a link may break twice within one."""
    fields = {"type": EventType.CONNECTION, "subtype": state, "connection": Connection(state=state, reason=text_at(body, "error"))}
    at = instant_at(body, "momment")
    return fields | ({"identity": NO_IDENTITY} if at is None or at.endswith(".000Z") else {})


def _history(_body: Mapping[str, Any], _raw: bytes) -> dict[str, Any]:
    return {"type": EventType.HISTORY, "subtype": "sync", "replay": True}


def _timed(body: Mapping[str, Any], raw: bytes) -> Identity:
    moment = moment_at(body, "momment")
    return NO_IDENTITY if moment is None else by_time(moment, body, raw)


_READERS: Mapping[str, Callable[[Mapping[str, Any], bytes], dict[str, Any]]] = {
    "receivedcallback": _received,
    "messagestatuscallback": _status,
    "deliverycallback": _delivery,
    "presencechatcallback": _presence,
    "connectedcallback": _connected,
    "disconnectedcallback": _disconnected,
    "historysynccallback": _history,
}
"""By `type` in lower case: Z-API's own pages write it in two ways."""
