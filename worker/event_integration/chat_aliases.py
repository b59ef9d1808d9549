"""The port of what is known of a chat's two names: which phone form stands behind a LID.

Learnt from events that carry both, kept so that order survives a restart when an event carries only the LID (design 3 "Order").
Facts about the world, not state of an owner: neither call is fenced, and both may be repeated. Both raise `StoreUnavailable`.
A full store takes them all the same: they are few, and the checkpoint that lets the events go they were learnt from waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from worker.domain.ids import InstanceId, Shard

KEPT_AT_MOST = 20_000
"""Aliases per shard. Beyond, some give way, whichever; they are learnt again from the next event that carries both names."""


class ChatAliases(Protocol):
    """Per shard a durable, bounded map from an instance's LID to the chat's phone form."""

    async def load(self, shard: Shard) -> dict[tuple[InstanceId, str], str]:
        """All that is kept: (instance, LID) → phone form."""
        ...

    async def learn(self, shard: Shard, aliases: Mapping[tuple[InstanceId, str], str]) -> None:
        """Adds these; the newest phone form of a LID is the one kept."""
        ...
