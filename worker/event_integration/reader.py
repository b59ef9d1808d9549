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
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import Position, Shard
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.careful import CarefulReading
from worker.event_integration.chat_order import ChatOrder
from worker.event_integration.pipeline import Pipeline
from worker.journal.care import Care
from worker.journal.port import Journal, Segment

log = structlog.get_logger()

BLOCK_S = 1.0
FULL_LOOK_S = 0.1
AWAY_PAUSE_S = 0.25
LARGEST_SEGMENT_BYTES = 1 << 20
LARGEST_SEGMENT_EVENTS = 256
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
        # Who knows nothing yet expects the largest: a backlog of full segments, guessed small, would come all at once.
        self._segment_bytes = float(LARGEST_SEGMENT_BYTES)
        self._segment_deliveries = float(LARGEST_SEGMENT_EVENTS)
        self._turn = 0
        self._dry = 0
        """Shards asked in a row that had nothing."""
        self._poked = asyncio.Event()
        self.is_stopped = False
        """QUIESCE, alone: the journal is read no more."""
        self.turned_at_s = clock()
        """When the loop last turned: renewal asks for it."""
        self.events_read = 0
        self.after_away: Callable[[], Awaitable[None]] | None = None
        """Called once the store may be back: it may have lost what it had not written, and positions may be given out again."""
        self.chats: ChatOrder | None = None
        """Where order is kept: which chats wait is known before a tenure's first event is."""
        self.careful: CarefulReading | None = None
        """Where earlier tenures ended over what they read."""
        self.on_stale: Callable[[Tenure], None] = lambda _tenure: None
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
        mine, max_segments, block_s = self._budget(readable)
        cursors = {t.shard: t.completion.cursor for t in mine}
        segments: list[Segment] = []
        try:
            with anyio.CancelScope() as self._scope:
                await self._know_chats(mine)
                segments = await self._journal.read(cursors, max_segments=max_segments, block_s=block_s)
        except StoreUnavailable as exc:
            log.warning("journal_not_read", cause=str(exc), next_step="read again as soon as the store answers")
            self._was_away = True
            await self._wait_for_poke(AWAY_PAUSE_S)
        finally:
            self._scope = None
        self._dry = 0 if segments else self._dry + len(mine)
        await self._take_in_all({t.shard: t for t in mine}, segments)

    async def _take_in_all(self, by_shard: dict[Shard, Tenure], segments: list[Segment]) -> None:
        for number, segment in enumerate(segments):
            if number and self._is_full():
                return  # more came than was expected; the cursors stand where they are, and the rest is read again
            tenure = by_shard.get(segment.shard)
            if tenure is None or self._must_learn_chats(tenure):
                continue
            if tenure.completion.care is None or self.careful is None:
                await self._take_in(tenure, segment)
            else:
                del by_shard[segment.shard]
                await self._take_in_carefully(self.careful, tenure, tenure.completion.care, segment)

    async def _know_chats(self, tenures: Iterable[Tenure]) -> None:
        if self.chats is not None:
            for tenure in tenures:
                if not self.chats.knows(tenure):
                    await self.chats.load(tenure)

    def _must_learn_chats(self, tenure: Tenure) -> bool:
        """A webhook has come to want order since they were loaded: what was read is read again after that."""
        return self.chats is not None and not self.chats.knows(tenure)

    def _is_full(self) -> bool:
        return self._buffer.free_bytes == 0 or self._buffer.room(self._clock()) == 0

    def _has_room_for_a_segment(self) -> bool:
        """Whether the usual segment fits, or a quarter of the buffer is free: asking earlier would fetch much to keep little."""
        buffer, now_s = self._buffer, self._clock()
        fits_bytes = buffer.free_bytes >= min(self._segment_bytes, buffer.max_bytes / 4)
        return fits_bytes and buffer.room(now_s) >= min(self._segment_deliveries, buffer.target(now_s) / 4)

    def _budget(self, readable: list[Tenure]) -> tuple[list[Tenure], int, float]:
        """Which shards to ask, in turn, for how many segments each, and how long to wait, so that about what is free comes.

        A call that asks only some of the shards must not wait, or the others would wait for it; once none had anything, one waits for all.
        """
        by_bytes = self._buffer.free_bytes / self._segment_bytes
        fitting = max(1, int(min(by_bytes, self._buffer.room(self._clock()) / self._segment_deliveries)))
        start = self._turn % len(readable)
        in_turn = readable[start:] + readable[:start]
        if fitting < len(readable) and self._dry < len(readable):
            self._turn += fitting
            return in_turn[:fitting], 1, 0.0
        self._turn += 1
        return in_turn, max(1, min(MAX_SEGMENTS, fitting // len(readable))), BLOCK_S

    async def _take_in(self, tenure: Tenure, segment: Segment) -> None:
        held_before = self._buffer.held_ever
        now_s = self._clock()
        for index, data in enumerate(segment.records):
            position = Position(segment.first + index)
            if position < tenure.completion.cursor:
                continue
            if not tenure.is_reading or not tenure.may_write(now_s):
                return
            self._pipeline.take_in(tenure, position, data, now_s)
            self.events_read += 1
            if self.events_read % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                now_s = self._clock()
                if self._must_learn_chats(tenure):
                    return
        self._segment_bytes = _expected(self._segment_bytes, sum(map(len, segment.records)))
        self._segment_deliveries = _expected(self._segment_deliveries, self._buffer.held_ever - held_before)

    async def _take_in_carefully(self, careful: CarefulReading, tenure: Tenure, care: Care, segment: Segment) -> None:
        """One segment of the shard at most, perhaps a part; what came behind it is read again, for the cursor must not pass a rest."""
        before = max(tenure.completion.cursor, segment.first)
        try:
            await careful.take_in(tenure, care, segment)
        except StaleToken:
            self.on_stale(tenure)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("event_not_marked", shard=tenure.shard, cause=str(exc), next_step="read again as soon as the store answers")
            self._was_away = True
            await self._wait_for_poke(AWAY_PAUSE_S)
        self.events_read += max(0, tenure.completion.cursor - before)

    async def _wait_for_poke(self, within_s: float) -> None:
        with anyio.move_on_after(within_s):
            await self._poked.wait()


def _expected(before: float, seen: int) -> float:
    """What the next segment may be like: rises at once, falls slowly, for too much costs more than too little."""
    return max(seen, before + (max(1, seen) - before) / 8)
