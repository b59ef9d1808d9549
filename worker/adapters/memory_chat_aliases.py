"""The twin of the aliases of chats: same contract suite as `redis_chat_aliases`."""

from __future__ import annotations

from collections.abc import Mapping

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_shard import MemoryShard
from worker.domain.ids import InstanceId, Shard
from worker.event_integration.chat_aliases import KEPT_AT_MOST


class MemoryChatAliases:
    """`ChatAliases` over the shards of one `MemoryStore`; the oldest give way."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults) -> None:
        self._shards = shards
        self._faults = faults

    async def load(self, shard: Shard) -> dict[tuple[InstanceId, str], str]:
        await self._faults.reach("load_aliases")
        aliases = dict(self._shards[shard].aliases)
        await self._faults.answered("load_aliases")
        return aliases

    async def learn(self, shard: Shard, aliases: Mapping[tuple[InstanceId, str], str]) -> None:
        await self._faults.reach("learn_aliases")
        state = self._shards[shard]
        state.aliases |= aliases
        for oldest in list(state.aliases)[: max(0, len(state.aliases) - KEPT_AT_MOST)]:
            del state.aliases[oldest]
        await self._faults.answered("learn_aliases")
