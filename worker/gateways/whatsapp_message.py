"""WhatsApp's own message (`waE2E.Message`) written as JSON, as every gateway on Baileys or whatsmeow passes it on. Pure.

Source: WhatsApp's protobuf schema as both libraries publish it. Their JSON differs in small ways: enumerations by name or by
number, `url` or `URL`, hashes as text or as lists of bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from worker.domain.event import Media
from worker.gateways.reading import NOTHING, first_text, id_at, mapping_at, size_at, text_at

_WRAPPERS = (
    "deviceSentMessage",
    "documentWithCaptionMessage",
    "editedMessage",
    "ephemeralMessage",
    "groupMentionedMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
)
"""Messages around a message, under `message`."""
_MAX_WRAPPERS = 8
_MEDIA = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
_TEXTS = ("text", "caption", "selectedDisplayText", "title")
_REVOKES = (0, "REVOKE")
_EDITS = (14, "MESSAGE_EDIT")
_NOT_SAID = (None, "")


class Content(NamedTuple):
    """What a message says. `ref_message_id`: what it answers, changes, revokes or reacts to."""

    subtype: str | None = None
    text: str | None = None
    media: Media | None = None
    ref_message_id: str | None = None


def content_of(message: Mapping[str, Any]) -> Content:
    """`message` without its envelope (no key, no sender); anything in it may be of the wrong type."""
    opened = _opened(message)
    for name, read in _SPECIAL.items():
        if isinstance(part := opened.get(name), dict):
            return read(part)
    body, media = _body_and_media(opened, message)
    quoted = mapping_at(body, "contextInfo")
    return Content(
        text=first_text(opened.get("conversation"), *(body.get(name) for name in _TEXTS)),
        media=media,
        ref_message_id=id_at(quoted, "stanzaId") or id_at(quoted, "stanzaID"),
    )


def _opened(message: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_MAX_WRAPPERS):
        inner = next((inner for name in _WRAPPERS if (inner := mapping_at(message, name, "message"))), NOTHING)
        if not inner:
            break
        message = inner
    return message


def key_id(part: Mapping[str, Any], name: str) -> str | None:
    """The message id in a `MessageKey`."""
    key = mapping_at(part, name)
    return id_at(key, "id") or id_at(key, "ID")


def protocol_content(part: Mapping[str, Any]) -> Content:
    """Of a `protocolMessage`: an edit, a revoke, or the devices talking among themselves."""
    ref = key_id(part, "key")
    edited = mapping_at(part, "editedMessage")
    kind = part.get("type")
    if edited or kind in _EDITS:
        return content_of(edited)._replace(subtype="edited", ref_message_id=ref)
    # Zero is the schema's default, which some encoders leave out.
    if kind in _REVOKES or (kind in _NOT_SAID and ref is not None):
        return Content(subtype="revoked", ref_message_id=ref)
    return Content(subtype="protocol", ref_message_id=ref)


def _reaction(part: Mapping[str, Any]) -> Content:
    """One that is taken back has no text."""
    return Content(subtype="reaction", text=text_at(part, "text"), ref_message_id=key_id(part, "key"))


def _poll_vote(part: Mapping[str, Any]) -> Content:
    return Content(subtype="poll_vote", ref_message_id=key_id(part, "pollCreationMessageKey"))


def _poll(part: Mapping[str, Any]) -> Content:
    return Content(text=text_at(part, "name"))


def _placeholder(_part: Mapping[str, Any]) -> Content:
    """What linked devices get in place of a message that only the phone shows, or shows first."""
    return Content(subtype="waiting")


def _body_and_media(opened: Mapping[str, Any], outer: Mapping[str, Any]) -> tuple[Mapping[str, Any], Media | None]:
    """The first part that is a message with fields of its own, and its media."""
    for name, kind in _MEDIA.items():
        if isinstance(part := opened.get(name), dict):
            return part, _media(kind, part, outer)
    parts = (part for name, part in opened.items() if name.endswith("Message") and isinstance(part, dict))
    return next(parts, NOTHING), None


def _media(kind: str, part: Mapping[str, Any], outer: Mapping[str, Any]) -> Media:
    """The URL is the gateway's copy where there is one, beside the message; WhatsApp's own leads to encrypted bytes."""
    return Media(
        kind=kind,
        mimetype=text_at(part, "mimetype"),
        filename=first_text(part.get("fileName"), part.get("title")),
        size=size_at(part, "fileLength"),
        sha256=first_text(part.get("fileSha256"), part.get("fileSHA256")),
        url=first_text(outer.get("mediaUrl"), part.get("url"), part.get("URL")),
        inline=text_at(outer, "base64") is not None,
    )


_SPECIAL = {
    "protocolMessage": protocol_content,
    "reactionMessage": _reaction,
    "pollUpdateMessage": _poll_vote,
    "pollCreationMessage": _poll,
    "pollCreationMessageV2": _poll,
    "pollCreationMessageV3": _poll,
    "placeholderMessage": _placeholder,
}
