"""The aliases of chats on Redis: one hash per shard (docs/architecture.md "The store")."""

from __future__ import annotations

from collections.abc import Mapping

from worker.adapters.redis_client import RedisClient, Script
from worker.adapters.redis_keys import ShardKeys
from worker.domain.ids import InstanceId, Shard
from worker.event_integration.chat_aliases import KEPT_AT_MOST

LEARN = Script("learn", "clock")
SCRIPTS = (LEARN,)

BATCH = 500
"""Aliases per script: what one call may do while others wait for the server. As many twice over give way at most, so that a
table which grew too long, under another bound, shrinks again."""


class RedisChatAliases:
    r"""`ChatAliases` over `{wa:<shard>}:aliases`: `<instance>\0<lid>` → phone form. An instance's id holds no NUL; a LID may."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def load(self, shard: Shard) -> dict[tuple[InstanceId, str], str]:
        reply = await self._data.call("HGETALL", ShardKeys(shard).aliases)
        return {_names(name): phone_form.decode() for name, phone_form in zip(reply[::2], reply[1::2], strict=True)}

    async def learn(self, shard: Shard, aliases: Mapping[tuple[InstanceId, str], str]) -> None:
        facts = [(f"{instance_id}\0{lid}", phone_form) for (instance_id, lid), phone_form in aliases.items()]
        for start in range(0, len(facts), BATCH):
            fields = [text for fact in facts[start : start + BATCH] for text in fact]
            await self._data.call(*LEARN.call((ShardKeys(shard).aliases,), (KEPT_AT_MOST, 2 * BATCH, *fields)))


def _names(field: bytes) -> tuple[InstanceId, str]:
    instance_id, _, lid = field.decode().partition("\0")
    return InstanceId(instance_id), lid
