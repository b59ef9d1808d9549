"""Following the directory: all of it once, then what changes, with one blocking read at a time and none in between.

Every worker hears of a change as the store takes it; an idle directory costs one call per `BLOCK_S`. While the store is away what is known
holds. Until everything was read once, nothing may be decided by what is *not* in the catalog: a webhook not heard of yet is not a
webhook that was deleted (`loaded`, `is_current`).
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.abc
import structlog

from worker.directory.port import Directory, Revision
from worker.directory.replica import Replica
from worker.domain.errors import StoreUnavailable

BLOCK_S = 4.0
AGAIN_S = 1.0
"""While the store is away."""
CURRENT_FOR_S = 10.0
"""An answer this old still counts: blocked reads and their deadline fit in."""

log = structlog.get_logger("worker.directory")


class Follower:
    """`run` in a task group. Cancel-safe: the next follower reads everything anew."""

    def __init__(self, directory: Directory, replica: Replica, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._replica = replica
        self._clock = clock
        self._is_away = False
        self._answered_at_s = float("-inf")
        self.upto = Revision(0)
        """What the catalog is up to."""
        self.loaded = anyio.Event()
        """Everything was read once."""

    def __repr__(self) -> str:
        return f"<Follower upto={self.upto} {self._replica!r}>"

    @property
    def is_current(self) -> bool:
        """Whether what is not in the catalog is not in the store either, but for the last moments."""
        return self._clock() - self._answered_at_s < CURRENT_FOR_S

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started once everything was read, or could not be: then `loaded` tells when."""
        knows = False
        while True:
            try:
                knows = await (self._follow() if knows else self._load())
                self._note_answer()
            except StoreUnavailable as exc:
                if not self._is_away:
                    log.warning("directory_not_reached", cause=str(exc), next_step="tried again each second; what is known holds")
                self._is_away = True
            task_status.started()
            task_status = anyio.TASK_STATUS_IGNORED
            if self._is_away:
                await anyio.sleep(AGAIN_S)

    async def _load(self) -> bool:
        everything = await self._directory.everything()
        await self._replica.become(everything, after=self.upto)
        self.upto = everything.upto
        self.loaded.set()
        return True

    async def _follow(self) -> bool:
        """False where everything has to be read anew."""
        changes = await self._directory.changes(self.upto, wait_s=BLOCK_S)
        if changes is None:
            log.warning("directory_read_anew", cause="the store's log of changes says nothing of what happened since the last answer")
            return False
        for change in changes.changes:
            self._replica.take(change)
        self.upto = changes.upto
        return True

    def _note_answer(self) -> None:
        self._answered_at_s = self._clock()
        if self._is_away:
            self._is_away = False
            log.info("directory_reached_again")

    def statistics(self) -> dict[str, object]:
        return {"registered": len(self._replica), "is_current": self.is_current, "revision": self.upto}
