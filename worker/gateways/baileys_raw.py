"""What baileys-acessuswpp passes on as Baileys wrote it: lists of messages and of changes to messages, one event each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from worker.domain.event import EventType, Media
from worker.gateways.identity import NO_IDENTITY, UNNAMED, by_message, by_time, digest, from_sender, in_chat, is_group, phone_first
from worker.gateways.port import Decoded
from worker.gateways.reading import flag_at, id_at, instant, instant_at, list_at, mapping_at, moment_at, subtype_of, text_at
from worker.gateways.whatsapp_message import Content, content_of

LISTS: Mapping[str, str] = {"WHATSAPP_MESSAGES_UPSERT": "messages", "WHATSAPP_MESSAGES_UPDATE": "updates"}
"""Events whose `payload.raw` holds a list, and the list's name."""
MAX_EVENTS = 4096
"""A body with more is kept whole, as one event."""
_STATUS_CODES = {0: "failed", 1: "pending", 2: "sent", 3: "delivered", 4: "read", 5: "played"}
_STATUS_NAMES = {
    "ERROR": "failed",
    "PENDING": "pending",
    "SERVER_ACK": "sent",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "played",
}
STATUSES = frozenset(_STATUS_CODES.values())
_STUBS = {
    1: "REVOKE",
    2: "CIPHERTEXT",
    20: "GROUP_CREATE",
    21: "GROUP_CHANGE_SUBJECT",
    22: "GROUP_CHANGE_ICON",
    23: "GROUP_CHANGE_INVITE_LINK",
    24: "GROUP_CHANGE_DESCRIPTION",
    25: "GROUP_CHANGE_RESTRICT",
    26: "GROUP_CHANGE_ANNOUNCE",
    27: "GROUP_PARTICIPANT_ADD",
    28: "GROUP_PARTICIPANT_REMOVE",
    29: "GROUP_PARTICIPANT_PROMOTE",
    30: "GROUP_PARTICIPANT_DEMOTE",
    31: "GROUP_PARTICIPANT_INVITE",
    32: "GROUP_PARTICIPANT_LEAVE",
    40: "CALL_MISSED_VOICE",
    41: "CALL_MISSED_VIDEO",
    45: "CALL_MISSED_GROUP_VOICE",
    46: "CALL_MISSED_GROUP_VIDEO",
}
"""WhatsApp's numbers for what stands in a chat without being a message, as far as anybody acts on them."""
_STUB_SUBTYPES = {"REVOKE": "revoked", "CIPHERTEXT": "waiting"}


class Item(NamedTuple):
    """One element of the list, its key opened. `told_at` is when the broker sent the body, as text."""

    value: Mapping[str, Any]
    key: Mapping[str, Any]
    told_at: str
    is_replay: bool
    raw: bytes


def decoded(event: str, name: str, whole: Mapping[str, Any], raw: bytes) -> list[Decoded]:
    """In the list's order. A body that holds no list, too much, or something too deep to be written again is one event."""
    told = mapping_at(whole, "payload", "raw")
    items = list_at(told, name)
    instance = id_at(whole, "instanceId") or id_at(mapping_at(whole, "payload"), "iid")
    whole_body = Decoded(gateway_instance=instance, type=EventType.UNKNOWN, subtype="undecodable", raw=raw)
    if not items or len(items) > MAX_EVENTS:
        return [whole_body]
    bodies = [raw] if len(items) == 1 else [_around(event, name, whole, item) for item in items]
    read, told_at = _READERS[name], moment_at(whole, "timestamp") or ""
    results: list[Decoded] = []
    for value, alone in zip(items, bodies, strict=True):
        if alone is None:
            return [whole_body]
        if not isinstance(value, dict):
            results.append(Decoded(gateway_instance=instance, type=EventType.UNKNOWN, subtype="undecodable", raw=alone))
            continue
        item = Item(value, mapping_at(value, "key"), told_at, text_at(told, "type") == "append", alone)
        fields = {"occurred_at": instant_at(whole, "timestamp")} | read(item)
        results.append(Decoded(gateway_instance=instance, raw=alone, **fields))
    return results


def _around(event: str, name: str, whole: Mapping[str, Any], item: Any) -> bytes | None:
    """The body that the broker would have sent for this one event; what stands in it twice and thrice is there once."""
    told = mapping_at(whole, "payload", "raw")
    around = {key: found for key in ("type", "requestId") if (found := id_at(told, key)) is not None}
    payload = {"iid": id_at(mapping_at(whole, "payload"), "iid"), "raw": {**around, name: [item]}}
    told_at = whole.get("timestamp") if moment_at(whole, "timestamp") else None
    try:
        return orjson.dumps({"event": event, "instanceId": id_at(whole, "instanceId"), "timestamp": told_at, "payload": payload})
    except TypeError:
        return None


# ─── messages ───


def _message(item: Item) -> dict[str, Any]:
    stub = _stub_of(item.value)
    content = content_of(mapping_at(item.value, "message"))
    at = _time_of(item.value)
    if stub is not None and stub not in _STUB_SUBTYPES:
        return _notice(item, stub, at)
    if stub is not None:
        content = Content(subtype=_STUB_SUBTYPES[stub], ref_message_id=id_at(item.key, "id") if stub == "REVOKE" else None)
    fields = {
        "type": EventType.MESSAGE,
        "subtype": content.subtype,
        **_who(item),
        "message_ids": _ids(item),
        "ref_message_id": content.ref_message_id,
        "text": content.text,
        "media": content.media,
        "push_name": None if flag_at(item.key, "fromMe") else text_at(item.value, "pushName"),
        "occurred_at": at,
        "replay": item.is_replay,
    }
    facts = plain_facts(content.text, content.media, at) if content.subtype is None else None
    return fields | _identified(item, facts or (digest(item.value, item.raw),))


def _notice(item: Item, stub: str, at: str | None) -> dict[str, Any]:
    """Something that stands in a chat and nobody wrote: a missed call, a change of a group."""
    family, _, rest = stub.partition("_")
    kind = {"GROUP": EventType.GROUP, "CALL": EventType.CALL}.get(family, EventType.SYSTEM)
    subtype = subtype_of(stub.lower() if kind is EventType.SYSTEM else rest.lower())
    moment = at or item.told_at
    identity = by_time(moment, item.value, item.raw) if moment else NO_IDENTITY
    return {"type": kind, "subtype": subtype, **_who(item), "occurred_at": at, "replay": item.is_replay, "identity": identity}


def _stub_of(value: Mapping[str, Any]) -> str | None:
    code = value.get("messageStubType")
    if isinstance(code, int) and not isinstance(code, bool) and code:
        return _STUBS.get(code, f"STUB_{code}")
    return code if isinstance(code, str) and code not in {"", "UNKNOWN"} else None


def plain_facts(text: str | None, media: Media | None, at: str | None) -> tuple[str, ...] | None:
    """What `MESSAGE_INBOUND` and the raw message both tell of a message that has text or media; None: tell them apart by every byte.

    Two messages of one id, chat, sender and second that say the same are the same, however they are written.
    """
    if at is None or (not text and media is None):
        return None
    return ("plain", at, (text or "").strip(), media.kind if media else "", (media.mimetype if media else None) or "")


# ─── changes to messages ───


def _update(item: Item) -> dict[str, Any]:
    change = mapping_at(item.value, "update")
    status = status_at(change, "statusV3") or status_at(change, "status")
    if status is not None and not mapping_at(change, "message"):
        return _receipt(item, status)
    content = content_of(mapping_at(change, "message"))
    subtype = "poll_vote" if list_at(change, "pollUpdates") else "edited" if mapping_at(change, "message") else "update"
    if _stub_of(change) == "REVOKE":
        subtype = "revoked"
    fields = {
        "type": EventType.MESSAGE,
        "subtype": subtype,
        **_who(item),
        "message_ids": _ids(item),
        "ref_message_id": id_at(item.key, "id"),
        "text": content.text,
        "media": content.media,
    }
    # A change may be made, undone and made again: what repeats it is the same body, sent at the same second.
    return fields | _identified(item, (item.told_at, digest(item.value, item.raw)))


def _receipt(item: Item, status: str) -> dict[str, Any]:
    who = _who(item)
    from_me = flag_at(item.key, "fromMe") or False
    reader = {"sender_id": None, "sender_aliases": ()}
    if not who["is_group"]:
        reader = {"sender_id": who["chat_id"], "sender_aliases": who["chat_aliases"]} if from_me else reader
    fields = {"type": EventType.RECEIPT, "subtype": status, "status": status, **who, **reader, "message_ids": _ids(item)}
    is_plain = status in STATUSES and fields["sender_id"] is not None
    return fields | _identified(item, () if is_plain else (item.told_at, digest(item.value, item.raw)))


def status_at(source: Mapping[str, Any], name: str) -> str | None:
    value = source.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return _STATUS_CODES.get(value, f"status_{value}"[:32])
    if isinstance(value, str) and value:
        return _STATUS_NAMES.get(value, subtype_of(value.lower()))
    return None


# ─── both ───


def _who(item: Item) -> dict[str, Any]:
    key = item.key
    from_me = flag_at(key, "fromMe") or False
    chat = phone_first(id_at(key, "remoteJid"), id_at(key, "remoteJidAlt"), None if from_me else id_at(key, "senderPn"))
    sender = phone_first(id_at(key, "participant"), id_at(key, "participantAlt"), id_at(key, "participantPn"))
    if from_me:
        sender = UNNAMED
    elif sender.id is None and not is_group(chat.id):
        sender = chat
    return {**in_chat(chat), **from_sender(sender), "from_me": from_me}


def _ids(item: Item) -> tuple[str, ...]:
    message_id = id_at(item.key, "id")
    return (message_id,) if message_id else ()


def _identified(item: Item, facts: tuple[str, ...]) -> dict[str, Any]:
    if _ids(item):
        return {"identity": by_message(*facts)}
    return {"identity": by_time(item.told_at, item.value, item.raw)} if item.told_at else {}


def _time_of(value: Mapping[str, Any]) -> str | None:
    """Seconds; as a number, as text, or as the halves of a 64-bit number."""
    told = value.get("messageTimestamp")
    return instant(told.get("low") if isinstance(told, dict) else told)


_READERS: Mapping[str, Callable[[Item], dict[str, Any]]] = {"messages": _message, "updates": _update}
