"""Which webhooks are held back in the retry queue: in each shard owned here, those that are paused. Owns what it last said, and what waits.

The retry pump asks for it before each look at a shard, so nothing of a paused webhook is claimed, whoever owned the shard before.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from worker.client_registry.tenure import Tenure
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, Token, WebhookId
from worker.event_integration.retry_queue import DueWebhook, RetryQueue
from worker.event_integration.standing import Standing

COUNTED_EVERY_S = 10.0
"""For people only, and each held webhook costs a look."""


class Holding:
    """`look` once per turn, then `keep` for each shard about to be looked at."""

    def __init__(self, retry_queue: RetryQueue, standing: Standing, known: Container[WebhookId]) -> None:
        """`known` changes in place. What waits for a disabled or a deleted webhook is not held: it becomes dead letters."""
        self._retry_queue = retry_queue
        self._standing = standing
        self._known = known
        self._held: frozenset[WebhookId] = frozenset()
        self._said: dict[Shard, tuple[Token, frozenset[WebhookId]]] = {}
        self._waiting: dict[Shard, tuple[float, list[DueWebhook]]] = {}
        """What waits of those held in each shard, and when that was counted."""

    def __repr__(self) -> str:
        return f"<Holding {len(self._held)} webhooks>"

    def look(self) -> None:
        """Who is to be held back now."""
        disabled = self._standing.disabled
        self._held = frozenset(w for w in self._standing.paused if w not in disabled and w in self._known)

    async def keep(self, tenure: Tenure, now_s: float) -> None:
        """Returns once the store knows it too: told once for each grant and each change. Raises `StaleToken`, `StoreUnavailable`."""
        if not self._standing.is_known:
            raise StoreUnavailable("which webhooks are paused was not read yet; nothing is claimed before that")
        shard, wanted = tenure.shard, (tenure.token, self._held)
        if self._said.get(shard) != wanted:
            await self._retry_queue.hold(shard, *wanted)
            self._said[shard] = wanted
            self._waiting.pop(shard, None)
        if self._held and (shard not in self._waiting or now_s - self._waiting[shard][0] >= COUNTED_EVERY_S):
            self._waiting[shard] = now_s, await self._retry_queue.waiting_of(shard, sorted(wanted[1]))

    def forget(self, shard: Shard) -> None:
        """It is somebody else's, or a new tenure's."""
        self._said.pop(shard, None)
        self._waiting.pop(shard, None)

    def waiting(self) -> Iterator[tuple[float, DueWebhook]]:
        """Rows of the owned shards, each with the instant it was counted."""
        return ((at_s, row) for at_s, rows in self._waiting.values() for row in rows)
