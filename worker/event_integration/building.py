"""From a delivery to the request of one attempt, a large one off the loop. Remembers each webhook, prepared; hot path.

Where a webhook wants contacts, whoever knows them (`enrichment`) is told of each of its events when it is routed, and asked for what is
known when it is built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import anyio.to_thread
import structlog

from worker.domain.catalog import Webhook
from worker.domain.contact import Contact
from worker.domain.deadline import Deadline
from worker.domain.errors import place_of
from worker.domain.ids import WebhookId
from worker.domain.record import Record
from worker.event_buffer.deliveries import Delivery
from worker.event_integration.attempts import Attempt
from worker.event_integration.enrichment import AGAIN_WITHIN_S, ENRICH_WITHIN_S, Enrichment
from worker.event_integration.request import PreparedWebhook, wants_contact
from worker.event_integration.transport import Request

log = structlog.get_logger()

OFF_LOOP_BYTES = 64 << 10


class Builder:
    """`build` for each attempt; also to try an event out (`careful.py`)."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._prepared: dict[WebhookId, PreparedWebhook] = {}
        self.enrichment: Enrichment | None = None
        """None: nobody knows any contacts."""

    def forget(self, webhook_id: WebhookId) -> None:
        """The webhook was deleted."""
        self._prepared.pop(webhook_id, None)

    def expect(self, record: Record, webhooks: Iterable[Webhook]) -> None:
        """The event was routed to these: what one of them wants to know is looked for from now on. Never waits, never raises."""
        if self.enrichment is None:
            return
        for webhook in webhooks:
            if wants_contact(webhook):
                try:
                    self.enrichment.expect(record)
                except Exception as exc:  # noqa: BLE001 -- costs the contact, never the event
                    _report_fault(record, exc)
                return

    async def build(self, webhook: Webhook, delivery: Delivery, attempt: Attempt | None = None) -> Request:
        """Stamped and signed now. Raises whatever building raises: a fault of ours, or in the event.

        `attempt` is told how long contacts took; None: nothing is waited for.
        """
        contact = await self._contact(delivery, attempt) if wants_contact(webhook) else None
        wall_s = self._wall_s()
        if delivery.event.size <= OFF_LOOP_BYTES:
            return self._request(webhook, delivery, contact, wall_s)
        return await anyio.to_thread.run_sync(self._request, webhook, delivery, contact, wall_s)

    async def _contact(self, delivery: Delivery, attempt: Attempt | None) -> Contact | None:
        """What is known by the end of the event's own small budget, within the attempt's deadline."""
        if self.enrichment is None:
            return None
        clock, record = asyncio.get_running_loop().time, delivery.event.record
        began_s = clock()
        if attempt is None:
            deadline = Deadline("enrich", began_s)
        else:
            left_s = max(0.0, ENRICH_WITHIN_S - (attempt.started_s - delivery.event.read_at_s))
            if delivery.claim is not None:
                left_s = min(left_s, AGAIN_WITHIN_S)
            deadline = Deadline("enrich", min(began_s + left_s, attempt.deadline.at_s))
        try:
            return await self.enrichment.contact(record, deadline)
        except Exception as exc:  # noqa: BLE001 -- costs the contact, never the event
            _report_fault(record, exc)
            return None
        finally:
            if attempt is not None:
                attempt.enriched_in_s = clock() - began_s

    def _request(self, webhook: Webhook, delivery: Delivery, contact: Contact | None, wall_s: float) -> Request:
        """May run in a thread: a second `PreparedWebhook` made meanwhile says the same as the first."""
        prepared = self._prepared.get(webhook.id)
        if prepared is None or prepared.webhook is not webhook:
            prepared = self._prepared[webhook.id] = PreparedWebhook(webhook)
        event = delivery.event
        return prepared.request(event.record, delivery.delivery_id, delivery.attempts + 1, event.tenure.token, wall_s, contact)


def _report_fault(record: Record, fault: Exception) -> None:
    log.warning(
        "contact_not_told", event_key=record.event_key, cause=place_of(fault), next_step="report it; the event is delivered without"
    )
