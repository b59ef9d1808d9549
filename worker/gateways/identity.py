"""Who an event is about, and whether two events are the same one. Pure.

Owns canonical ids and the `event_key`. When in doubt two events are different: a duplicate costs a webhook call, a
false match costs an event. `docs/gateways.md` tables which event gets which class.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.domain.ids import EventKey

if TYPE_CHECKING:
    from worker.domain.catalog import Instance

PEOPLE = "s.whatsapp.net"
_BARE_NUMBER = re.compile(r"\+?([0-9]{5,20})")
_ADDRESS = re.compile(r"\+?([0-9]+)(?::[0-9]+)?@(c\.us|s\.whatsapp\.net|lid)", re.IGNORECASE)
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_ENTROPY_BYTES = 10


class IdentityClass(StrEnum):
    """What makes an event itself (design 2); the value is hashed, so that the classes never meet."""

    SOURCE = "source"
    MESSAGE = "message"
    TIMED = "timed"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A class and what is hashed besides the class's own fields of the event.

    `facts`: source → the gateway's event id; message → the content's digest, or nothing for a receipt; timed → the
    gateway's own time and the digest of its part of the body; none → nothing.
    """

    kind: IdentityClass
    facts: tuple[str, ...] = ()


NO_IDENTITY = Identity(kind=IdentityClass.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The fields of an event that its identity may rest on; ids are canonical."""

    type: str
    subtype: str | None
    chat_id: str | None
    sender_id: str | None
    from_me: bool
    message_ids: Sequence[str]
    status: str | None


def by_source(event_id: str) -> Identity:
    """Only for an id that is the same when the gateway delivers again."""
    return Identity(kind=IdentityClass.SOURCE, facts=(event_id,))


def by_message(*facts: str) -> Identity:
    """For messages and receipts whose ids are not empty; `facts` is the content's digest where there is content."""
    return Identity(kind=IdentityClass.MESSAGE, facts=facts)


def by_time(moment: str, part: Any, text: bytes) -> Identity:
    """For what has no id but carries the gateway's own time; `part` is its part of the body, `text` the bytes it came in."""
    return Identity(kind=IdentityClass.TIMED, facts=(moment, digest(part, text)))


def event_key(identity: Identity, subject: Subject, instance: Instance, stranger: str | None = None) -> EventKey:
    """SHA-256 over (tenant, instance, class, fields), length-prefixed; not for class none (see `fresh_key`).

    `stranger`: the instance that the body names, where nobody declared it: two of them may be in one group, and what both are
    told there carries one id.
    """
    parts: list[str | None] = [instance.tenant_id, instance.id, *(() if stranger is None else ("named", stranger)), identity.kind]
    if identity.kind is IdentityClass.MESSAGE:
        parts += (subject.type, subject.subtype, subject.chat_id, subject.sender_id, "me" if subject.from_me else "them", subject.status)
        parts += (str(len(subject.message_ids)), *sorted(subject.message_ids))
    elif identity.kind is IdentityClass.TIMED:
        parts += (subject.type, subject.subtype, subject.chat_id, subject.sender_id)
    else:
        assert identity.kind is IdentityClass.SOURCE, "an event without identity has no key to compute"
    return EventKey(_sha256((*parts, *identity.facts)))


def fresh_key(at_ms: int, entropy: bytes) -> EventKey:
    """The key of an event that is never a duplicate: `ulid:` and a ULID of `at_ms` and 10 bytes of `entropy`."""
    assert len(entropy) == _ULID_ENTROPY_BYTES, "a ULID takes 80 random bits"
    number = (at_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy, "big")
    return EventKey("ulid:" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5)))


def digest(part: Any, text: bytes) -> str:
    """Of a parsed JSON value, whatever the order of its keys and its spaces.

    Nested too deeply to be written again (254 levels), it is the digest of `text`, the bytes that hold it.
    """
    try:
        canonical = orjson.dumps(part, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        canonical = text
    return hashlib.sha256(canonical).hexdigest()


def canonical_id(text: str) -> str:
    """`<digits>@s.whatsapp.net` for people, `<digits>@lid`, both without the device's `:n`; anything else as sent."""
    if match := _BARE_NUMBER.fullmatch(text):
        return f"{match[1]}@{PEOPLE}"
    if match := _ADDRESS.fullmatch(text):
        return f"{match[1]}@{'lid' if match[2].lower() == 'lid' else PEOPLE}"
    return text


def is_group(chat_id: str | None) -> bool:
    return chat_id is not None and chat_id.endswith("@g.us")


class Named(NamedTuple):
    """A chat or a person: the phone form where it is known, and its other names."""

    id: str | None
    aliases: tuple[str, ...]


UNNAMED = Named(None, ())


def phone_first(*ids: str | None) -> Named:
    """The canonical ids of one chat or person, in the order in which they are trusted."""
    known = list(dict.fromkeys(canonical_id(text) for text in ids if text))
    known.sort(key=lambda text: text.endswith("@lid"))
    return Named(known[0], tuple(known[1:])) if known else UNNAMED


def in_chat(chat: Named) -> dict[str, Any]:
    """An event's fields that say in which chat."""
    return {"chat_id": chat.id, "chat_aliases": chat.aliases, "is_group": is_group(chat.id)}


def from_sender(sender: Named) -> dict[str, Any]:
    """An event's fields that say who."""
    return {"sender_id": sender.id, "sender_aliases": sender.aliases}


def _sha256(parts: Iterable[str | None]) -> str:
    encoded = (None if part is None else part.encode() for part in parts)
    return hashlib.sha256(b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in encoded)).hexdigest()
