"""What is inside Z-API's callbacks: chat and sender, what a message says, its media, what it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.domain.event import Media
from worker.gateways.identity import from_sender, in_chat, is_group, phone_first
from worker.gateways.reading import first_text, flag_at, id_at, mapping_at, text_at

_WHO = frozenset(
    {
        "chatLid",
        "chatName",
        "connectedPhone",
        "participantLid",
        "participantPhone",
        "phone",
        "photo",
        "senderLid",
        "senderName",
        "senderPhoto",
    }
)
"""Said of people, not by them: ids are hashed in their canonical form, and the URL of a picture is a new one every few days."""
_TEXTS = (
    ("text", "message"),
    ("image", "caption"),
    ("video", "caption"),
    ("ptv", "caption"),
    ("document", "caption"),
    ("reaction", "value"),
    ("buttonsResponseMessage", "message"),
    ("buttonReply", "message"),
    ("listResponseMessage", "message"),
    ("hydratedTemplate", "message"),
    ("buttonsMessage", "message"),
    ("carouselMessage", "text"),
    ("poll", "question"),
    ("event", "name"),
    ("newsletterAdminInvite", "text"),
    ("liveLocation", "caption"),
)
_SUBTYPES = {"reaction": "reaction", "pollVote": "poll_vote", "eventResponse": "event_response", "pinMessage": "pin"}
_REFERENCES = ("reaction", "pinMessage", "eventResponse")
"""Parts that name what they are about in `referencedMessage`."""
_MEDIA = {
    "image": ("image", "imageUrl"),
    "video": ("video", "videoUrl"),
    "ptv": ("video", "ptvUrl"),
    "audio": ("audio", "audioUrl"),
    "document": ("document", "documentUrl"),
    "sticker": ("sticker", "stickerUrl"),
}
"""By part: our kind, and its name for the URL."""


def address_at(body: Mapping[str, Any], name: str) -> str | None:
    """`<id>-group` is a group; everything else is as it is anywhere."""
    text = id_at(body, name)
    return f"{text.removesuffix('-group')}@g.us" if text is not None and text.endswith("-group") else text


def who_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Chat and sender. `senderLid` was the name of `chatLid`, and is still the sender's where others sent."""
    from_me = flag_at(body, "fromMe") or False
    sender_lid = None if from_me else id_at(body, "senderLid")
    phone = address_at(body, "phone")
    is_many = is_group(phone) or flag_at(body, "isGroup") is True or flag_at(body, "isNewsletter") is True
    chat = phone_first(phone, id_at(body, "chatLid"), None if is_many else sender_lid)
    if from_me:
        sender = phone_first(id_at(body, "connectedPhone"))
    else:
        sender = phone_first(id_at(body, "participantPhone"), id_at(body, "participantLid"))
        if sender.id is None and not is_many:
            sender = chat
    in_group = is_group(chat.id) or flag_at(body, "isGroup") is True
    return {**in_chat(chat), **from_sender(sender), "from_me": from_me, "is_group": in_group}


def subtype_in(body: Mapping[str, Any]) -> str | None:
    if flag_at(body, "waitingMessage") is True:
        return "waiting"
    if flag_at(body, "isEdit") is True:
        return "edited"
    return next((subtype for part, subtype in _SUBTYPES.items() if mapping_at(body, part)), None)


def ref_of(body: Mapping[str, Any]) -> str | None:
    """The message that this one reacts to, votes on, edits or answers."""
    named = next((found for part in _REFERENCES if (found := id_at(mapping_at(body, part, "referencedMessage"), "messageId"))), None)
    return (
        named
        or id_at(mapping_at(body, "pollVote"), "pollMessageId")
        or id_at(body, "editMessageId")
        or id_at(body, "referenceMessageId")
        or id_at(mapping_at(body, "buttonReply"), "referenceMessageId")
    )


def text_of(body: Mapping[str, Any]) -> str | None:
    return first_text(*(mapping_at(body, part).get(name) for part, name in _TEXTS))


def media_of(body: Mapping[str, Any]) -> Media | None:
    """Of the message itself, or of a template's header. Z-API keeps files for 30 days and does not say so in the body."""
    for holder in (body, mapping_at(body, "hydratedTemplate", "header")):
        for part, (kind, url) in _MEDIA.items():
            if media := mapping_at(holder, part):
                name = text_at(media, "fileName") or text_at(media, "title")
                return Media(kind=kind, mimetype=text_at(media, "mimeType"), filename=name, url=text_at(media, url))
    return None


def content_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What makes one callback differ from another with the same id."""
    return {name: value for name, value in body.items() if name not in _WHO}
