"""What one attempt decides: delivered, again later, or dead. Pure.

```
 what came back                                   outcome
 ──────────────────────────────────────────────   ─────────────────────────────────────────────────────────────────
 2xx                                              Delivered
 410                                              Dead(webhook_disabled), and the webhook is disabled
 forbidden destination                            Dead(forbidden_destination)
 429 or 503 with Retry-After                      RetryAt(what it says: seconds or an HTTP date, 1 s to 1 h)
 any other status (1xx, 3xx, 4xx, 5xx)            RetryAt(schedule[attempts made − 1] × uniform(0.8, 1.2))
 any other failure (dns, refused, reset, tls …)   the same
 ┗ but all attempts made                          Dead(attempts_exhausted)
 ┗ but older than max_age_s                       Dead(too_old)
```
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from worker.domain.backoff import jittered_s
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Answer, Cause, Failure

SHORTEST_RETRY_AFTER_S = 1.0
LONGEST_RETRY_AFTER_S = 3600.0
_HONOURS_RETRY_AFTER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`schedule_s`: the waits between attempts, one fewer than attempts. `max_age_s`: of an event, time paused not counted."""

    schedule_s: tuple[float, ...]
    max_age_s: float


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True)
class RetryAt:
    delay_s: float


@dataclass(frozen=True, slots=True)
class Dead:
    reason: DeadReason
    disables_webhook: bool = False


Outcome = Delivered | RetryAt | Dead
WORDS: dict[type[Outcome], str] = {Delivered: "delivered", RetryAt: "retry", Dead: "dead"}
"""As metrics and logs name them (contract 7)."""

DELIVERED = Delivered()


def decide(
    result: Answer | Failure, *, attempts_made: int, age_s: float, policy: RetryPolicy, unit_random: float, wall_now_s: float
) -> Outcome:
    """The outcome by the table above.

    `attempts_made` counts this one. `unit_random` is uniform in [0, 1). `wall_now_s` (seconds since the epoch) is only compared
    with a date in `Retry-After`.
    """
    if isinstance(result, Failure):
        if result.cause is Cause.FORBIDDEN:
            return Dead(DeadReason.FORBIDDEN_DESTINATION)
    elif 200 <= result.status < 300:  # noqa: PLR2004 (2xx)
        return DELIVERED
    elif result.status == HTTPStatus.GONE:
        return Dead(DeadReason.WEBHOOK_DISABLED, disables_webhook=True)
    if attempts_made > len(policy.schedule_s):
        return Dead(DeadReason.EXHAUSTED)
    if age_s >= policy.max_age_s:
        return Dead(DeadReason.TOO_OLD)
    asked_s = _asked_s(result, wall_now_s)
    return RetryAt(jittered_s(policy.schedule_s[attempts_made - 1], unit_random) if asked_s is None else asked_s)


def describe(result: Answer | Failure) -> str:
    """The result as an operator reads it in a dead letter: no payload, no URL, no secret."""
    if isinstance(result, Answer):
        return f"HTTP {result.status}"
    return f"{result.cause} at {result.stage}" + (f": {result.detail}" if result.detail else "")


def _asked_s(result: Answer | Failure, wall_now_s: float) -> float | None:
    """How long the endpoint asks us to wait; None where it does not, or not readably (RFC 9110, 10.2.3)."""
    if isinstance(result, Failure) or result.retry_after is None or result.status not in _HONOURS_RETRY_AFTER:
        return None
    text = result.retry_after.strip()
    if text.isascii() and text.isdigit():
        # Digits beyond any sense are still "long", and never a float's overflow.
        wait_s = float(text[:9]) if len(text) <= 9 else LONGEST_RETRY_AFTER_S  # noqa: PLR2004
    else:
        try:
            at = parsedate_to_datetime(text)
            wait_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall_now_s
        except (ValueError, OverflowError):
            return None
    return min(LONGEST_RETRY_AFTER_S, max(SHORTEST_RETRY_AFTER_S, wait_s))
