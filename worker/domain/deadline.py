"""A named instant on a monotonic clock after which a wait has failed. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Deadline(NamedTuple):
    """`name` says whose patience ends; `at_s` is on the clock of the loop that waits."""

    name: str
    at_s: float

    def left_s(self, now_s: float) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - now_s)

    def has_passed(self, now_s: float) -> bool:
        return now_s >= self.at_s
