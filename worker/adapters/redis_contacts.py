"""What all workers remember of contacts, on Redis: plain keys with a TTL, whose rest tells their age.

Places are numbered, and a contact has the one that its digest names: who comes to a taken place takes it. That bounds the table
without an index, a script or a sweep, at the price of a few lookups more; and what is too old is gone to the millisecond.
"""

from __future__ import annotations

from hashlib import sha256

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient
from worker.contact_metadata_cache.port import FAILED_S, KEPT_S, Answered, Kept, Said
from worker.domain.contact import ContactKey

PLACES = 131_072
"""Some 80 MB when all are taken, each with a name, a picture and a failure."""
DIGEST_BYTES = 16
_KINDS = ("name", "picture", "failed")
_KEPT_S = {"name": KEPT_S, "picture": KEPT_S, "failed": FAILED_S}


class RedisContacts:
    """`ContactStore` over `{wa}:contact:<kind>:<place>` → the contact's digest (16 bytes), then the name or the URL."""

    def __init__(self, data: RedisClient, *, places: int = PLACES) -> None:
        self._data = data
        self._places = places

    async def load(self, key: ContactKey) -> Kept:
        digest, place = self._place(key)
        names = [redis_keys.contact(kind, place) for kind in _KINDS]
        values, *left_ms = await self._data.exchange([("MGET", *names), *(("PTTL", name) for name in names)])
        found = {
            kind: (value[DIGEST_BYTES:].decode(), max(0.0, _KEPT_S[kind] - left / 1000))
            for kind, value, left in zip(_KINDS, values, left_ms, strict=True)
            if value is not None and value.startswith(digest) and left >= 0
        }
        name, picture, failed = (found.get(kind) for kind in _KINDS)
        return Kept(
            said=None if name is None else Said(*name),
            answered=None if picture is None else Answered(picture[0] or None, picture[1]),
            failed_age_s=None if failed is None else failed[1],
        )

    async def keep_name(self, key: ContactKey, name: str) -> None:
        await self._keep("name", key, name)

    async def keep_picture(self, key: ContactKey, url: str | None) -> None:
        await self._keep("picture", key, url or "")

    async def keep_failure(self, key: ContactKey) -> None:
        await self._keep("failed", key, "")

    async def _keep(self, kind: str, key: ContactKey, text: str) -> None:
        digest, place = self._place(key)
        await self._data.call("SET", redis_keys.contact(kind, place), digest + text.encode(), "PX", round(_KEPT_S[kind] * 1000))

    def _place(self, key: ContactKey) -> tuple[bytes, int]:
        # A digest, not the id: keys and values show up in slow logs and monitors. Neither holds a NUL.
        digest = sha256(f"{key.instance_id}\0{key.contact_id}".encode()).digest()[:DIGEST_BYTES]
        return digest, int.from_bytes(digest[:8]) % self._places
