"""The states of webhooks on Redis: one hash, its values readable by an operator (docs/architecture.md "The store")."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient, Script
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import DisabledReason, WebhookState

NOTE_ANSWERS = Script("note_answers", "clock")
DISABLE = Script("disable", "clock")
SCRIPTS = (NOTE_ANSWERS, DISABLE)


class RedisWebhookStates:
    """`WebhookStates` over `{wa}:webhooks`: webhook → `failing <ms>` or `disabled <ms> <reason>`."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        time, rows = await self._data.exchange([("TIME",), ("HGETALL", redis_keys.WEBHOOKS)])
        now_s = int(time[0]) + int(time[1]) / 1_000_000
        read = {WebhookId(name.decode()): _state(value.decode(), now_s) for name, value in zip(rows[::2], rows[1::2], strict=True)}
        return {webhook_id: state for webhook_id, state in read.items() if state is not None}

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        await self._data.call(*NOTE_ANSWERS.call((redis_keys.WEBHOOKS,), (len(answered), *answered, *failed)))

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        asked_ms = round(failing_for_s * 1000)
        return bool(await self._data.call(*DISABLE.call((redis_keys.WEBHOOKS,), (webhook_id, reason, asked_ms))))


def _state(text: str, now_s: float) -> WebhookState | None:
    """None for what another version may have written: it says nothing about failing or being disabled."""
    match text.split():
        case ["failing", at_ms] if at_ms.isdecimal():
            return WebhookState(disabled=None, for_s=now_s - int(at_ms) / 1000)
        case ["disabled", at_ms, reason] if at_ms.isdecimal() and reason in set(DisabledReason):
            return WebhookState(disabled=DisabledReason(reason), for_s=now_s - int(at_ms) / 1000)
        case _:
            return None
