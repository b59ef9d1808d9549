"""Whom an event is about, and what is known of them. Pure. No `repr` here shows a number, a name or a URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from worker.domain.ids import InstanceId

PHONE_SERVER = "@s.whatsapp.net"
LID_SERVER = "@lid"
MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What a receiver is told: either may be unknown."""

    name: str | None = field(default=None, repr=False)
    picture_url: str | None = field(default=None, repr=False)


class ContactKey(NamedTuple):
    """A contact as one instance sees it: a picture may be shown to one number and not to another."""

    instance_id: InstanceId
    contact_id: str

    def __repr__(self) -> str:
        return f"<ContactKey of {self.instance_id}>"


class Mention(NamedTuple):
    """An event's contact, and the name it gives itself there."""

    key: ContactKey
    name: str | None

    def __repr__(self) -> str:
        return f"<Mention of {self.key!r}>"


def mentioned(envelope: Mapping[str, Any]) -> Mention | None:
    """The person at the other end: who sent it, or to whom we did. None where that is nobody (a group, a channel, an instance's own news).

    The name is what an event of theirs says; one of ours says our own.
    """
    if envelope["from_me"]:
        ids, name = (() if envelope["is_group"] else _ids(envelope, "chat")), None
    else:
        ids, name = _ids(envelope, "sender"), envelope["push_name"]
        if not ids and not envelope["is_group"]:
            ids = _ids(envelope, "chat")
    person = _person(ids)
    return None if person is None else Mention(ContactKey(envelope["instance_id"], person), name[:MAX_NAME_CHARACTERS] if name else None)


def _ids(envelope: Mapping[str, Any], whose: str) -> tuple[str, ...]:
    first = envelope[f"{whose}_id"]
    return () if first is None else (first, *envelope[f"{whose}_aliases"])


def _person(ids: Iterable[str]) -> str | None:
    """By telephone number where it is known: not every gateway can be asked about a LID."""
    known = tuple(ids)
    return next((one for server in (PHONE_SERVER, LID_SERVER) for one in known if one.endswith(server)), None)
