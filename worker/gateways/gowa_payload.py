"""What is inside GOWA's bodies: today's envelope, the flat messages of v7 and before, chat and sender, media. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from worker.domain.errors import MalformedEvent
from worker.domain.event import Media
from worker.gateways.identity import Named, from_sender, in_chat, phone_first
from worker.gateways.reading import flag_at, id_at, mapping_at, size_at, text_at

_MEDIA_KINDS = {"image": "image", "video": "video", "video_note": "video", "audio": "audio", "document": "document", "sticker": "sticker"}
"""By the field that holds it."""
_WHO = frozenset({"chat_id", "chat_lid", "from", "from_lid", "from_name", "sender_display_name", "sender_id", "pushname"})
"""Said of people, not by them: ids are hashed in their canonical form, and a contact renamed between two pushes is no news."""
_FLAT_ACTIONS = {
    "message_revoked": "message.revoked",
    "message_edited": "message.edited",
    "event.delete_for_me": "message.deleted",
}


class Body(NamedTuple):
    """The body, opened. `payload` is empty where it is missing or no object."""

    event: str
    whole: Mapping[str, Any]
    payload: Mapping[str, Any]
    raw: bytes


def opened(whole: Any, raw: bytes) -> Body:
    """Raises `MalformedEvent` where it is no body of GOWA's."""
    if not isinstance(whole, dict):
        raise MalformedEvent("body", "must be an object")
    event = text_at(whole, "event")
    if event is not None:
        return Body(event, whole, mapping_at(whole, "payload"), raw)
    action = text_at(whole, "action")
    if action is None and not isinstance(whole.get("message"), dict):
        raise MalformedEvent("event", "must be a text that is not empty")
    named = "message" if action is None else _FLAT_ACTIONS.get(action, action)
    reaction = mapping_at(whole, "reaction")
    return Body("message.reaction" if reaction else named, whole, _modern(whole, reaction), raw)


def _modern(flat: Mapping[str, Any], reaction: Mapping[str, Any]) -> Mapping[str, Any]:
    """A flat message of v7 and before with today's names beside its own."""
    message = mapping_at(flat, "message")
    named = {
        "id": message.get("id"),
        "body": text_at(message, "text") or flat.get("edited_text"),
        "replied_to_id": message.get("replied_id"),
        "from_name": flat.get("pushname"),
    }
    if reaction:
        named |= {"reaction": reaction.get("message"), "reacted_message_id": reaction.get("id")}
    return {**flat, **named}


def content_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What makes one message differ from another with the same id."""
    return {name: value for name, value in payload.items() if name not in _WHO}


def who_of(body: Body) -> dict[str, Any]:
    """Chat and sender; `from` was once `<sender> in <group>`."""
    payload = body.payload
    sender, _, group_id = (id_at(payload, "from") or "").partition(" in ")
    writer = phone_first(sender or id_at(payload, "sender_id"), id_at(payload, "from_lid"))
    chat = phone_first(group_id or id_at(payload, "chat_id"), id_at(payload, "chat_lid"))
    if chat.id == writer.id:
        chat = Named(chat.id, tuple(dict.fromkeys((*chat.aliases, *writer.aliases))))
    return {**in_chat(chat), **from_sender(writer), "from_me": flag_at(payload, "is_from_me") or False}


def media_of(payload: Mapping[str, Any]) -> Media | None:
    """A path on GOWA's own disk, or WhatsApp's encrypted URL where GOWA does not download."""
    for name, kind in _MEDIA_KINDS.items():
        value = payload.get(name)
        if isinstance(value, str) and value:
            return Media(kind=kind, filename=_last_part(value))
        if isinstance(value, dict) and value:
            path = text_at(value, "path") or text_at(value, "media_path")
            return Media(
                kind=kind,
                mimetype=text_at(value, "mimetype") or text_at(value, "mime_type"),
                filename=text_at(value, "filename") or (_last_part(path) if path else None),
                size=size_at(value, "file_size"),
                url=text_at(value, "url"),
            )
    return None


def _last_part(path: str) -> str | None:
    return path.rpartition("/")[2] or None
