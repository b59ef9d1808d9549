"""One broker's circuit breaker: five failed calls in a row, and for 30 s nobody asks; then one probe does. Pure; time is passed in.

```
          5 failed calls in a row              30 s are over
  CLOSED ─────────────────────────▶ OPEN ─────────────────────▶ HALF_OPEN
     ▲                               ▲                              │ one probe
     │  any call is answered         └───── the probe fails ────────┤
     └──────────────────────────────────────────────────────────────┘
```

A call with its retries counts once: what is counted is how often a user was disappointed, not how often we knocked. An answer that
says no (a wrong key, a quota) is an answer: the broker is there.
"""

from __future__ import annotations

from enum import StrEnum

from worker.instances.broker import BrokerCause, BrokerFailure
from worker.instances.failures import CircuitOpen

FAILURES_TO_OPEN = 5
OPEN_FOR_S = 30.0
ABSENT = frozenset(
    {
        BrokerCause.DNS,
        BrokerCause.CONNECT,
        BrokerCause.TLS,
        BrokerCause.TIMEOUT,
        BrokerCause.SERVICE_UNAVAILABLE,
        BrokerCause.PROTOCOL,
        BrokerCause.STORAGE,
    }
)
"""Causes that say that the broker cannot serve anybody now."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Each call that `admit` lets through comes back by `answered`, `failed` or `cancelled`, with what `admit` said."""

    __slots__ = ("_failures", "_is_probing", "_last", "_open_until_s")

    def __init__(self) -> None:
        self._failures = 0
        self._open_until_s: float | None = None
        self._is_probing = False
        self._last: BrokerFailure | None = None

    def state(self, now_s: float) -> BreakerState:
        if self._open_until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self._open_until_s else BreakerState.HALF_OPEN

    def statistics(self, now_s: float) -> dict[str, object]:
        """`last_cause`: of the failures in a row; None while there are none."""
        cause = self._last.cause.value if self._failures and self._last is not None else None
        return {"circuit": self.state(now_s).value, "failures_in_row": self._failures, "last_cause": cause}

    def admit(self, now_s: float) -> bool:
        """Whether this call is the probe. Raises `CircuitOpen`."""
        if self._open_until_s is None:
            return False
        if now_s < self._open_until_s or self._is_probing:
            raise self._refusal(max(1.0, self._open_until_s - now_s))
        self._is_probing = True
        return True

    def answered(self, *, probe: bool) -> None:
        self._failures = 0
        self._open_until_s = None
        self._is_probing = self._is_probing and not probe

    def failed(self, failure: BrokerFailure, now_s: float, *, probe: bool) -> None:
        if failure.cause not in ABSENT:
            self.answered(probe=probe)
            return
        self._last = failure
        self._failures += 1
        if probe:
            self._is_probing = False
        if probe or (self._open_until_s is None and self._failures >= FAILURES_TO_OPEN):
            self._open_until_s = now_s + OPEN_FOR_S

    def cancelled(self, *, probe: bool) -> None:
        """Says nothing about the broker; a probe leaves its place to the next."""
        if probe:
            self._is_probing = False

    def _refusal(self, wait_s: float) -> CircuitOpen:
        assert self._last is not None, "what opens a circuit is a failure"
        return CircuitOpen(
            self._last.cause,
            f"the broker failed {self._failures} times in a row ({self._last.cause}) and is not asked for {wait_s:.0f} s; try again then",
            status=self._last.status,
            broker_code=self._last.broker_code,
            retry_after_s=round(wait_s, 1),
        )
