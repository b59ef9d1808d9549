"""The last drain reports on Redis: one list, newest first, each entry readable by an operator."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient
from worker.drain_report import KEPT_REPORTS, KeptReport


class RedisDrainReports:
    """`DrainReports` over `{wa}:drains`."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def save(self, kept: KeptReport) -> None:
        entry = orjson.dumps(kept, default=str, option=orjson.OPT_NON_STR_KEYS)
        await self._data.exchange([("LPUSH", redis_keys.DRAINS, entry), ("LTRIM", redis_keys.DRAINS, 0, KEPT_REPORTS - 1)])

    async def latest(self, most: int = KEPT_REPORTS) -> Sequence[KeptReport]:
        entries = await self._data.call("LRANGE", redis_keys.DRAINS, 0, most - 1)
        return [kept for entry in entries if (kept := kept_report(entry)) is not None]


def kept_report(entry: bytes) -> KeptReport | None:
    """What a worker of any release kept; None for what is no report."""
    try:
        told = orjson.loads(entry)
        return KeptReport(at=str(told["at"]), owner=str(told["owner"]), report=dict(told["report"]))
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return None
