"""What one attempt sends: the body in the webhook's format and the headers of contract 4. Pure.

Everything that is the same for all of a webhook's requests is prepared once. Names that come from outside (instances,
subtypes, content types) are percent-encoded where a header could not hold them, so that none can end a header and begin another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from worker.domain.catalog import Webhook
from worker.domain.contact import Contact
from worker.domain.ids import DeliveryId, Token
from worker.domain.record import Record, normalized_body, raw_body, with_contact
from worker.event_integration.signing import Signer
from worker.event_integration.transport import Request

USER_AGENT = "whatsapp-event-worker"
MAX_VALUE_CHARACTERS = 1024
MAX_REMEMBERED = 1024
_OURS = frozenset(
    {
        "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "webhook-id", "webhook-timestamp", "webhook-signature", "x-whatsapp-tenant", "x-whatsapp-instance", "x-whatsapp-event",
        "x-delivery-attempt", "x-fencing-token",
    }
)  # fmt: skip
"""Headers that a webhook may not set: its framing is the transport's, its facts are the worker's."""
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, 5.6.2: a token."""
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What `quote` leaves alone beside letters and digits: all of printable ASCII but `%`, so that nothing is encoded ambiguously."""


class InvalidHeader(ValueError):
    """Raised when a webhook's own header cannot be sent. The message holds its name, never its value."""


class PreparedWebhook:
    """A webhook ready to build requests from, also from several threads (what it remembers changes no answer); `repr` shows its id."""

    __slots__ = ("_headers", "_is_raw", "_remembered", "_signer", "_signer_until_s", "webhook")

    def __init__(self, webhook: Webhook) -> None:
        """Raises `InvalidSecret` and `InvalidHeader`: make one of each webhook when the configuration is read."""
        check_headers(webhook.headers)
        self.webhook = webhook
        self._signer, self._signer_until_s = _signer(webhook, float("-inf"))
        self._is_raw = webhook.format == "raw"
        self._headers = {"user-agent": USER_AGENT, **{name.lower(): value for name, value in webhook.headers.items()}}
        self._remembered: dict[tuple[str, ...], dict[str, str]] = {}

    def request(
        self, record: Record, delivery_id: DeliveryId, attempt: int, token: Token, wall_now_s: float, contact: Contact | None = None
    ) -> Request:
        """The attempt's request; `attempt` counts from 1, `wall_now_s` is stamped (whole seconds) and signed.

        `contact` is told where the webhook wants it, and its body has room for it (`wants_contact`).
        """
        if self._is_raw:
            body, content_type = raw_body(record)
        else:
            body, content_type = normalized_body(record), "application/json"
            if self.webhook.enrich_contact:
                body = with_contact(body, contact)
        timestamp_s = int(wall_now_s)
        if wall_now_s >= self._signer_until_s:
            self._signer, self._signer_until_s = _signer(self.webhook, wall_now_s)
        headers = self._headers_for(record, content_type).copy()
        headers["webhook-id"] = delivery_id
        headers["webhook-timestamp"] = str(timestamp_s)
        if len(self._signer):
            headers["webhook-signature"] = self._signer.signature_header(delivery_id, timestamp_s, body)
        headers["x-delivery-attempt"] = str(attempt)
        headers["x-fencing-token"] = str(token)
        return Request(self.webhook.url, headers, body)

    def _headers_for(self, record: Record, content_type: str) -> dict[str, str]:
        """What is the same for all events of one kind, from memory where it can; not to be changed by the caller."""
        kind = (content_type, record.tenant_id, record.instance_id, record.type, record.subtype or "")
        headers = self._remembered.get(kind)
        if headers is None:
            # Subtypes and instances come from outside: their number has no bound of its own.
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            headers = self._remembered[kind] = {
                **self._headers,
                "content-type": header_safe(content_type),
                "x-whatsapp-tenant": header_safe(record.tenant_id),
                "x-whatsapp-instance": header_safe(record.instance_id),
                "x-whatsapp-event": header_safe(record.type if record.subtype is None else f"{record.type}/{record.subtype}"),
            }
        return headers

    def __repr__(self) -> str:
        return f"<PreparedWebhook {self.webhook.id}>"


def wants_contact(webhook: Webhook) -> bool:
    """`raw` is the gateway's own: nothing is put into it."""
    return webhook.enrich_contact and webhook.format != "raw"


def _signer(webhook: Webhook, wall_now_s: float) -> tuple[Signer, float]:
    """Of all secrets that sign now, those about to retire last; and until when that is so."""
    retiring = [old for old in webhook.retiring if old.until_s > wall_now_s]
    return Signer([*webhook.secrets, *(old.secret for old in retiring)]), min((old.until_s for old in retiring), default=float("inf"))


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises `InvalidHeader` for the first that cannot be sent or is the worker's own to set."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidHeader(f"header {name!r}: a name is made of letters, digits and !#$%&'*+-.^_`|~")
        if name.lower() in _OURS:
            raise InvalidHeader(f"header {name!r} is set by the worker; choose another name")
        if not _VALUE.fullmatch(value) or len(value) > 8 * MAX_VALUE_CHARACTERS:
            raise InvalidHeader(f"header {name!r}: a value is printable ASCII, at most {8 * MAX_VALUE_CHARACTERS} characters")


@lru_cache(maxsize=4096)
def header_safe(text: str) -> str:
    """`text`, percent-encoded (UTF-8) where it is not printable ASCII, cut to 1 024 characters; ordinary ids stay as they are."""
    return quote(text, safe=_PLAIN, errors="replace")[:MAX_VALUE_CHARACTERS].strip()
