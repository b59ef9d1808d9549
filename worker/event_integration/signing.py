"""Signatures by the Standard Webhooks specification (https://www.standardwebhooks.com, "Signature scheme"). Pure.

Signed is `<id>.<timestamp>.<body>`, by HMAC-SHA256, once for each active secret, so that a receiver may rotate at leisure.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Sequence

PREFIX = "whsec_"
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


class InvalidSecret(ValueError):
    """Raised when a secret is not `whsec_` and base64. The message never holds the secret."""


class Signer:
    """One webhook's secrets, prepared: both hash states of each key wait to be copied, which halves a signature's cost.

    May be used from several threads. `repr` shows how many secrets there are.
    """

    __slots__ = ("_keyed",)

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises `InvalidSecret`. The first secret signs first."""
        self._keyed = tuple(_prepared(key_of(secret)) for secret in secrets)

    def signature_header(self, msg_id: str, timestamp_s: int, body: bytes) -> str:
        """One `v1,<base64>` for each secret, separated by spaces; empty where there is none."""
        head = f"{msg_id}.{timestamp_s}.".encode()
        values = []
        for inner_state, outer_state in self._keyed:
            inner = inner_state.copy()
            inner.update(head)
            inner.update(body)
            outer = outer_state.copy()
            outer.update(inner.digest())
            values.append("v1," + binascii.b2a_base64(outer.digest(), newline=False).decode())
        return " ".join(values)

    def __len__(self) -> int:
        return len(self._keyed)

    def __repr__(self) -> str:
        return f"<Signer of {len(self._keyed)} secrets>"


def key_of(secret: str) -> bytes:
    """The key inside `whsec_<base64>` (padding optional). Raises `InvalidSecret`."""
    if not secret.startswith(PREFIX):
        raise InvalidSecret(f"a webhook secret starts with {PREFIX!r}; make one with: echo {PREFIX}$(openssl rand -base64 24)")
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as exc:
        raise InvalidSecret(f"a webhook secret is {PREFIX!r} and base64; what follows the prefix is not") from exc
    if not key:
        raise InvalidSecret(f"a webhook secret is {PREFIX!r} and base64 of 24 to 64 random bytes; this one is empty")
    return key


def _prepared(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """RFC 2104: the states after the padded key, before the message and before the inner digest."""
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))
