"""The twin of the table of webhooks' states: same contract suite as `redis_webhook_states`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from worker.adapters.memory_faults import StoreFaults
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import DisabledReason, WebhookState


class MemoryWebhookStates:
    """`WebhookStates` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._rows: dict[WebhookId, tuple[DisabledReason | None, float]] = {}

    def remove(self, webhook_id: WebhookId) -> None:
        """What an operator does by hand (`HDEL`)."""
        self._rows.pop(webhook_id, None)

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        await self._faults.reach("all_states")
        now_s = self._clock()
        states = {name: WebhookState(disabled=reason, for_s=now_s - since_s) for name, (reason, since_s) in self._rows.items()}
        await self._faults.answered("all_states")
        return states

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        await self._faults.reach("note_answers")
        for webhook_id in answered:
            if webhook_id in self._rows and self._rows[webhook_id][0] is None:
                del self._rows[webhook_id]
        for webhook_id in failed:
            self._rows.setdefault(webhook_id, (None, self._clock()))
        await self._faults.answered("note_answers")

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        await self._faults.reach("disable")
        is_disabled = self._disable(webhook_id, reason, failing_for_s)
        await self._faults.answered("disable")
        return is_disabled

    def _disable(self, webhook_id: WebhookId, reason: DisabledReason, failing_for_s: float) -> bool:
        now_s = self._clock()
        before, since_s = self._rows.get(webhook_id, (None, now_s))
        if before is not None:
            return True
        if now_s - since_s < failing_for_s:
            return False
        self._rows[webhook_id] = (reason, now_s)
        return True
