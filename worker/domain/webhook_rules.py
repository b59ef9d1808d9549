"""What a webhook may look like, wherever it is declared: patterns that also stand in schemas, and the rules no pattern can say. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from worker.domain.event import EventType

URL_PATTERN = r"^https?://[!-~]+$"
"""Beyond it `is_http_url` decides."""
MAX_URL_CHARACTERS = 2_048
EVENT_PATTERN = rf"^(\*|{'|'.join(EventType)})(/[A-Za-z0-9_.*-]+)?$"
"""`type` or `type/subtype`, `*` allowed."""
MAX_EVENT_CHARACTERS = 128
MAX_EVENTS = 100
HEADER_NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
HEADER_VALUE_PATTERN = r"^[\t -~]*$"
MAX_HEADERS = 50
MAX_HEADER_NAME_CHARACTERS = 256
MAX_HEADER_VALUE_CHARACTERS = 8_192
DEADLINE_S = (1, 30)
MAX_IN_FLIGHT = (1, 1_000)
FORMATS = ("normalized", "raw")
ORDERINGS = ("none", "chat")

_OUR_HEADERS = frozenset(
    {
        "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "user-agent",
    }
)  # fmt: skip
_OUR_HEADER_PREFIXES = ("webhook-", "x-whatsapp-", "x-delivery-", "x-fencing-")


def is_http_url(url: str) -> bool:
    """Whether it is an http or https URL with a host and, where it names one, a port from 1 to 65535."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return is_usable and not any(c.isspace() for c in url)


def is_event_filter(text: str) -> bool:
    return re.fullmatch(EVENT_PATTERN, text) is not None


def is_our_header(name: str) -> bool:
    """Its framing and its facts are the worker's to set, whatever the case of the letters."""
    return name.lower() in _OUR_HEADERS or name.lower().startswith(_OUR_HEADER_PREFIXES)
