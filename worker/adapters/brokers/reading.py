"""Readers of what brokers say of an instance. Pure; none of them raises."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Any

_DATA_URL = "data:image/png;base64,"
PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PHONE_DIGITS = 15
"""E.164."""


def phone_of(jid: Any) -> str | None:  # noqa: ANN401 - foreign JSON
    """The digits of `5511900000001@c.us`, `5511900000001:12@s.whatsapp.net` or `5511900000001.0:12@…`; None for a LID or a group."""
    if not isinstance(jid, str):
        return None
    user, _, server = jid.partition("@")
    if server in {"lid", "g.us"}:
        return None
    digits = re.split(r"[.:]", user.removeprefix("+"), maxsplit=1)[0]
    return digits if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_PHONE_DIGITS else None


def png_of(text: Any) -> bytes | None:  # noqa: ANN401 - foreign JSON
    """The picture of a `data:` URL."""
    if not isinstance(text, str) or not text.startswith(_DATA_URL):
        return None
    try:
        png = b64decode(text[len(_DATA_URL) :], validate=True)
    except binascii.Error:
        return None
    return png if png.startswith(PNG) else None


def contact(contact_id: str, phone_server: str) -> str:
    """A contact's id as a gateway writes it: a telephone number at `phone_server`, anything else (LID, group) as it is."""
    phone = phone_of(contact_id)
    return contact_id if phone is None else f"{phone}@{phone_server}"
