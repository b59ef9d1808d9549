"""What ingest needs of a gateway: four names that each gateway module offers, and what they exchange. Pure.

A gateway module knows one gateway's headers and bodies and nothing else: no tenant, no clock, no I/O. Ingest verifies,
decodes, resolves the instance that the body names, and lets `finish` make the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from worker.domain.catalog import Instance
from worker.domain.event import STATUS_RANKS, Connection, Event, EventType, Media
from worker.domain.ids import EventKey
from worker.gateways.identity import NO_IDENTITY, Identity, IdentityClass, Subject, event_key

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A request or a socket frame as it came. Header names are lower-case; a frame has none."""

    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False)
    received_at: str | None = None
    """RFC 3339, for signatures that end; None: not known, and then none has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """An event whose tenant is not known yet. `gateway_instance` is the name in the body; None: the body names nobody.

    `raw` is the body with its secrets overwritten, or, where the body held several events, the gateway's own envelope
    around this one.
    """

    gateway_instance: str | None = None
    type: EventType
    subtype: str | None = None
    chat_id: str | None = field(default=None, repr=False)
    chat_aliases: tuple[str, ...] = field(default=(), repr=False)
    sender_id: str | None = field(default=None, repr=False)
    sender_aliases: tuple[str, ...] = field(default=(), repr=False)
    from_me: bool = False
    is_group: bool = False
    message_ids: tuple[str, ...] = field(default=(), repr=False)
    ref_message_id: str | None = field(default=None, repr=False)
    status: str | None = None
    text: str | None = field(default=None, repr=False)
    media: Media | None = field(default=None, repr=False)
    push_name: str | None = field(default=None, repr=False)
    connection: Connection | None = None
    occurred_at: str | None = None
    replay: bool = False
    identity: Identity = NO_IDENTITY
    raw: bytes = field(repr=False)
    raw_content_type: str = JSON


class Gateway(Protocol):
    """A gateway module. Both functions are pure and take time linear in the body."""

    ACCEPTED_STATUS: int
    """The HTTP status that says "received"."""
    PUBLISHED_SECRETS: frozenset[str]
    """Secrets that stand in the gateway's own documentation or code; refused at configuration."""

    def verify(self, push: Push, secrets: Sequence[str]) -> bool:
        """Whether the push is signed with any one of `secrets` (rotation), compared in constant time; False without secrets."""
        ...

    def decode(self, push: Push) -> list[Decoded]:
        """The events of the body in its order, at least one. Raises `MalformedEvent`, and nothing else."""
        ...


def finish(decoded: Decoded, instance: Instance, received_at: str, transport: str, fresh: Callable[[], EventKey]) -> Event:
    """The event, filed under `instance`. `fresh` makes the key of an event without identity (`identity.fresh_key`)."""
    remembered = decoded.identity.kind is not IdentityClass.NONE
    stranger = decoded.gateway_instance if decoded.gateway_instance != instance.gateway_instance else None
    return Event(
        event_key=event_key(decoded.identity, _subject(decoded), instance, stranger) if remembered else fresh(),
        gateway=instance.gateway,
        transport=transport,
        tenant_id=instance.tenant_id,
        instance_id=instance.id,
        gateway_instance=decoded.gateway_instance or instance.gateway_instance,
        type=decoded.type,
        subtype=decoded.subtype,
        chat_id=decoded.chat_id,
        chat_aliases=decoded.chat_aliases,
        sender_id=decoded.sender_id,
        sender_aliases=decoded.sender_aliases,
        from_me=decoded.from_me,
        is_group=decoded.is_group,
        message_ids=decoded.message_ids,
        ref_message_id=decoded.ref_message_id,
        status=decoded.status,
        status_rank=None if decoded.status is None else STATUS_RANKS.get(decoded.status),
        text=decoded.text,
        media=decoded.media,
        push_name=decoded.push_name,
        connection=decoded.connection,
        occurred_at=decoded.occurred_at,
        received_at=received_at,
        replay=decoded.replay,
        raw=decoded.raw,
        raw_content_type=decoded.raw_content_type,
        remembered=remembered,
    )


def _subject(decoded: Decoded) -> Subject:
    return Subject(
        type=decoded.type,
        subtype=decoded.subtype,
        chat_id=decoded.chat_id,
        sender_id=decoded.sender_id,
        from_me=decoded.from_me,
        message_ids=decoded.message_ids,
        status=decoded.status,
    )
