"""The attempts log on Redis: a list per webhook, the newest first, each entry one JSON array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from worker.adapters import redis_keys
from worker.adapters.redis_client import Command, RedisClient
from worker.domain.ids import DeliveryId, EventKey, WebhookId
from worker.event_integration.attempts_log import KEEP_S, KEPT, AttemptEntry
from worker.event_integration.transport import Stage


class RedisAttemptsLog:
    """`AttemptsLog` over `{wa}:attempts:<webhook>`."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def add(self, entries: Mapping[WebhookId, Sequence[AttemptEntry]]) -> None:
        commands: list[Command] = []
        for webhook_id, each in entries.items():
            key = redis_keys.attempts(webhook_id)
            commands.append(("LPUSH", key, *map(_written, each)))
            commands.append(("LTRIM", key, 0, KEPT - 1))
            commands.append(("EXPIRE", key, int(KEEP_S)))
        if commands:
            await self._data.exchange(commands)

    async def attempts_of(self, webhook_id: WebhookId) -> list[AttemptEntry]:
        rows = await self._data.call("LRANGE", redis_keys.attempts(webhook_id), 0, KEPT - 1)
        return [entry for row in rows if (entry := _read(row)) is not None]

    async def forget(self, webhook_id: WebhookId) -> None:
        await self._data.call("DEL", redis_keys.attempts(webhook_id))


def _written(entry: AttemptEntry) -> bytes:
    return orjson.dumps(
        [
            round(entry.at_s, 3),
            entry.event_key,
            entry.delivery_id,
            entry.attempt,
            entry.outcome,
            round(entry.duration_s, 6),
            entry.status,
            entry.error,
            entry.stage,
            {stage.value: round(seconds, 6) for stage, seconds in entry.phases_s.items()},
        ]
    )


def _read(row: bytes) -> AttemptEntry | None:
    """None for what another version may have written."""
    try:
        at_s, event_key, delivery_id, attempt, outcome, duration_s, status, error, stage, phases_s = orjson.loads(row)
        return AttemptEntry(
            at_s=at_s,
            event_key=EventKey(event_key),
            delivery_id=DeliveryId(delivery_id),
            attempt=attempt,
            outcome=outcome,
            duration_s=duration_s,
            status=status,
            error=error,
            stage=None if stage is None else Stage(stage),
            phases_s=_phases(phases_s),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def _phases(stored: Mapping[str, Any]) -> dict[Stage, float]:
    return {Stage(stage): float(seconds) for stage, seconds in stored.items()}
