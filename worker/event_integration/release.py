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

    def __init__(self, since_s: float, now_s: float) -> None:
        self.since_s = since_s
        self.counted_at_s = since_s
        self.counted = 0
        """Of all that was ever routed, what is in the average."""
        self.filled_at_s = now_s
        self.routed = 0.0
        self.tokens = USUAL_AT_LEAST_PER_S * BURST_S

    def average(self, routed_ever: int, now_s: float) -> None:
        """Brings the average up to date with the lane's own count: nothing is done here per event."""
        fresh, self.counted = routed_ever - self.counted, routed_ever
        elapsed_s, self.counted_at_s = now_s - self.counted_at_s, now_s
        self.routed = self.routed * max(0.0, 1 - elapsed_s / HORIZON_S) + fresh * min(1.0, HORIZON_S / max(1.0, elapsed_s))

    def per_s(self, now_s: float) -> float:
        known_s = min(HORIZON_S, max(1.0, now_s - self.since_s))
        return TIMES_USUAL * max(USUAL_AT_LEAST_PER_S, self.routed / known_s)

    def fill(self, now_s: float) -> None:
        per_s = self.per_s(now_s)
        self.tokens = min(per_s * BURST_S, self.tokens + per_s * (now_s - self.filled_at_s))
        self.filled_at_s = now_s


class ReleaseRates:
    """One bucket per webhook."""

    def __init__(self, since_s: float) -> None:
        """`since_s`: when the lanes began to count."""
        self._since_s = since_s
        self._rates: dict[WebhookId, _Rate] = {}

    def allowance(self, webhook_id: WebhookId, routed_ever: int, now_s: float) -> int:
        """Retries that may be released now; at least one once a whole token has gathered. `routed_ever`: first attempts so far."""
        rate = self._of(webhook_id, now_s)
        rate.average(routed_ever, now_s)
        rate.fill(now_s)
        return int(rate.tokens)

    def spend(self, webhook_id: WebhookId, count: int) -> None:
        self._rates[webhook_id].tokens -= count

    def forget(self, webhook_id: WebhookId) -> None:
        self._rates.pop(webhook_id, None)

    def _of(self, webhook_id: WebhookId, now_s: float) -> _Rate:
        rate = self._rates.get(webhook_id)
        if rate is None:
            rate = self._rates[webhook_id] = _Rate(self._since_s, now_s)
        return rate
