"""The states of webhooks on Redis: two hashes, their values readable by an operator (docs/architecture.md "The store")."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient, Script
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import MAX_PAUSES, DisabledReason, Pause, WebhookState

NOTE_ANSWERS = Script("note_answers", "clock")
DISABLE = Script("disable", "clock")
PAUSE = Script("pause", "clock")
SCRIPTS = (NOTE_ANSWERS, DISABLE, PAUSE)

_NOTHING_KNOWN = WebhookState()
_PAUSE = re.compile(r"(\d+)-(\d*)")


class RedisWebhookStates:
    """`WebhookStates` over `{wa}:webhooks` (webhook → `failing <ms>` or `disabled <ms> <reason>`) and `{wa}:pauses`."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        time, rows, pauses = await self._data.exchange([("TIME",), ("HGETALL", redis_keys.WEBHOOKS), ("HGETALL", redis_keys.PAUSES)])
        now_s = int(time[0]) + int(time[1]) / 1_000_000
        states: dict[WebhookId, WebhookState] = {}
        for webhook_id, text in _read(rows).items():
            state = _state(text, now_s)
            if state is not None:
                states[webhook_id] = state
        for webhook_id, text in _read(pauses).items():
            states[webhook_id] = _with_pauses(states.get(webhook_id, _NOTHING_KNOWN), text, now_s)
        return states

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        await self._data.call(*NOTE_ANSWERS.call((redis_keys.WEBHOOKS,), (len(answered), *answered, *failed)))

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        asked_ms = round(failing_for_s * 1000)
        return bool(await self._data.call(*DISABLE.call((redis_keys.WEBHOOKS,), (webhook_id, reason, asked_ms))))

    async def enable(self, webhook_id: WebhookId) -> None:
        await self._data.call("HDEL", redis_keys.WEBHOOKS, webhook_id)

    async def pause(self, webhook_id: WebhookId) -> None:
        await self._pause(webhook_id, paused=True)

    async def resume(self, webhook_id: WebhookId) -> None:
        await self._pause(webhook_id, paused=False)

    async def forget(self, webhook_id: WebhookId) -> None:
        await self._data.exchange([("HDEL", key, webhook_id) for key in (redis_keys.WEBHOOKS, redis_keys.PAUSES)])

    async def _pause(self, webhook_id: WebhookId, *, paused: bool) -> None:
        await self._data.call(*PAUSE.call((redis_keys.WEBHOOKS, redis_keys.PAUSES), (webhook_id, int(paused), MAX_PAUSES)))


def _read(reply: list[bytes]) -> dict[WebhookId, str]:
    return {WebhookId(name.decode()): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _state(text: str, now_s: float) -> WebhookState | None:
    """None for what another version may have written: it says nothing about failing or being disabled."""
    match text.split():
        case ["failing", at_ms] if at_ms.isdecimal():
            return WebhookState(is_failing=True, for_s=now_s - int(at_ms) / 1000)
        case ["disabled", at_ms, reason] if at_ms.isdecimal() and reason in set(DisabledReason):
            return WebhookState(disabled=DisabledReason(reason), for_s=now_s - int(at_ms) / 1000)
        case _:
            return None


def _with_pauses(state: WebhookState, text: str, now_s: float) -> WebhookState:
    spans = _PAUSE.findall(text)
    pauses = tuple(Pause(now_s - int(start) / 1000, now_s - int(end) / 1000 if end else 0.0) for start, end in spans)
    return replace(state, pauses=pauses, is_paused=bool(spans) and not spans[-1][1])
