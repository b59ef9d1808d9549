"""One item of an Evolution API body's `data` as an event. Pure; raises nothing on any value.

`date_time` is when the gateway emitted, in milliseconds of its local time called UTC: the same over its retries, so it
identifies; no instant, so `occurred_at` is never read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from worker.domain.event import Connection, EventType
from worker.gateways.identity import (
    NO_IDENTITY,
    UNNAMED,
    Identity,
    by_message,
    by_time,
    canonical_id,
    digest,
    from_sender,
    in_chat,
    is_group,
    phone_first,
)
from worker.gateways.reading import NOTHING, first_text, flag_at, id_at, instant_at, mapping_at, moment_at, subtype_of, text_at
from worker.gateways.whatsapp_message import Content, content_of, protocol_content

KEPT_TOGETHER = frozenset({"chats.set", "contacts.set", "messages.set", "messaging.history.set"})
"""Their lists are parts of one synchronisation step."""

_STATUSES = {
    "ERROR": "failed",
    "FAILED": "failed",
    "PENDING": "pending",
    "SERVER_ACK": "sent",
    "SENT": "sent",
    "DELIVERY_ACK": "delivered",
    "DELIVERED": "delivered",
    "READ": "read",
    "PLAYED": "played",
}
_STATUS_NUMBERS = ("ERROR", "PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ", "PLAYED")
_STATES = {"open": "open", "connecting": "connecting", "close": "closed", "closed": "closed", "refused": "failed"}
_REASONS = {
    "401": "logged_out",
    "402": "failed",
    "403": "failed",
    "406": "failed",
    "411": "failed",
    "440": "replaced",
    "500": "failed",
    "515": "connecting",
}
"""Why a closed connection closed, where that says more (Baileys' `DisconnectReason`)."""
_CIPHERTEXT_STUBS = ("2", "CIPHERTEXT")
_NO_STUBS = (None, "0", "UNKNOWN")
_RETOLD = frozenset({"key", "pushName", "status"})
"""Of a message: what is hashed already, in canonical form, and what changes while it is still the same one."""


class Item(NamedTuple):
    """`name` as `canonical_name` gives it (None: nobody knows `event`); `raw` holds this item alone or the whole body."""

    name: str | None
    event: str
    part: Any
    nth: int
    whole: Mapping[str, Any]
    raw: bytes

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.part if isinstance(self.part, dict) else NOTHING

    @property
    def key(self) -> Mapping[str, Any]:
        """Baileys' message key, or the item itself, which holds the same fields in updates."""
        return mapping_at(self.fields, "key") or self.fields

    @property
    def moment(self) -> str | None:
        """`date_time`, where it is fine enough to tell what may happen twice in one second."""
        moment = moment_at(self.whole, "date_time")
        return moment if moment is not None and "." in moment else None


def canonical_name(event: str) -> str | None:
    """`MESSAGES_UPSERT`, `messages-upsert` and `messages.upsert` are one; None: not an event of Evolution API."""
    name = event.lower().replace("_", ".").replace("-", ".")
    return name if name in _READERS else None


def fields_of_item(item: Item) -> dict[str, Any]:
    """The fields of the event, `identity` among them; `unknown/undecodable` where it is not what this kind of event has."""
    if item.name is None:
        fields: dict[str, Any] = {"type": EventType.UNKNOWN, "subtype": subtype_of(item.event)}
    elif item.name in _NEEDS_AN_OBJECT and not item.fields:
        fields = {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    else:
        fields = _READERS[item.name](item)
    fields.setdefault("identity", _by_time(item))
    return fields


def _by_time(item: Item) -> Identity:
    """The item's place counts: two that are equal in one body are two events."""
    return by_time(item.moment, [item.name or item.event, item.nth, item.part], item.raw) if item.moment else NO_IDENTITY


# ─── messages and receipts ───


def _upsert(item: Item) -> dict[str, Any]:
    message = mapping_at(item.fields, "message")
    content = content_of(message)
    fields = _said(item, content)
    fields["ref_message_id"] = content.ref_message_id or id_at(mapping_at(item.fields, "contextInfo"), "stanzaId")
    fields["occurred_at"] = instant_at(item.fields, "messageTimestamp")
    fields["push_name"] = None if fields["from_me"] else text_at(item.fields, "pushName")
    stub = id_at(item.fields, "messageStubType")
    if stub in _CIPHERTEXT_STUBS:
        fields["subtype"] = "waiting"
    elif stub not in _NO_STUBS and not message:
        # A line in the chat that nobody wrote: somebody joined, a call was missed.
        fields |= {"type": EventType.SYSTEM, "subtype": subtype_of(f"stub_{stub}")}
    lasting = {name: value for name, value in item.fields.items() if name not in _RETOLD}
    return fields | _by_message(fields, digest(lasting, item.raw))


def _sent(item: Item) -> dict[str, Any]:
    """What was sent through the gateway's own API; WhatsApp's echo of it is another event."""
    fields = _upsert(item)
    return {**fields, "subtype": fields["subtype"] or "sent"}


def _edited(item: Item) -> dict[str, Any]:
    """A `protocolMessage` without the message around it: also a revoke comes by this name."""
    fields = _said(item, protocol_content(item.fields)) | _writer(item)
    fields["occurred_at"] = instant_at(item.fields, "timestampMs") or instant_at(item.fields, "timestampMS")
    return fields | _by_message(fields, digest(item.part, item.raw), item.moment or "")


def _writer(item: Item) -> dict[str, Any]:
    """What is certain of a key that the writer wrote: its `fromMe` says "mine" of theirs, its chat may be us."""
    us, _ = phone_first(id_at(item.whole, "sender"))
    who = _who(item)
    nobody = {"sender_id": None, "sender_aliases": (), "from_me": False}
    if us is not None and who["chat_id"] == us:
        return who | nobody | {"chat_id": None, "chat_aliases": ()}
    if not (who["is_group"] and who["from_me"]):
        return who
    participant, aliases = phone_first(id_at(item.key, "participant"))
    if participant is None:
        return who | nobody
    return who | {"sender_id": participant, "sender_aliases": aliases, "from_me": participant == us}


def _sent_edit(item: Item) -> dict[str, Any]:
    return {**_edited(item), **_who(item), "from_me": True}


def _deleted(item: Item) -> dict[str, Any]:
    """The key of what was revoked, or the whole message as it was."""
    fields = _said(item, Content(subtype="revoked", ref_message_id=id_at(item.key, "id")))
    return fields | _by_message(fields, digest(item.part, item.raw))


def _update(item: Item) -> dict[str, Any]:
    """A receipt, or that the message is gone (`DELETED`), or votes."""
    message_id = id_at(item.fields, "keyId") or id_at(item.key, "id")
    ids = (message_id,) if message_id else ()
    who = _who(item) | {"message_ids": ids}
    word = _status_word(item.fields)
    if word == "DELETED" or item.fields.get("pollUpdates"):
        subtype = "poll_vote" if item.fields.get("pollUpdates") else "revoked"
        fields = {"type": EventType.MESSAGE, "subtype": subtype, **who, "ref_message_id": message_id}
        return fields | _by_message(fields, digest(item.part, item.raw), item.moment or "")
    status = None if word is None else _STATUSES.get(word, subtype_of(word.lower()))
    fields = {"type": EventType.RECEIPT, "subtype": status, "status": status, **who, **_reader(who)}
    # In a group nobody says who read: the second reader's receipt must not meet the first one's.
    is_plain = word in _STATUSES and not who["is_group"]
    return fields | (_by_message(fields) if is_plain else _by_message(fields, digest(item.part, item.raw), item.moment or ""))


def _status_word(fields: Mapping[str, Any]) -> str | None:
    status = fields.get("status", mapping_at(fields, "update").get("status"))
    if isinstance(status, int) and not isinstance(status, bool) and 0 <= status < len(_STATUS_NUMBERS):
        return _STATUS_NUMBERS[status]
    return status.upper() if isinstance(status, str) and status else None


def _reader(who: Mapping[str, Any]) -> dict[str, Any]:
    """Whose receipt: the other side's for a message of ours, else ours; `participant` is the message's author."""
    if who["from_me"] and not who["is_group"]:
        return {"sender_id": who["chat_id"], "sender_aliases": who["chat_aliases"]}
    return {"sender_id": None, "sender_aliases": ()}


def _said(item: Item, content: Content) -> dict[str, Any]:
    message_id = id_at(item.key, "id") or id_at(item.key, "ID")
    return {
        "type": EventType.MESSAGE,
        **_who(item),
        "message_ids": (message_id,) if message_id else (),
        "subtype": content.subtype,
        "text": content.text,
        "media": content.media,
        "ref_message_id": content.ref_message_id,
    }


def _who(item: Item) -> dict[str, Any]:
    key = item.key
    from_me = flag_at(key, "fromMe") is True
    chat_alt = id_at(key, "remoteJidAlt") or (None if from_me else id_at(key, "senderPn") or id_at(key, "senderLid"))
    told = id_at(key, "remoteJid")
    chat = phone_first(told, None if is_group(told) else chat_alt)
    writer = id_at(key, "participant") or id_at(item.fields, "participant")
    if from_me:
        sender = phone_first(id_at(item.whole, "sender"))
    elif writer is not None:
        sender = phone_first(writer, *(id_at(key, f"participant{alt}") for alt in ("Alt", "Pn", "Lid")))
    else:
        sender = UNNAMED if is_group(told) else chat
    return {**in_chat(chat), **from_sender(sender), "from_me": from_me}


def _by_message(fields: Mapping[str, Any], *facts: str) -> dict[str, Identity]:
    """Nothing without an id: then the identity rests on the time, if there is one."""
    return {"identity": by_message(*facts)} if fields["message_ids"] else {}


# ─── the instance itself ───


def _connection(item: Item) -> dict[str, Any]:
    """`connection.update` and `status.instance`."""
    word = first_text(item.fields.get("state"), item.fields.get("status"))
    if word is None:
        return {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    code = id_at(item.fields, "statusReason") or id_at(item.fields, "disconnectionReasonCode")
    state = _STATES.get(word.lower(), "connecting")
    if state in {"closed", "failed"} and code is not None:
        state = _REASONS.get(code, state)
    return _state(state, subtype_of(code or word))


def _logged_out(_item: Item) -> dict[str, Any]:
    return _state("logged_out", "logout.instance")


def _state(state: str, code: str) -> dict[str, Any]:
    return {"type": EventType.CONNECTION, "subtype": state, "connection": Connection(state=state, reason_code=code)}


def _qr(item: Item) -> dict[str, Any]:
    """A new code; without one, that there will be no more."""
    shown = mapping_at(item.fields, "qrcode")
    code = id_at(item.fields, "statusCode")
    connection = Connection(state="qr" if shown else "failed", reason_code=code, reason=text_at(item.fields, "message"))
    return {"type": EventType.QR, "subtype": "scan_qr_code" if shown else "limit", "connection": connection}


# ─── people, groups, calls, chats ───


def _presence(item: Item) -> dict[str, Any]:
    """One body may tell of several people; sender and subtype only where it is one."""
    fields = {"type": EventType.PRESENCE, **_about(id_at(item.fields, "id"))}
    presences = mapping_at(item.fields, "presences")
    if len(presences) == 1:
        [(person, told)] = presences.items()
        fields["sender_id"], fields["sender_aliases"] = phone_first(id_at({"id": person}, "id"))
        word = text_at(told, "lastKnownPresence") if isinstance(told, dict) else None
        fields["subtype"] = subtype_of(word) if word else None
    return fields


def _call(item: Item) -> dict[str, Any]:
    caller, aliases = phone_first(id_at(item.fields, "from"), id_at(item.fields, "callerPn"))
    word = text_at(item.fields, "status")
    chat = id_at(item.fields, "groupJid") or id_at(item.fields, "chatId")
    # The chat of a call is named by the caller's LID or number; where it is the caller's, both names are known.
    is_callers = chat is None or canonical_id(chat) in {caller, *aliases}
    return {
        "type": EventType.CALL,
        "subtype": subtype_of(word) if word else None,
        **(_about(caller, *aliases) if is_callers else _about(chat)),
        "sender_id": caller,
        "sender_aliases": aliases,
        "occurred_at": instant_at(item.fields, "date"),
        "replay": flag_at(item.fields, "offline") is True,
    }


def _contact(item: Item) -> dict[str, Any]:
    return {"type": EventType.CONTACT, "subtype": _last_word(item), **_named(item), "push_name": text_at(item.fields, "pushName")}


def _group(item: Item) -> dict[str, Any]:
    actor, aliases = phone_first(id_at(item.fields, "author"))
    subtype = "participants" if "participants" in (item.name or "") else _last_word(item)
    about = {"is_group": True, "sender_id": actor, "sender_aliases": aliases}
    return {"type": EventType.GROUP, "subtype": subtype, **_named(item), **about}


def _history(item: Item) -> dict[str, Any]:
    return {"type": EventType.HISTORY, "subtype": subtype_of(item.name or ""), "replay": True}


def _system(item: Item) -> dict[str, Any]:
    return {"type": EventType.SYSTEM, "subtype": subtype_of((item.name or "").replace(".", "_")), **_named(item)}


def _named(item: Item) -> dict[str, Any]:
    """The chat that the item is about: itself where it is a text, as deleted chats are."""
    if isinstance(item.part, str):
        return _about(id_at({"id": item.part}, "id"))
    jid = id_at(item.fields, "remoteJid") or id_at(item.fields, "chatId")
    # Of a label and of an instance `id` is their own.
    return _about(jid or (id_at(item.fields, "id") if "@" in (id_at(item.fields, "id") or "") else None))


def _about(*ids: str | None) -> dict[str, Any]:
    return in_chat(phone_first(*ids))


def _last_word(item: Item) -> str:
    return (item.name or "").rpartition(".")[2]


_READERS: dict[str, Callable[[Item], dict[str, Any]]] = {
    "messages.upsert": _upsert,
    "messages.update": _update,
    "messages.edited": _edited,
    "messages.delete": _deleted,
    "send.message": _sent,
    "send.message.update": _sent_edit,
    "presence.update": _presence,
    "call": _call,
    "connection.update": _connection,
    "status.instance": _connection,
    "qrcode.updated": _qr,
}
_NEEDS_AN_OBJECT = frozenset(_READERS)
_READERS |= {"logout.instance": _logged_out} | dict.fromkeys(KEPT_TOGETHER, _history)
_READERS |= dict.fromkeys(("contacts.upsert", "contacts.update"), _contact)
_READERS |= dict.fromkeys(("groups.upsert", "groups.update", "group.update", "group.participants.update"), _group)
_READERS |= dict.fromkeys(("chats.upsert", "chats.update", "chats.delete", "labels.edit", "labels.association"), _system)
_READERS |= dict.fromkeys(("application.startup", "creds.update", "instance.create", "instance.delete", "remove.instance"), _system)
_READERS |= dict.fromkeys(("typebot.start", "typebot.change.status"), _system)
