"""The port of what all workers remember of contacts. Ages are seconds by the store's clock.

Everything here is remembered, never needed: it has a bound of its own, gives way, and ends by itself (`KEPT_S`, `FAILED_S`). Each call
may be repeated after an unknown outcome. All raise `StoreUnavailable`, those that keep something also `StoreFull`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from worker.domain.contact import ContactKey

FRESH_S = 86_400.0
"""So long a broker's answer is believed, whether it was a picture or that there is none."""
KEPT_S = 2 * FRESH_S
"""So long it is told while it is looked for anew (stale), and so long a name is remembered after it was last said."""
FAILED_S = 60.0
"""So long a contact is not asked about again after a broker gave no answer."""


class Answered(NamedTuple):
    """A broker's final answer. `url` None: there is no picture, or it is not for us to see."""

    url: str | None
    age_s: float

    def __repr__(self) -> str:
        return f"<Answered {self.age_s:.0f} s ago>"


class Said(NamedTuple):
    """The name that the contact last gave itself."""

    name: str
    age_s: float

    def __repr__(self) -> str:
        return f"<Said {self.age_s:.0f} s ago>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the store has of one contact; each part may be missing. `failed_age_s`: since a broker last gave no answer."""

    said: Said | None = None
    answered: Answered | None = None
    failed_age_s: float | None = None


class ContactStore(Protocol):
    """One table for all workers, over restarts."""

    async def load(self, key: ContactKey) -> Kept: ...

    async def keep_name(self, key: ContactKey, name: str) -> None: ...

    async def keep_picture(self, key: ContactKey, url: str | None) -> None:
        """A final answer, of now. None: there is none."""
        ...

    async def keep_failure(self, key: ContactKey) -> None:
        """Nobody should ask for a while; an answer kept earlier stays."""
        ...
