"""The checkpointer: every 250 ms what moved is saved, writes that the store did not take are repeated, wide gaps are closed.

A SIGKILL repeats at most what was in flight and what settled since the last save. It never waits for an attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio
import structlog

from worker.client_registry.tenure import Tenure, TenureState
from worker.domain.deadline import Deadline
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import Position, Shard
from worker.event_integration.leaving import Leaving
from worker.event_integration.reader import MAX_GAP
from worker.event_integration.settling import Settling
from worker.journal.port import Checkpoints

log = structlog.get_logger()

EVERY_S = 0.25
TRIM_EVERY_S = 10.0
TRIM_WHEN_TIGHT_EVERY_S = 1.0
CLAIM_WITHIN_S = 2.0


class Checkpointer:
    """`run` in a task group; `save` also by whoever ends a tenure."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        leaving: Leaving,
        settling: Settling,
        tenures: Callable[[], Iterable[Tenure]],
        clock: Callable[[], float],
    ) -> None:
        self._checkpoints = checkpoints
        self._leaving = leaving
        self._settling = settling
        self._tenures = tenures
        self._clock = clock
        self._saving: dict[Shard, anyio.Lock] = {}
        self._trimmed_at_s: dict[Shard, float] = {}
        self.keep_s = 3600.0
        self.keep_bytes = 16 << 20
        self.is_store_tight: Callable[[], bool] = lambda: False
        """Whether the store is short of memory: what is only kept gives way before the door has to close."""
        self.before_save: Callable[[Shard], Awaitable[None]] | None = None
        """What must be durable before the events are let go that it was learnt from."""
        self.on_stale: Callable[[Tenure], None] = lambda _tenure: None
        self.on_went_back: Callable[[Tenure, Position], None] = lambda _tenure, _tail: None
        """The journal ends before what was read of it: the store lost what it had not written to disk."""

    async def run(self) -> None:
        while True:
            await anyio.sleep(EVERY_S)
            self._settling.write_again()
            # All at once: a store that syncs each write to disk syncs once for those that come together.
            async with anyio.create_task_group() as tending:
                for tenure in list(self._tenures()):
                    tending.start_soon(self._tend, tenure)

    async def _tend(self, tenure: Tenure) -> None:
        """One tenure's turn."""
        try:
            if tenure.completion.gap >= MAX_GAP:
                await self._close_gap(tenure)
            if tenure.completion.has_moved and tenure.may_write(self._clock()):
                await self.save(tenure)
            await self._trim(tenure)
        except StaleToken:
            self.on_stale(tenure)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("checkpoint_not_saved", shard=tenure.shard, cause=str(exc), next_step="saved with the next one")

    async def save(self, tenure: Tenure) -> Position:
        """Saves what is known now and answers the journal's tail. Raises `StaleToken`, `StoreUnavailable`.

        One save per shard at a time: a checkpoint in doubt is repeated before a newer one is made, and a newer one follows at once.
        """
        async with self._saving.setdefault(tenure.shard, anyio.Lock()):
            if self.before_save is not None:
                await self.before_save(tenure.shard)
            is_repeat = tenure.completion.is_in_doubt
            tail = await self._save(tenure)
            if is_repeat and tenure.completion.has_moved:
                tail = await self._save(tenure)
            return tail

    async def _save(self, tenure: Tenure) -> Position:
        checkpoint, cursor = tenure.completion.checkpoint(tenure.token), tenure.completion.cursor
        tail = await self._checkpoints.save(checkpoint)
        if tail < cursor:  # as it was when we asked: what was read meanwhile may have been appended meanwhile
            self.on_went_back(tenure, tail)
        else:
            tenure.completion.saved(checkpoint)
        return tail

    async def _close_gap(self, tenure: Tenure) -> None:
        """The prefix is held back by more than 5 000 positions: what holds it is parked (attempts under way become claims)."""
        if tenure.state is not TenureState.ACTIVE:
            return
        keep_from = Position(tenure.completion.cursor - MAX_GAP * 4 // 5)
        await self._leaving.park_before(tenure, keep_from, deadline=Deadline(name="close_gap", at_s=self._clock() + CLAIM_WITHIN_S))

    async def _trim(self, tenure: Tenure) -> None:
        now_s, is_tight = self._clock(), self.is_store_tight()
        every_s = TRIM_WHEN_TIGHT_EVERY_S if is_tight else TRIM_EVERY_S
        if now_s - self._trimmed_at_s.get(tenure.shard, 0.0) < every_s or not tenure.may_write(now_s):
            return
        self._trimmed_at_s[tenure.shard] = now_s
        keep_bytes = 0 if is_tight else self.keep_bytes
        await self._checkpoints.trim(tenure.shard, tenure.token, keep_s=self.keep_s, keep_bytes=keep_bytes)
