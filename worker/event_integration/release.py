"""How fast a webhook's backlog comes back after an outage: at up to twice its usual rate. Pure; time is passed in."""

from __future__ import annotations

from worker.domain.ids import WebhookId

USUAL_AT_LEAST_PER_S = 50.0
TIMES_USUAL = 2.0
HORIZON_S = 3600.0
BURST_S = 0.25
COUNTED_EVERY_S = 1.0


class _Rate:
    """An hour's decaying average of deliveries routed, and a bucket of retries that may be released."""

    __slots__ = ("counted", "counted_at_s", "filled_at_s", "routed", "since_s", "tokens")

    def __init__(self, now_s: float) -> None:
        self.since_s = now_s
        self.counted_at_s = now_s
        self.counted = 0
        """Routed since `counted_at_s`, not yet in the average: it is brought up to date once a second, not for each event."""
        self.filled_at_s = now_s
        self.routed = 0.0
        self.tokens = USUAL_AT_LEAST_PER_S * BURST_S

    def count(self, now_s: float) -> None:
        self.counted += 1
        if now_s - self.counted_at_s >= COUNTED_EVERY_S:
            self._average(now_s)

    def _average(self, now_s: float) -> None:
        self.routed = self.routed * max(0.0, 1 - (now_s - self.counted_at_s) / HORIZON_S) + self.counted
        self.counted = 0
        self.counted_at_s = now_s

    def per_s(self, now_s: float) -> float:
        self._average(now_s)
        known_s = min(HORIZON_S, max(1.0, now_s - self.since_s))
        return TIMES_USUAL * max(USUAL_AT_LEAST_PER_S, self.routed / known_s)

    def fill(self, now_s: float) -> None:
        per_s = self.per_s(now_s)
        self.tokens = min(per_s * BURST_S, self.tokens + per_s * (now_s - self.filled_at_s))
        self.filled_at_s = now_s


class ReleaseRates:
    """One bucket per webhook."""

    def __init__(self) -> None:
        self._rates: dict[WebhookId, _Rate] = {}

    def count_routed(self, webhook_id: WebhookId, now_s: float) -> None:
        """A first attempt was routed to this webhook."""
        self._of(webhook_id, now_s).count(now_s)

    def allowance(self, webhook_id: WebhookId, now_s: float) -> int:
        """Retries that may be released now; at least one once a whole token has gathered."""
        rate = self._of(webhook_id, now_s)
        rate.fill(now_s)
        return int(rate.tokens)

    def spend(self, webhook_id: WebhookId, count: int) -> None:
        self._rates[webhook_id].tokens -= count

    def _of(self, webhook_id: WebhookId, now_s: float) -> _Rate:
        rate = self._rates.get(webhook_id)
        if rate is None:
            rate = self._rates[webhook_id] = _Rate(now_s)
        return rate
