"""One message, status, call or notice of Meta's Cloud API as an event. Pure; raises nothing on any value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker.domain.event import Connection, EventType, Media
from worker.gateways.cloud_api_envelope import Change
from worker.gateways.identity import NO_IDENTITY, Identity, by_message, by_time, digest, is_group, phone_first
from worker.gateways.port import Decoded
from worker.gateways.reading import NOTHING, first_text, id_at, instant_at, list_at, mapping_at, moment_at, size_at, subtype_of, text_at

_MEDIA_KINDS = ("image", "video", "audio", "document", "sticker")
_STATUSES = frozenset({"failed", "sent", "delivered", "read", "played"})
_UNDECRYPTABLE = 131060
_SUBTYPES = {"reaction": "reaction", "edit": "edited", "revoke": "revoked", "delete": "revoked", "request_welcome": "request_welcome"}
"""Of messages; any other type is plain content and has none."""
_ACCOUNT_STATES = {
    "ACCOUNT_DELETED": "logged_out",
    "ACCOUNT_OFFBOARDED": "logged_out",
    "ACCOUNT_RESTRICTION": "failed",
    "ACCOUNT_VIOLATION": "failed",
    "DISABLED_UPDATE": "failed",
    "PARTNER_REMOVED": "logged_out",
}
_FIELD_TYPES = {
    "account_alerts": EventType.SYSTEM,
    "account_review_update": EventType.SYSTEM,
    "account_settings_update": EventType.SYSTEM,
    "account_update": EventType.SYSTEM,
    "automatic_events": EventType.SYSTEM,
    "business_capability_update": EventType.SYSTEM,
    "business_status_update": EventType.SYSTEM,
    "flows": EventType.SYSTEM,
    "group_lifecycle_update": EventType.GROUP,
    "group_participants_update": EventType.GROUP,
    "group_settings_update": EventType.GROUP,
    "group_status_update": EventType.GROUP,
    "history": EventType.HISTORY,
    "message_template_components_update": EventType.SYSTEM,
    "message_template_quality_update": EventType.SYSTEM,
    "message_template_status_update": EventType.SYSTEM,
    "partner_solutions": EventType.SYSTEM,
    "payment_configuration_update": EventType.SYSTEM,
    "phone_number_name_update": EventType.SYSTEM,
    "phone_number_quality_update": EventType.SYSTEM,
    "security": EventType.SYSTEM,
    "smb_app_state_sync": EventType.CONTACT,
    "template_category_update": EventType.SYSTEM,
    "tracking_events": EventType.SYSTEM,
    "user_id_update": EventType.CONTACT,
    "user_preferences": EventType.CONTACT,
}
"""Meta's names of what is neither message, status nor call; the field is the subtype."""


def decoded(change: Change, name: str | None, item: Any, raw: bytes) -> Decoded:
    """`item` stood in the value's list `name`; None: the change itself is the event."""
    if name is None:
        return _notice(change, item, raw)
    if not isinstance(item, dict):
        return undecodable(change.phone_number_id, raw)
    read = _READERS.get(name)
    fields = read(change, item, raw) if read else _other(change, name, item, raw)
    return Decoded(gateway_instance=change.phone_number_id, raw=raw, **fields)


def undecodable(phone_number_id: str | None, raw: bytes) -> Decoded:
    return Decoded(gateway_instance=phone_number_id, type=EventType.UNKNOWN, subtype="undecodable", raw=raw)


def _message(change: Change, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    kind = text_at(item, "type") or "unknown"
    contact = next(iter(change.contacts_of(item)), NOTHING)
    sender_id, sender_aliases = phone_first(id_at(item, "from"), id_at(item, "from_user_id"), id_at(contact, "user_id"))
    group_id = id_at(item, "group_id")
    fields = _content(item, kind) | {
        "sender_id": sender_id,
        "sender_aliases": sender_aliases,
        "chat_id": group_id or sender_id,
        "chat_aliases": () if group_id else sender_aliases,
        "is_group": group_id is not None or is_group(sender_id),
        "push_name": text_at(mapping_at(contact, "profile"), "name"),
    }
    return fields | _identified(item, raw)


def _echo(change: Change, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """What the number's owner sent from the phone (coexistence)."""
    contact = next(iter(change.contacts_of(item)), NOTHING)
    chat_id, chat_aliases = phone_first(id_at(item, "to"), id_at(item, "to_user_id"), id_at(contact, "user_id"))
    sender_id, sender_aliases = phone_first(id_at(item, "from"))
    fields = _content(item, text_at(item, "type") or "unknown") | {
        "sender_id": sender_id,
        "sender_aliases": sender_aliases,
        "chat_id": chat_id,
        "chat_aliases": chat_aliases,
        "is_group": is_group(chat_id),
        "from_me": True,
    }
    return fields | _identified(item, raw)


def _content(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    body = mapping_at(item, kind)
    is_system = kind == "system"
    return {
        "type": EventType.SYSTEM if is_system else EventType.MESSAGE,
        "subtype": subtype_of(text_at(body, "type") or kind) if is_system else _subtype(item, kind),
        "ref_message_id": id_at(body, "message_id") or id_at(body, "original_message_id") or id_at(mapping_at(item, "context"), "id"),
        "text": _text(item, kind),
        "media": _media(item, kind),
        "occurred_at": instant_at(item, "timestamp"),
    }


def _subtype(item: Mapping[str, Any], kind: str) -> str | None:
    if kind not in {"unsupported", "unknown"}:
        return _SUBTYPES.get(kind)
    codes = [error.get("code") for error in list_at(item, "errors") if isinstance(error, dict)]
    return "waiting" if _UNDECRYPTABLE in codes else "unsupported"


def _text(item: Mapping[str, Any], kind: str) -> str | None:
    body = mapping_at(item, kind)
    reply = mapping_at(body, text_at(body, "type") or "")
    return first_text(body.get("body"), body.get("caption"), body.get("text"), body.get("emoji"), reply.get("title"))


def _media(item: Mapping[str, Any], kind: str) -> Media | None:
    """Meta announces an id, and since 2025 a URL that lives five minutes; `sha256` is base64, as sent."""
    if kind not in _MEDIA_KINDS:
        return None
    body = mapping_at(item, kind)
    return Media(
        kind=kind,
        mimetype=text_at(body, "mime_type"),
        filename=text_at(body, "filename"),
        size=size_at(body, "file_size"),
        sha256=text_at(body, "sha256"),
        url=text_at(body, "url"),
    )


def _status(change: Change, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """The receipt of a message of ours; who received it is the sender. A call's status is a call."""
    word = text_at(item, "status")
    status = None if word is None else subtype_of(word.lower())
    recipient, aliases = phone_first(id_at(item, "recipient_id"), id_at(item, "recipient_user_id"))
    in_group = text_at(item, "recipient_type") == "group"
    reader, reader_aliases = phone_first(id_at(item, "recipient_participant_id")) if in_group else (recipient, aliases)
    fields = {
        "type": EventType.RECEIPT,
        "subtype": status,
        "status": status,
        "chat_id": id_at(item, "recipient_id") if in_group else recipient,
        "chat_aliases": () if in_group else aliases,
        "sender_id": reader,
        "sender_aliases": reader_aliases,
        "from_me": True,
        "is_group": in_group or is_group(recipient),
        "occurred_at": instant_at(item, "timestamp"),
    }
    if change.field == "calls":
        return fields | {"type": EventType.CALL, "status": None, "identity": _timed(change, item, raw)}
    return fields | _identified(item, raw, is_receipt=True, is_known=status in _STATUSES)


def _call(change: Change, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    from_me = text_at(item, "direction") == "BUSINESS_INITIATED"
    caller, aliases = phone_first(id_at(item, "from"), id_at(item, "from_user_id"))
    peer, peer_aliases = phone_first(id_at(item, "to")) if from_me else (caller, aliases)
    event = text_at(item, "event")
    return {
        "type": EventType.CALL,
        "subtype": subtype_of(event.lower()) if event else None,
        "chat_id": peer,
        "chat_aliases": peer_aliases,
        "sender_id": caller,
        "sender_aliases": aliases,
        "from_me": from_me,
        "occurred_at": instant_at(item, "timestamp"),
        "identity": _timed(change, item, raw),
    }


def _error(change: Change, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """Meta's own trouble; told without a time of its own."""
    return {
        "type": EventType.SYSTEM,
        "subtype": "error",
        "text": first_text(item.get("title"), item.get("message")),
        "identity": _timed(change, item, raw),
    }


def _other(change: Change, name: str, item: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """An item of a list that has no reader: by its field, or unknown."""
    field = change.field or name
    return {
        "type": _FIELD_TYPES.get(field, EventType.UNKNOWN),
        "subtype": subtype_of(field if field in _FIELD_TYPES else name),
        "occurred_at": instant_at(item, "timestamp") or instant_at(change.entry, "time"),
        "identity": _timed(change, [name, item], raw),
    }


def _notice(change: Change, item: Any, raw: bytes) -> Decoded:
    """A change without items: what happened to the account, or what nobody can read."""
    if not change.value or change.field is None:
        return undecodable(change.phone_number_id, raw)
    fields: dict[str, Any] = {
        "type": _FIELD_TYPES.get(change.field, EventType.UNKNOWN),
        "subtype": subtype_of(change.field),
        "replay": change.field == "history",
    }
    event = text_at(change.value, "event")
    if change.field == "account_update" and event and (state := _ACCOUNT_STATES.get(event.upper())):
        fields |= {"type": EventType.CONNECTION, "subtype": state, "connection": Connection(state=state, reason_code=subtype_of(event))}
    return Decoded(
        gateway_instance=change.phone_number_id,
        occurred_at=instant_at(change.entry, "time") or instant_at(change.value, "timestamp"),
        identity=_timed(change, item, raw),
        raw=raw,
        **fields,
    )


def _identified(item: Mapping[str, Any], raw: bytes, *, is_receipt: bool = False, is_known: bool = True) -> dict[str, Any]:
    """By the message's id; of a message also by its content, of a receipt by its status alone, if it is one we know."""
    message_id = id_at(item, "id")
    if message_id is not None:
        facts = () if is_receipt and is_known else (digest(item, raw),)
        return {"message_ids": (message_id,), "identity": by_message(*facts)}
    moment = moment_at(item, "timestamp")
    return {"identity": by_time(moment, item, raw) if moment else NO_IDENTITY}


def _timed(change: Change, part: Any, raw: bytes) -> Identity:
    moment = (moment_at(part, "timestamp") if isinstance(part, dict) else None) or moment_at(change.entry, "time")
    return by_time(moment, [change.field, part], raw) if moment else NO_IDENTITY


_READERS: Mapping[str, Callable[[Change, Mapping[str, Any], bytes], dict[str, Any]]] = {
    "messages": _message,
    "statuses": _status,
    "message_echoes": _echo,
    "calls": _call,
    "errors": _error,
}
