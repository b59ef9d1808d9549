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

    async def latest(self) -> Sequence[KeptReport]:
        entries = await self._data.call("LRANGE", redis_keys.DRAINS, 0, KEPT_REPORTS - 1)
        return [KeptReport(**orjson.loads(entry)) for entry in entries]
