"""Trying a webhook out: one made-up event, sent as any other would be, and what came of it. Not journaled, not counted, not tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from worker.domain.catalog import Webhook
from worker.domain.deadline import Deadline
from worker.domain.errors import WorkerError
from worker.domain.event import Event, EventType
from worker.domain.ids import DeliveryId, EventKey, InstanceId, Token, WebhookId, delivery_id
from worker.domain.record import decode, encode
from worker.event_integration.request import PreparedWebhook
from worker.event_integration.transport import Answer, Failure, Transport

MAX_AT_ONCE = 16
SUBTYPE = "test"
NO_INSTANCE = InstanceId("-")
_RAW = b'{"test":true}'


class TrialsBusy(WorkerError):
    """Raised when this webhook is being tried out already, or so many others are."""


class Tried(NamedTuple):
    """The one attempt, and how long it took."""

    event_key: EventKey
    delivery_id: DeliveryId
    result: Answer | Failure
    duration_s: float


class Trials:
    """Bounded by itself, and outside of the bulkheads: it takes no slot from anybody."""

    def __init__(
        self, transport: Transport, *, wall_s: Callable[[], float], received_at: Callable[[], str], fresh_key: Callable[[], EventKey]
    ) -> None:
        """`wall_s`: seconds since the epoch; `received_at`: the same in RFC 3339; `fresh_key`: another each time."""
        self._transport = transport
        self._wall_s = wall_s
        self._received_at = received_at
        self._fresh_key = fresh_key
        self._under_way: set[WebhookId] = set()

    def __repr__(self) -> str:
        return f"<Trials {len(self._under_way)} under way>"

    async def run(self, webhook: Webhook) -> Tried:
        """One attempt under the webhook's deadline. Raises `TrialsBusy`, and what building raises. Cancelling closes the connection."""
        if webhook.id in self._under_way or len(self._under_way) >= MAX_AT_ONCE:
            raise TrialsBusy("a test of this webhook is under way, or too many others are; try again once it has ended")
        self._under_way.add(webhook.id)
        try:
            return await self._attempt(webhook)
        finally:
            self._under_way.discard(webhook.id)

    async def _attempt(self, webhook: Webhook) -> Tried:
        record = decode(encode(self._event(webhook)))
        name = delivery_id(record.event_key, webhook.id)
        request = PreparedWebhook(webhook).request(record, name, 1, Token(0), self._wall_s())
        clock = asyncio.get_running_loop().time  # the transport's own
        started_s = clock()
        result = await self._transport.deliver(request, Deadline("webhook_test", started_s + webhook.deadline_s))
        return Tried(record.event_key, name, result, clock() - started_s)

    def _event(self, webhook: Webhook) -> Event:
        return Event(
            event_key=self._fresh_key(),
            gateway="generic",
            transport="api",
            tenant_id=webhook.tenant_id,
            instance_id=min(webhook.instance_ids, default=NO_INSTANCE),
            gateway_instance="-",
            type=EventType.SYSTEM,
            subtype=SUBTYPE,
            received_at=self._received_at(),
            raw=_RAW,
            remembered=False,
        )
