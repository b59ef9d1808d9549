"""Short makers of bulkheads and of what happens to them."""

from __future__ import annotations

from worker.domain.catalog import Webhook
from worker.domain.ids import TenantId, WebhookId
from worker.event_integration.bulkheads import Bulkheads, Slot, SlotResult, Verdict

OK, FAILED, CANCELLED = SlotResult.ANSWERED_OK, SlotResult.FAILED, SlotResult.CANCELLED


def webhook(name: str = "w", host: str | None = None, max_in_flight: int = 8) -> Webhook:
    return Webhook(id=WebhookId(name), tenant_id=TenantId("t"), url=f"https://{host or name}.test/hook", max_in_flight=max_in_flight)


def steady() -> float:
    return 0.5


def bulkheads(max_in_flight: int = 100) -> Bulkheads:
    return Bulkheads(max_in_flight, steady)


def proven(held: Bulkheads, *webhooks: Webhook, now_s: float = 0.0) -> None:
    for one in webhooks:
        held.end(held.begin(one, now_s, retry=False), OK, now_s)


def verdict(held: Bulkheads, of: Webhook, now_s: float = 0.0, *, retry: bool = False, firsts_wait: bool = False) -> Verdict:
    return held.admit(of, now_s, retry=retry, firsts_wait=firsts_wait).verdict


def start_all(held: Bulkheads, of: Webhook, now_s: float = 0.0, *, retry: bool = False, firsts_wait: bool = False) -> list[Slot]:
    """Starts as many attempts as are admitted."""
    slots = []
    while verdict(held, of, now_s, retry=retry, firsts_wait=firsts_wait) is Verdict.START:
        slots.append(held.begin(of, now_s, retry=retry))
        assert len(slots) <= 1000
    return slots
