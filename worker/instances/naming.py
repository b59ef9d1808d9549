"""Names that we choose for instances: at the broker, and for ourselves. Pure; the caller brings the randomness.

A broker's name is never the user's text alone: nobody gets at a stranger's instance by naming it (design 6). Eight random characters
make it ours, and within `[a-z0-9-]`, 54 characters, every broker keeps it as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from worker.domain.ids import InstanceId, TenantId

TENANT_CHARS = 24
SLUG_CHARS = 20
RANDOM_CHARS = 8
MAX_ID_CHARS = 64
SUGGESTIONS = range(2, 100)
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_OTHERS = re.compile(r"[^a-z0-9]+")


def slug(text: str) -> str:
    """`Vendas São Paulo` → `vendas-sao-paulo`; at most 20 characters, `instance` where nothing is left."""
    return _plain(text, SLUG_CHARS) or "instance"


def broker_name(tenant_id: TenantId, name: str, random: str) -> str:
    """`{tenant}-{slug}-{8 random}`."""
    return f"{_plain(tenant_id, TENANT_CHARS) or 'tenant'}-{slug(name)}-{random}"


def own_id(name: str, random: str) -> InstanceId:
    """Of an instance whose creator named none."""
    return InstanceId(f"{slug(name)}-{random}")


def suggested_id(taken: InstanceId, is_free: Callable[[InstanceId], bool], random: str) -> InstanceId:
    """The first of `taken-2`, `taken-3` … that is free; a random one where none is."""
    for number in SUGGESTIONS:
        found = InstanceId(f"{taken[: MAX_ID_CHARS - 3]}-{number}")
        if is_free(found):
            return found
    return InstanceId(f"{taken[: MAX_ID_CHARS - RANDOM_CHARS - 1]}-{random}")


def _plain(text: str, most: int) -> str:
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return _OTHERS.sub("-", ascii_only).strip("-")[:most].strip("-")
