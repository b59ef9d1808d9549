"""One webhook's circuit: five failures in a row close the road for a while, then one probe asks. Pure; time is passed in.

```
            5 failed attempts in a row                    the wait is over
  CLOSED ───────────────────────────────▶ OPEN ───────────────────────────────▶ HALF_OPEN
     ▲                                     ▲  │ wait: 5 s, 10, 20, 40, 60, 60 …       │ one probe
     │                                     │  │ each × uniform(0.8, 1.2)              │
     │           an answer of an attempt   │  │       the probe fails: doubled        │
     ├─────────────────────────────────────┼──┘ ◀─────────────────────────────────────┤
     │  that began before it opened        └──────────────────────────────────────────┤
     └────────────────────────────────────────────────────────────────────────────────┘
                     the probe is answered: the doubling starts anew
```

While it is open nothing is attempted, and what attempts of an earlier time fail with is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from worker.domain.backoff import doubled_s, jittered_s

FAILURES_TO_OPEN = 5
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 60.0


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """`unit_random` answers uniform values in [0, 1). A probe is told by `began` and must come back by one of the three endings."""

    __slots__ = ("_failures", "_is_probing", "_openings", "_opens_until_s", "_unit_random")

    def __init__(self, unit_random: Callable[[], float]) -> None:
        self._unit_random = unit_random
        self._failures = 0
        self._openings = 0
        self._opens_until_s: float | None = None
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        return self._opens_until_s is None

    @property
    def is_probing(self) -> bool:
        """A half-open probe is under way; no second one may begin."""
        return self._is_probing

    def state(self, now_s: float) -> CircuitState:
        if self._opens_until_s is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now_s < self._opens_until_s else CircuitState.HALF_OPEN

    def reopen_in_s(self, now_s: float) -> float:
        """Seconds until a probe may begin; 0.0 unless open."""
        return 0.0 if self._opens_until_s is None else max(0.0, self._opens_until_s - now_s)

    def began(self) -> bool:
        """An attempt begins; True: it is the probe."""
        if self._opens_until_s is None:
            return False
        self._is_probing = True
        return True

    def answered(self, *, probe: bool) -> None:
        """A 2xx closes the circuit, whichever attempt it answers."""
        self._failures = 0
        self._openings = 0
        self._opens_until_s = None
        self._is_probing = self._is_probing and not probe

    def failed(self, now_s: float, *, probe: bool) -> None:
        if probe:
            self._is_probing = False
        if self._opens_until_s is None:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open(now_s)
        elif probe:
            self._open(now_s)

    def cancelled(self, *, probe: bool) -> None:
        """Says nothing about the endpoint; a cancelled probe leaves its place to the next."""
        if probe:
            self._is_probing = False

    def _open(self, now_s: float) -> None:
        wait_s = doubled_s(FIRST_WAIT_S, self._openings, LONGEST_WAIT_S)
        self._opens_until_s = now_s + jittered_s(wait_s, self._unit_random())
        self._openings += 1
        self._failures = 0
