"""From a delivery to the request of one attempt, a large one off the loop. Remembers each webhook, prepared; hot path."""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread

from worker.domain.catalog import Webhook
from worker.domain.ids import WebhookId
from worker.event_buffer.deliveries import Delivery
from worker.event_integration.request import PreparedWebhook
from worker.event_integration.transport import Request

OFF_LOOP_BYTES = 64 << 10


class Builder:
    """`build` for each attempt; also to try an event out (`careful.py`)."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._prepared: dict[WebhookId, PreparedWebhook] = {}

    def forget(self, webhook_id: WebhookId) -> None:
        """The webhook was deleted."""
        self._prepared.pop(webhook_id, None)

    async def build(self, webhook: Webhook, delivery: Delivery) -> Request:
        """Stamped and signed now. Raises whatever building raises: a fault of ours, or in the event."""
        wall_s = self._wall_s()
        if delivery.event.size <= OFF_LOOP_BYTES:
            return self._request(webhook, delivery, wall_s)
        return await anyio.to_thread.run_sync(self._request, webhook, delivery, wall_s)

    def _request(self, webhook: Webhook, delivery: Delivery, wall_s: float) -> Request:
        """May run in a thread: a second `PreparedWebhook` made meanwhile says the same as the first."""
        prepared = self._prepared.get(webhook.id)
        if prepared is None or prepared.webhook is not webhook:
            prepared = self._prepared[webhook.id] = PreparedWebhook(webhook)
        event = delivery.event
        return prepared.request(event.record, delivery.delivery_id, delivery.attempts + 1, event.tenure.token, wall_s)
