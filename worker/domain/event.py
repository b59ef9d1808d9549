"""The event: what a gateway told us, in our words, with its own bytes kept whole. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from worker.domain.ids import EventKey, InstanceId, TenantId

SCHEMA = 1
STATUS_RANKS = {"failed": -1, "sent": 1, "delivered": 2, "read": 3, "played": 4}
"""How far a message got; a lower rank after a higher one is old news. Other statuses have no rank."""


class EventType(StrEnum):
    MESSAGE = "message"
    RECEIPT = "receipt"
    PRESENCE = "presence"
    CONNECTION = "connection"
    QR = "qr"
    CALL = "call"
    GROUP = "group"
    CONTACT = "contact"
    HISTORY = "history"
    SYSTEM = "system"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A message's attachment as announced; sizes in bytes. The bytes themselves are never fetched here."""

    kind: str
    mimetype: str | None = None
    filename: str | None = None
    size: int | None = None
    sha256: str | None = None
    url: str | None = field(default=None, repr=False)
    url_expires_at: str | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """State of an instance's link: open, connecting, closed, qr, logged_out, replaced, failed."""

    state: str
    reason_code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event (design 2). Times are RFC 3339 UTC with milliseconds, for people; they decide nothing.

    `repr` shows identifiers of ours only: no phone number, text or payload.
    """

    event_key: EventKey
    gateway: str
    transport: str
    tenant_id: TenantId
    instance_id: InstanceId
    gateway_instance: str
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
    status_rank: int | None = None
    text: str | None = field(default=None, repr=False)
    media: Media | None = field(default=None, repr=False)
    push_name: str | None = field(default=None, repr=False)
    connection: Connection | None = None
    occurred_at: str | None = None
    received_at: str
    replay: bool = False
    raw: bytes = field(repr=False)
    raw_content_type: str = "application/json"
    remembered: bool = True
    """False for identity class *none*: such an event is never a duplicate (kept out of the envelope)."""
