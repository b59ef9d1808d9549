"""The entrance: what stands behind the ingest paths while there is no handler yet.

The listener opens first, so that `/livez` answers from the start; a push that comes before the store has been reached gets a 503
that it can come back from.
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.ingest import reply
from worker.ingest.door import Refusal
from worker.ingest.handler import Ingest
from worker.ingest.reply import Reply


class Entrance:
    """A handler for the routes that is there before the real one. `open` once; it is never closed (the door is what shuts)."""

    def __init__(self) -> None:
        self._ingest: Ingest | None = None

    def open(self, ingest: Ingest) -> None:
        """From now on `ingest` answers."""
        self._ingest = ingest

    async def accept(self, gateway: str, instance_id: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As `Ingest.accept`; 503 `JOURNAL_UNAVAILABLE` before `open`."""
        if self._ingest is None:
            return reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        return await self._ingest.accept(gateway, instance_id, headers, body)

    def challenge(self, gateway: str, instance_id: str, query: Mapping[str, str]) -> Reply | None:
        """As `Ingest.challenge`; 503 before `open`."""
        if self._ingest is None:
            return reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        return self._ingest.challenge(gateway, instance_id, query)

    def finished(self, gateway: str, answer: Reply) -> Reply:
        """As `Ingest.finished`; before `open` nothing is counted."""
        return answer if self._ingest is None else self._ingest.finished(gateway, answer)
