"""The twin of what all workers remember of contacts: same contract suite as `redis_contacts`."""

from __future__ import annotations

from collections.abc import Callable

from worker.adapters.memory_faults import StoreFaults
from worker.contact_metadata_cache.port import FAILED_S, KEPT_S, Answered, Kept, Said
from worker.domain.contact import ContactKey

PLACES = 131_072


class MemoryContacts:
    """`ContactStore` of one `MemoryStore`. A full table forgets what was kept first."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float], *, places: int = PLACES) -> None:
        self._faults = faults
        self._clock = clock
        self._places = places
        self._kept: dict[str, dict[ContactKey, tuple[str, float]]] = {"name": {}, "picture": {}, "failed": {}}

    async def load(self, key: ContactKey) -> Kept:
        await self._faults.reach("contact_load")
        name, picture, failed = (
            self._found(kind, key, kept_s) for kind, kept_s in (("name", KEPT_S), ("picture", KEPT_S), ("failed", FAILED_S))
        )
        await self._faults.answered("contact_load")
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

    def _found(self, kind: str, key: ContactKey, kept_s: float) -> tuple[str, float] | None:
        text, at_s = self._kept[kind].get(key, ("", float("-inf")))
        age_s = self._clock() - at_s
        return (text, age_s) if age_s < kept_s else None

    async def _keep(self, kind: str, key: ContactKey, text: str) -> None:
        await self._faults.reach(f"contact_keep_{kind}")
        table = self._kept[kind]
        table[key] = text, self._clock()
        if len(table) > self._places:
            del table[next(iter(table))]
        await self._faults.answered(f"contact_keep_{kind}")
