"""The resume points on Redis: a key each, which ends by itself.

It stands beside the shard's journal, under its hash tag: a server that takes over without the last writes has lost the point no later than
the events that it speaks of, since those were written first.
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.domain.ids import InstanceId, Shard, shard_of
from worker.websocket.resume_points import KEPT_S

_KEPT_MS = round(KEPT_S * 1000)


class RedisResumePoints:
    """`ResumePoints` over `{wa:S}:resume:<instance>`."""

    def __init__(self, data: RedisClient, *, shards: int) -> None:
        self._data = data
        self._keys = [ShardKeys(Shard(number)) for number in range(shards)]

    async def load_point(self, instance_id: InstanceId) -> str | None:
        value = await self._data.call("GETEX", self._key(instance_id), "PX", _KEPT_MS)
        return None if value is None else value.decode()

    async def save_points(self, points: Mapping[InstanceId, str]) -> None:
        if points:
            await self._data.exchange([("SET", self._key(name), event_id, "PX", _KEPT_MS) for name, event_id in points.items()])

    def _key(self, instance_id: InstanceId) -> str:
        return self._keys[shard_of(instance_id, len(self._keys))].resume(instance_id)
