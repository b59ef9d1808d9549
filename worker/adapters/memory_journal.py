"""The twin of the journal and its checkpoints: same contract suite as `redis_journal`, nothing durable beyond the process."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import anyio

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_shard import Mark, MemoryShard, StoredSegment, facts_behind
from worker.domain.ids import EventKey, Position, Shard, Token
from worker.journal.port import Appended, Checkpoint, Done, NewEvent, Progress, Segment

MARK_EVERY_S = 10.0


class MemoryJournal:
    """`Journal` over the shards of one `MemoryStore`; readers are woken by appends of the same store."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock
        self._grown = anyio.Event()

    async def append(self, shard: Shard, events: Sequence[NewEvent]) -> list[Appended]:
        await self._faults.reach("append")
        answers = self._append(self._shards[shard], events)
        await self._faults.answered("append")
        return answers

    def _append(self, state: MemoryShard, events: Sequence[NewEvent]) -> list[Appended]:
        state.seen.turn(self._clock())
        answers: list[Appended] = []
        fresh: list[NewEvent] = []
        in_this_call: dict[EventKey, Position] = {}
        for event in events:
            known = (state.seen.position_of(event.event_key) or in_this_call.get(event.event_key)) if event.remembered else None
            position = known or Position(state.next_position + len(fresh))
            answers.append(Appended(position=position, duplicate=known is not None))
            if known is None:
                fresh.append(event)
                if event.remembered:
                    in_this_call[event.event_key] = position
        if fresh:
            state.room.check("append")
            self._write(state, fresh)
        for key, position in in_this_call.items():
            state.seen.remember(key, position)
        return answers

    def _write(self, state: MemoryShard, fresh: list[NewEvent]) -> None:
        state.segments.append(StoredSegment(state.next_position, tuple(fresh)))
        state.next_position = Position(state.next_position + len(fresh))
        for event in fresh:
            state.bytes_appended += len(event.record)
            state.room.used_bytes += len(event.record)
            state.count_waiting(event.tenant_id, 1, len(event.record))
        self._grown.set()
        self._grown = anyio.Event()

    async def read(self, cursors: Mapping[Shard, Position], *, max_segments: int, block_s: float) -> list[Segment]:
        ends_at_s = self._clock() + block_s
        while True:
            await self._faults.reach("read")
            found = [segment for shard, cursor in cursors.items() for segment in self._from(shard, cursor, max_segments)]
            if found or not await self._grows_before(ends_at_s):
                await self._faults.answered("read")
                return found

    def _from(self, shard: Shard, cursor: Position, max_segments: int) -> list[Segment]:
        segments = self._shards[shard].segments
        start = bisect_right(segments, cursor, key=lambda segment: segment.end)
        return [
            Segment(shard, s.first, tuple(e.record for e in s.events), tuple(e.tenant_id.encode() for e in s.events))
            for s in segments[start : start + max_segments]
        ]

    async def _grows_before(self, ends_at_s: float) -> bool:
        grown, left_s = self._grown, ends_at_s - self._clock()
        if left_s <= 0:
            return False
        with anyio.move_on_after(left_s):
            await grown.wait()
        return grown.is_set()

    async def close(self) -> None:
        """Nothing to give back."""


class MemoryCheckpoints:
    """`Checkpoints` over the shards of one `MemoryStore`."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock

    async def load(self, shard: Shard, token: Token) -> Progress:
        await self._faults.reach("load")
        state = self._shards[shard]
        state.guard(token)
        _note_start(state, token)
        done = frozenset(fact for fact in state.done if fact.position >= state.prefix)
        is_behind = state.doubt.suspect is not None and state.doubt.suspect < state.prefix
        doubt = replace(state.doubt, suspect=None, strikes=0) if is_behind else state.doubt
        progress = Progress(prefix=state.prefix, done=done, tail=state.next_position, doubt=doubt)
        await self._faults.answered("load")
        return progress

    async def mark_reading(self, shard: Shard, token: Token, position: Position | None) -> None:
        await self._faults.reach("mark_reading")
        state = self._shards[shard]
        state.guard(token)
        if position is None and state.reading == state.doubt.suspect:
            state.doubt = replace(state.doubt, suspect=None, strikes=0)
        state.reading = position
        await self._faults.answered("mark_reading")

    async def recount(self, shard: Shard, token: Token) -> None:
        await self._faults.reach("recount")
        state = self._shards[shard]
        state.guard(token)
        _note_start(state, token)
        state.recount_waiting()
        await self._faults.answered("recount")

    async def save(self, checkpoint: Checkpoint) -> Position:
        await self._faults.reach("checkpoint")
        state = self._shards[checkpoint.shard]
        self._save(state, checkpoint)
        tail = state.next_position
        await self._faults.answered("checkpoint")
        return tail

    def _save(self, state: MemoryShard, checkpoint: Checkpoint) -> None:
        state.guard(checkpoint.token)
        if checkpoint.speaks_beyond(state.next_position):
            return
        state.prefix = max(state.prefix, checkpoint.prefix)
        state.doubt = replace(state.doubt, starts=0)
        state.done |= {Done(*fact) for fact in checkpoint.done if fact.position >= state.prefix}
        state.done -= facts_behind(state.prefix, checkpoint.behind)
        this_save = (checkpoint.token, checkpoint.number)
        if state.last_save is None or this_save > state.last_save:
            state.last_save = this_save
            for tenant_id, freed in checkpoint.freed.items():
                state.count_waiting(tenant_id, -freed.events, -freed.bytes)
        now_s = self._clock()
        if not state.marks or now_s - state.marks[-1].at_s >= MARK_EVERY_S:
            state.marks.append(Mark(now_s, state.next_position, state.bytes_appended))

    async def trim(self, shard: Shard, token: Token, *, keep_s: float, keep_bytes: int) -> int:
        await self._faults.reach("trim")
        state = self._shards[shard]
        state.guard(token)
        trimmed = _trim(state, older_than_s=self._clock() - keep_s, keep_bytes=keep_bytes)
        await self._faults.answered("trim")
        return trimmed


def _note_start(state: MemoryShard, token: Token) -> None:
    """Once per token, where something waits: a tenure starts; the mark it finds is a strike against that event."""
    has_waiting, doubt = state.prefix < state.next_position, state.doubt
    if token <= state.began or not (has_waiting or doubt.starts or state.reading is not None):
        return
    state.began = token
    state.doubt = replace(doubt, starts=doubt.starts + 1 if has_waiting else 0)
    if state.reading is not None:
        strikes = doubt.strikes + 1 if state.reading == doubt.suspect else 1
        state.doubt = replace(state.doubt, suspect=state.reading, strikes=strikes)
        state.reading = None


def _trim(state: MemoryShard, *, older_than_s: float, keep_bytes: int) -> int:
    """Marks answer which positions are old enough or too many; whole segments behind both that and the prefix go."""
    passed = [m for m in state.marks if m.at_s <= older_than_s or state.bytes_appended - m.bytes_appended >= keep_bytes]
    if keep_bytes and not passed:
        return 0
    limit = min(passed[-1].tail, state.prefix) if keep_bytes else state.prefix
    state.marks = state.marks[max(0, len(passed) - 1) :]
    trimmed = bisect_right(state.segments, limit, key=lambda segment: segment.end)
    state.room.used_bytes -= sum(len(event.record) for segment in state.segments[:trimmed] for event in segment.events)
    del state.segments[:trimmed]
    return trimmed
