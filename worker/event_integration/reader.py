"""The reader: asks the journal of every owned shard for what comes next, as much as the buffer has room for. Hot path.

One blocking read serves all shards, so that a busy second costs one call and not sixteen. The cursor is the tenure's own
(`completion.cursor`): a read that is cancelled, repeated or answered after its tenure has ended loses nothing.

The only reasons not to read: no tenure wants it, or the buffer is full (a reader that ran ahead of healthy endpoints).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import anyio
import structlog

from worker.client_registry.tenure import Tenure
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Position, Shard
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.pipeline import Pipeline
from worker.journal.port import Journal, Segment

log = structlog.get_logger()

BLOCK_S = 1.0
FULL_LOOK_S = 0.1
AWAY_PAUSE_S = 0.25
FIRST_GUESS_BYTES = 16 << 10
MAX_SEGMENTS = 64
YIELD_EVERY = 128
MAX_GAP = 5_000
"""Positions that one slow event may hold the prefix back before it is parked; reading stops at twice as many."""


class Reader:
    """`run` in a task group; `poke` when the set of tenures, or the room, has changed."""

    def __init__(
        self, journal: Journal, buffer: EventBuffer, pipeline: Pipeline, tenures: Callable[[], Iterable[Tenure]], clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._buffer = buffer
        self._pipeline = pipeline
        self._tenures = tenures
        self._clock = clock
        self._scope: anyio.CancelScope | None = None
        self._segment_bytes = float(FIRST_GUESS_BYTES)
        self._segment_deliveries = 1.0
        self._turn = 0
        self._poked = asyncio.Event()
        self.is_stopped = False
        """QUIESCE, alone: the journal is read no more."""
        self.turned_at_s = clock()
        """When the loop last turned: renewal asks for it."""
        self.events_read = 0
        self.after_away: Callable[[], Awaitable[None]] | None = None
        """Called once the store may be back: it may have lost what it had not written, and positions may be given out again."""
        self._was_away = False

    def poke(self) -> None:
        """Ends a blocked read, so that the next one sees the world as it is now."""
        self._poked.set()
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        while True:
            self.turned_at_s = self._clock()
            self._poked.clear()
            now_s = self._clock()
            readable = [t for t in self._tenures() if t.is_reading and t.may_write(now_s) and t.completion.gap < 2 * MAX_GAP]
            if self.is_stopped or not readable:
                await self._wait_for_poke(BLOCK_S)
            elif not self._has_room_for_a_segment():
                await self._pipeline.under_way.wait_for_one(FULL_LOOK_S)
            else:
                await self._read(readable)

    async def _read(self, readable: list[Tenure]) -> None:
        if self._was_away and self.after_away is not None:
            try:
                await self.after_away()
            except StoreUnavailable:
                await self._wait_for_poke(AWAY_PAUSE_S)
                return
            self._was_away = False
            return
        mine, max_segments = self._budget(readable)
        cursors = {t.shard: t.completion.cursor for t in mine}
        segments: list[Segment] = []
        try:
            with anyio.CancelScope() as self._scope:
                segments = await self._journal.read(cursors, max_segments=max_segments, block_s=BLOCK_S)
        except StoreUnavailable as exc:
            log.warning("journal_not_read", cause=str(exc), next_step="read again as soon as the store answers")
            self._was_away = True
            await self._wait_for_poke(AWAY_PAUSE_S)
        finally:
            self._scope = None
        by_shard = {t.shard: t for t in mine}
        for segment in segments:
            await self._take_in(by_shard[segment.shard], segment)

    def _has_room_for_a_segment(self) -> bool:
        """Whether the usual segment fits, or a quarter of the buffer is free: asking earlier would fetch much to keep little."""
        buffer, now_s = self._buffer, self._clock()
        fits_bytes = buffer.free_bytes >= min(self._segment_bytes, buffer.max_bytes / 4)
        return fits_bytes and buffer.room(now_s) >= min(self._segment_deliveries, buffer.target(now_s) / 4)

    def _budget(self, readable: list[Tenure]) -> tuple[list[Tenure], int]:
        """Which shards to ask, in turn, and for how many segments each, so that about what is free comes."""
        by_bytes = self._buffer.free_bytes / self._segment_bytes
        fitting = max(1, int(min(by_bytes, self._buffer.room(self._clock()) / self._segment_deliveries)))
        self._turn += 1
        start = self._turn % len(readable)
        mine = (readable[start:] + readable[:start])[:fitting]
        return mine, max(1, min(MAX_SEGMENTS, fitting // len(mine)))

    async def _take_in(self, tenure: Tenure, segment: Segment) -> None:
        held_before = self._buffer.held_ever
        for index, data in enumerate(segment.records):
            position = Position(segment.first + index)
            if position < tenure.completion.cursor:
                continue
            if not tenure.is_reading or not tenure.may_write(self._clock()):
                return
            self._pipeline.take_in(tenure, position, data)
            self.events_read += 1
            if self.events_read % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self._segment_bytes += (max(1, sum(map(len, segment.records))) - self._segment_bytes) / 8
        self._segment_deliveries += (max(1, self._buffer.held_ever - held_before) - self._segment_deliveries) / 8

    async def _wait_for_poke(self, within_s: float) -> None:
        with anyio.move_on_after(within_s):
            await self._poked.wait()

    def cursors(self) -> dict[Shard, Position]:
        return {t.shard: t.completion.cursor for t in self._tenures()}
