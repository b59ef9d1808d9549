"""JSON Web Tokens signed with a shared secret (RFC 7519, HS256 of RFC 7518), checked; never made. Pure.

A token says who posts and for how long, nothing about the body. Another algorithm, `none` above all, is refused whatever
the signature says.
"""

from __future__ import annotations

import hmac
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import orjson

LATE_S = 3_600
"""A token is still taken so long after its `exp`: a gateway makes it once for all attempts, and the last retries come late."""
EARLY_S = 3_600
"""And so long before its `iat` or `nbf`: the gateway's clock may be wrong."""

_ALGORITHM = "HS256"
_MAX_TOKEN_CHARS = 4_096
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header."""
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_signed_by_any(token: str | None, secrets: Sequence[str], at_s: float | None) -> bool:
    """Whether `token` is good at `at_s` (seconds since 1970; None: its times are not compared). False without secrets."""
    parts = _TOKEN.fullmatch(token) if token and len(token) <= _MAX_TOKEN_CHARS else None
    if parts is None:
        return False
    header, claims, given = _object(parts[1]), _object(parts[2]), _bytes(parts[3])
    if header is None or claims is None or given is None or header.get("alg") != _ALGORITHM or "crit" in header:
        return False
    signed = f"{parts[1]}.{parts[2]}".encode()
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(hmac.digest(secret.encode(), signed, "sha256"), given)
    return found and _is_timely(claims, at_s)


def _is_timely(claims: Mapping[str, Any], at_s: float | None) -> bool:
    """A token that never ends is a password that anybody who saw it once may use for ever: refused."""
    ends = claims.get("exp")
    begins = [claims[name] for name in ("iat", "nbf") if name in claims]
    if not _is_instant(ends) or not all(map(_is_instant, begins)):
        return False
    return at_s is None or (at_s <= ends + LATE_S and all(at_s >= instant - EARLY_S for instant in begins))


def _is_instant(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _object(part: str) -> Mapping[str, Any] | None:
    written = _bytes(part)
    if written is None:
        return None
    try:
        value = orjson.loads(written)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _bytes(part: str) -> bytes | None:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None
