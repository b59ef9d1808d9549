"""What an owner does beside the work: recounts what waits in a shard it has just got, lets old dead letters go, announced."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio
import structlog

from worker.client_registry.tenure import Tenure
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import Shard
from worker.event_integration.retry_queue import Room
from worker.journal.port import Checkpoints

log = structlog.get_logger("worker.housekeeping")

EVERY_S = 1.0
DEAD_LETTERS_EVERY_S = 60.0
DEAD_LETTERS_PER_TURN = 500


class Housekeeping:
    """`run` in a task group; `note_fresh` for each new tenure."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        room: Room,
        tenures: Callable[[], Iterable[Tenure]],
        clock: Callable[[], float],
        *,
        dead_letters_keep_s: float,
    ) -> None:
        self._checkpoints = checkpoints
        self._room = room
        self._tenures = tenures
        self._clock = clock
        self._keep_s = dead_letters_keep_s
        self._uncounted: set[Shard] = set()
        self._expire_at_s: dict[Shard, float] = {}
        self.on_stale: Callable[[Tenure], None] = lambda _tenure: None

    def note_fresh(self, shard: Shard) -> None:
        """A tenure starts with a recount, beside the work and not before it (docs/decisions/0002)."""
        self._uncounted.add(shard)

    async def run(self) -> None:
        while True:
            await anyio.sleep(EVERY_S)
            for tenure in list(self._tenures()):
                try:
                    await self._recount(tenure)
                    await self._expire(tenure)
                except StaleToken:
                    self.on_stale(tenure)
                except (StoreUnavailable, StoreFull) as exc:
                    log.warning("housekeeping_interrupted", shard=tenure.shard, cause=str(exc), next_step="tried again in a second")
                    break

    async def _recount(self, tenure: Tenure) -> None:
        if tenure.shard in self._uncounted and tenure.may_write(self._clock()):
            await self._checkpoints.recount(tenure.shard, tenure.token)
            self._uncounted.discard(tenure.shard)

    async def _expire(self, tenure: Tenure) -> None:
        now_s = self._clock()
        if now_s < self._expire_at_s.get(tenure.shard, 0.0):
            return
        self._expire_at_s[tenure.shard] = now_s + DEAD_LETTERS_EVERY_S
        gone = await self._room.expire_dead_letters(tenure.shard, older_than_s=self._keep_s, limit=DEAD_LETTERS_PER_TURN)
        if gone:
            log.warning("dead_letters_expired", shard=tenure.shard, count=gone, older_than_s=self._keep_s)
