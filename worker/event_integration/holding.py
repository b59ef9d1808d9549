"""Which webhooks are held back in the retry queue: in each shard owned here, those that are paused. Owns nothing but what it last said.

The retry pump asks for it before each look at a shard, so nothing of a paused webhook is claimed, whoever owned the shard before.
"""

from __future__ import annotations

from collections.abc import Container

from worker.client_registry.tenure import Tenure
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, Token, WebhookId
from worker.event_integration.retry_queue import RetryQueue
from worker.event_integration.standing import Standing


class Holding:
    """`look` once per turn, then `keep` for each shard about to be looked at."""

    def __init__(self, retry_queue: RetryQueue, standing: Standing, known: Container[WebhookId]) -> None:
        """`known` changes in place. What waits for a disabled or a deleted webhook is not held: it becomes dead letters."""
        self._retry_queue = retry_queue
        self._standing = standing
        self._known = known
        self._held: frozenset[WebhookId] = frozenset()
        self._said: dict[Shard, tuple[Token, frozenset[WebhookId]]] = {}

    def __repr__(self) -> str:
        return f"<Holding {len(self._held)} webhooks>"

    def look(self) -> None:
        """Who is to be held back now."""
        disabled = self._standing.disabled
        self._held = frozenset(w for w in self._standing.paused if w not in disabled and w in self._known)

    async def keep(self, tenure: Tenure) -> None:
        """Returns once the store knows it too: told once for each grant and each change. Raises `StaleToken`, `StoreUnavailable`."""
        if not self._standing.is_known:
            raise StoreUnavailable("which webhooks are paused was not read yet; nothing is claimed before that")
        wanted = (tenure.token, self._held)
        if self._said.get(tenure.shard) != wanted:
            await self._retry_queue.hold(tenure.shard, *wanted)
            self._said[tenure.shard] = wanted
