"""What this worker remembers of one contact, and what that is worth now. Pure; times are seconds on one monotonic clock.

```
 answered ──── FRESH_S ────▶ stale: told, and looked for anew ──── KEPT_S ────▶ forgotten
 failed ─ FAILED_S ─▶ asked again
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from worker.contact_metadata_cache.port import FAILED_S, FRESH_S, KEPT_S, Kept

NEVER_S = float("-inf")


class Knowledge(Enum):
    """Of the picture."""

    FRESH = auto()
    """A picture, or that there is none: nobody needs to ask."""
    STALE = auto()
    FAILED = auto()
    """Nothing; nobody should ask just now."""
    NOTHING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`name_kept_s`: when the store was last given the name."""

    name: str | None = field(default=None, repr=False)
    name_kept_s: float = NEVER_S
    url: str | None = field(default=None, repr=False)
    answered_s: float = NEVER_S
    failed_s: float = NEVER_S
    loaded_s: float = NEVER_S

    def knowledge(self, now_s: float) -> Knowledge:
        if now_s < self.answered_s + FRESH_S:
            return Knowledge.FRESH
        if now_s < self.answered_s + KEPT_S:
            return Knowledge.STALE
        return Knowledge.FAILED if now_s < self.failed_s + FAILED_S else Knowledge.NOTHING

    def may_be_asked(self, now_s: float) -> bool:
        """Whether a broker's answer is wanted and may be had."""
        return now_s >= self.answered_s + FRESH_S and now_s >= self.failed_s + FAILED_S

    @property
    def gone_at_s(self) -> float:
        """Nothing of it is worth remembering from then on."""
        known_s = max(self.answered_s, self.name_kept_s) + KEPT_S
        return max(known_s, self.failed_s + FAILED_S, self.loaded_s + FAILED_S)

    @property
    def is_loaded(self) -> bool:
        """Whether the store was asked since this was forgotten last; it is asked again before a broker is."""
        return self.loaded_s > NEVER_S

    def wants_name_kept(self, name: str, now_s: float) -> bool:
        return name != self.name or now_s >= self.name_kept_s + FRESH_S

    def named(self, name: str, now_s: float) -> Entry:
        return replace(self, name=name, name_kept_s=now_s)

    def answered(self, url: str | None, now_s: float) -> Entry:
        return replace(self, url=url, answered_s=now_s, failed_s=NEVER_S)

    def failed(self, now_s: float) -> Entry:
        return replace(self, failed_s=now_s)

    def loaded(self, kept: Kept, now_s: float) -> Entry:
        """With what the store knows newer: somebody else may have asked, or heard a name. A name heard here is the newest there is."""
        entry = replace(self, loaded_s=now_s)
        if kept.said is not None and entry.name is None:
            entry = replace(entry, name=kept.said.name, name_kept_s=now_s - kept.said.age_s)
        if kept.answered is not None and now_s - kept.answered.age_s > entry.answered_s:
            entry = replace(entry, url=kept.answered.url, answered_s=now_s - kept.answered.age_s)
        if kept.failed_age_s is not None:
            entry = replace(entry, failed_s=max(entry.failed_s, now_s - kept.failed_age_s))
        return entry
