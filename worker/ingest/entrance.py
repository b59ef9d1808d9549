"""The entrance: the door's answers from the first moment, also before there is a store to put anything into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from worker.ingest import reply
from worker.ingest.door import Refusal
from worker.ingest.reply import Reply


class TakesPushes(Protocol):
    """What the routes ask: `ingest.handler.Ingest`, or an `Entrance` before it."""

    async def accept(self, gateway: str, instance_id: str, headers: Mapping[str, str], body: bytes) -> Reply: ...

    async def challenge(self, gateway: str, instance_id: str, query: Mapping[str, str]) -> Reply | None: ...

    def finished(self, gateway: str, answer: Reply) -> Reply: ...


class Entrance:
    """503 `JOURNAL_UNAVAILABLE` until `open`, then whatever the ingest behind it says."""

    def __init__(self) -> None:
        self._behind: TakesPushes | None = None

    def open(self, ingest: TakesPushes) -> None:
        self._behind = ingest

    async def accept(self, gateway: str, instance_id: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if self._behind is None:
            return reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        return await self._behind.accept(gateway, instance_id, headers, body)

    async def challenge(self, gateway: str, instance_id: str, query: Mapping[str, str]) -> Reply | None:
        if self._behind is None:
            return reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        return await self._behind.challenge(gateway, instance_id, query)

    def finished(self, gateway: str, answer: Reply) -> Reply:
        return answer if self._behind is None else self._behind.finished(gateway, answer)
