"""The twin of the table of webhooks' states: same contract suite as `redis_webhook_states`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from worker.adapters.memory_faults import StoreFaults
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import MAX_PAUSES, DisabledReason, Pause, WebhookState


class MemoryWebhookStates:
    """`WebhookStates` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._rows: dict[WebhookId, tuple[DisabledReason | None, float]] = {}
        self._pauses: dict[WebhookId, list[tuple[float, float | None]]] = {}

    def remove(self, webhook_id: WebhookId) -> None:
        """What an operator does by hand (`HDEL`)."""
        self._rows.pop(webhook_id, None)

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        await self._faults.reach("all_states")
        states = {webhook_id: self._state(webhook_id) for webhook_id in self._rows.keys() | self._pauses.keys()}
        await self._faults.answered("all_states")
        return states

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        await self._faults.reach("note_answers")
        for webhook_id in answered:
            self._stop_failing(webhook_id)
        for webhook_id in failed:
            self._rows.setdefault(webhook_id, (None, self._clock()))
        await self._faults.answered("note_answers")

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        await self._faults.reach("disable")
        is_disabled = self._disable(webhook_id, reason, failing_for_s)
        await self._faults.answered("disable")
        return is_disabled

    async def enable(self, webhook_id: WebhookId) -> None:
        await self._faults.reach("enable")
        self.remove(webhook_id)
        await self._faults.answered("enable")

    async def pause(self, webhook_id: WebhookId) -> None:
        await self._faults.reach("pause")
        pauses = self._pauses.setdefault(webhook_id, [])
        if not _lasts(pauses):
            pauses.append((self._clock(), None))
            if len(pauses) > MAX_PAUSES:
                pauses[:2] = [(pauses[0][0], pauses[1][1])]
        await self._faults.answered("pause")

    async def resume(self, webhook_id: WebhookId) -> None:
        await self._faults.reach("resume")
        pauses = self._pauses.get(webhook_id, [])
        if _lasts(pauses):
            pauses[-1] = (pauses[-1][0], self._clock())
            self._stop_failing(webhook_id)
        await self._faults.answered("resume")

    async def forget(self, webhook_id: WebhookId) -> None:
        await self._faults.reach("forget")
        self._rows.pop(webhook_id, None)
        self._pauses.pop(webhook_id, None)
        await self._faults.answered("forget")

    def _state(self, webhook_id: WebhookId) -> WebhookState:
        now_s, pauses = self._clock(), self._pauses.get(webhook_id, [])
        reason, since_s = self._rows.get(webhook_id, (None, now_s))
        return WebhookState(
            disabled=reason,
            is_failing=webhook_id in self._rows and reason is None,
            for_s=now_s - since_s,
            is_paused=_lasts(pauses),
            pauses=tuple(Pause(now_s - start_s, 0.0 if end_s is None else now_s - end_s) for start_s, end_s in pauses),
        )

    def _stop_failing(self, webhook_id: WebhookId) -> None:
        if webhook_id in self._rows and self._rows[webhook_id][0] is None:
            del self._rows[webhook_id]

    def _disable(self, webhook_id: WebhookId, reason: DisabledReason, failing_for_s: float) -> bool:
        now_s = self._clock()
        before, since_s = self._rows.get(webhook_id, (None, now_s))
        if before is not None:
            return True
        if now_s - since_s < failing_for_s:
            return False
        self._rows[webhook_id] = (reason, now_s)
        return True


def _lasts(pauses: list[tuple[float, float | None]]) -> bool:
    return bool(pauses) and pauses[-1][1] is None
