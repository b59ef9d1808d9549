"""Checking a push's signature against any of an instance's secrets. Pure; every secret is tried, in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Sequence


def matches_any(sent: str | None, body: bytes, secrets: Sequence[str], algorithm: str) -> bool:
    """Whether `sent` is the hex HMAC of the raw body with one of `secrets`. False without a signature or without secrets."""
    if not sent:
        return False
    # Bytes, because comparing texts that are not ASCII raises.
    given = sent.strip().lower().encode(errors="replace")
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(hmac.digest(secret.encode(), body, algorithm).hex().encode(), given)
    return found


def after_scheme(header: str | None, scheme: str) -> str | None:
    """What follows `sha256=` and the like; None where the header names another scheme or is missing."""
    name, separator, value = (header or "").strip().partition("=")
    return value if separator and name.lower() == scheme else None


def is_same(sent: str, expected: str) -> bool:
    """Two short secrets compared in constant time."""
    return hmac.compare_digest(sent.encode(errors="replace"), expected.encode(errors="replace"))
