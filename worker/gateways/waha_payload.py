"""What is inside WAHA's payloads, whichever event they belong to: composite ids, chat and sender, media, names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from worker.domain.event import Media
from worker.gateways.identity import UNNAMED, from_sender, in_chat, is_group, phone_first
from worker.gateways.reading import first_text, flag_at, id_at, mapping_at, size_at, text_at

_MEDIA_KINDS = frozenset({"image", "video", "audio"})


class Body(NamedTuple):
    """The body, opened. `me` and `payload` are empty where they are missing or no objects."""

    whole: Mapping[str, Any]
    me: Mapping[str, Any]
    payload: Mapping[str, Any]
    raw: bytes


class MessageId(NamedTuple):
    """`<fromMe>_<chat>_<id>[_<participant>]`, taken apart; a bare id has only `id`."""

    id: str | None = None
    from_me: bool | None = None
    chat: str | None = None
    participant: str | None = None


def message_id_at(source: Mapping[str, Any], name: str) -> MessageId:
    """Taken apart by the chat's server name: an id of its own may hold `_`."""
    text = id_at(source, name) or id_at(mapping_at(source, name), "_serialized")
    if text is None:
        return MessageId()
    mine, _, rest = text.partition("_")
    chat, _, rest = rest.partition("_")
    if mine not in {"true", "false"} or "@" not in chat or not rest:
        return MessageId(id=text)
    bare, _, participant = rest.rpartition("_")
    if "@" not in participant or not bare:
        return MessageId(rest, mine == "true", chat)
    return MessageId(bare, mine == "true", chat, participant)


def who_of(body: Body, named: MessageId) -> dict[str, Any]:
    """Chat and sender. The id's chat is right whoever sent it; `from` and `to` mean different things in different engines."""
    payload = body.payload
    stated = flag_at(payload, "fromMe")
    from_me = stated if stated is not None else bool(named.from_me)
    key, info = mapping_at(payload, "_data", "key"), mapping_at(payload, "_data", "Info")
    from_id, to_id = id_at(payload, "from"), id_at(payload, "to")
    chat_alt = id_at(key, "remoteJidAlt") or (None if from_me else id_at(key, "senderPn"))
    chat = phone_first(named.chat or ((to_id or from_id) if from_me else from_id), chat_alt)
    participant = id_at(payload, "participant") or named.participant
    sender_alt = id_at(key, "participantAlt") or id_at(key, "participantPn") or id_at(info, "SenderAlt")
    if from_me:
        sender = phone_first(id_at(body.me, "id"), id_at(body.me, "lid"))
    elif participant:
        sender = phone_first(participant, sender_alt)
    else:
        sender = UNNAMED if is_group(chat.id) else chat
    return {**in_chat(chat), **from_sender(sender), "from_me": from_me, "message_ids": (named.id,) if named.id else ()}


def media_of(payload: Mapping[str, Any]) -> Media | None:
    media = mapping_at(payload, "media")
    if not media and flag_at(payload, "hasMedia") is not True:
        return None
    mimetype = text_at(media, "mimetype")
    kind = mimetype.partition("/")[0].lower() if mimetype else "unknown"
    if mimetype and kind not in _MEDIA_KINDS:
        kind = "document"
    return Media(
        kind=kind,
        mimetype=mimetype,
        filename=text_at(media, "filename"),
        size=size_at(media, "size"),
        url=text_at(media, "url"),
        inline=text_at(media, "data") is not None,
    )


def push_name_of(payload: Mapping[str, Any]) -> str | None:
    data = mapping_at(payload, "_data")
    return first_text(data.get("pushName"), data.get("notifyName"), mapping_at(data, "Info").get("PushName"))
