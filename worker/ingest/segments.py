"""The segment writer: what waits for a shard at this moment becomes one segment of its journal.

Owns the appends of all shards and bounds the memory of what waits for them. Needs no lease: every worker serves ingest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap

import anyio

from worker.domain.deadline import Deadline
from worker.domain.errors import WorkerError
from worker.domain.ids import Shard
from worker.journal.group_commit import GroupCommit, GroupCommitFull, Limits
from worker.journal.port import Appended, Journal, NewEvent

SEGMENT_EVENTS = 256
SEGMENT_BYTES = 1 << 20
EVENT_OVERHEAD_BYTES = 512
"""What an event that waits costs beside its record: key, future, entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterLimits:
    """Of what waits or is under way: in one shard, and in all of them together."""

    shard_events: int = 8_192
    shard_bytes: int = 16 << 20
    total_bytes: int = 64 << 20


class TooMuchAtOnce(WorkerError):
    """Raised when so much could never wait at once, however empty the writer; smaller portions can."""


class SegmentWriter:
    """`run` in the app's task group drives it; `append` resolves when durable."""

    def __init__(
        self,
        journal: Journal,
        shards: int,
        clock: Callable[[], float],
        *,
        observe_append_s: Callable[[float], None] = lambda _s: None,
        limits: WriterLimits = WriterLimits(),
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._observe_append_s = observe_append_s
        self._limits = limits
        of_shard = Limits(
            max_items=SEGMENT_EVENTS,
            max_bytes=SEGMENT_BYTES,
            capacity_items=limits.shard_events,
            capacity_bytes=limits.shard_bytes,
        )
        self._commits = [
            GroupCommit[NewEvent, Appended](f"append to shard {shard}", partial(self._flush, Shard(shard)), of_shard)
            for shard in range(shards)
        ]

    async def run(self) -> None:
        """One appender per shard, until `close` or until cancelled. Called once."""
        async with anyio.create_task_group() as appenders:
            for commit in self._commits:
                appenders.start_soon(commit.run)

    async def append(self, shard: Shard, events: Sequence[NewEvent]) -> list[Appended]:
        """As `append_each`, all to one shard."""
        return await self.append_each([(shard, event) for event in events])

    async def append_each(self, items: Sequence[tuple[Shard, NewEvent]]) -> list[Appended]:
        """Where each stands, in the order given, once *all* are durable.

        Raises `TooMuchAtOnce` or `GroupCommitFull` with nothing taken, `GroupCommitClosed`, else what the journal raises; then some
        may have been appended, which a repeat finds as duplicates. Cancelling gives up what has not gone out yet.
        """
        self._want_room(items)
        answers: list[asyncio.Future[Appended]] = []
        try:
            answers.extend(starmap(self._submit, items))
            return [await answer for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()

    async def close(self, deadline: Deadline) -> bool:
        """Takes nothing more; True when everything taken has its answer by `deadline`. `run` ends by itself."""
        async with anyio.create_task_group() as closers:
            for commit in self._commits:
                closers.start_soon(commit.close, deadline)
        return self.held_bytes == 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all events that wait for their append or are under way, over all shards."""
        return sum([commit.held_bytes for commit in self._commits])

    def statistics(self) -> dict[str, int]:
        """Sums over the shards since the start; `largest` is the largest segment in events."""
        each = [commit.statistics() for commit in self._commits]
        sums = {key: sum(one[key] for one in each) for key in each[0]}
        return {**sums, "largest": max(one["largest"] for one in each)}

    def _want_room(self, items: Sequence[tuple[Shard, NewEvent]]) -> None:
        wanted: dict[Shard, tuple[int, int]] = {}
        for shard, event in items:
            events, size_bytes = wanted.get(shard, (0, 0))
            wanted[shard] = (events + 1, size_bytes + _size_bytes(event))
        sum_bytes = sum([size_bytes for _, size_bytes in wanted.values()])
        limits = self._limits
        if sum_bytes > limits.total_bytes or any(n > limits.shard_events or b > limits.shard_bytes for n, b in wanted.values()):
            raise TooMuchAtOnce(f"{len(items)} events of {sum_bytes} bytes in one body; send them in smaller bodies")
        held_bytes = self.held_bytes
        if held_bytes + sum_bytes > limits.total_bytes or not all(self._commits[shard].has_room(*want) for shard, want in wanted.items()):
            raise GroupCommitFull(f"{held_bytes} bytes of events wait for the journal; send again later")

    def _submit(self, shard: Shard, event: NewEvent) -> asyncio.Future[Appended]:
        return self._commits[shard].submit_nowait(event, _size_bytes(event))

    async def _flush(self, shard: Shard, events: list[NewEvent]) -> list[Appended]:
        started_s = self._clock()
        appended = await self._journal.append(shard, events)
        self._observe_append_s(self._clock() - started_s)
        return appended


def _size_bytes(event: NewEvent) -> int:
    return len(event.record) + EVENT_OVERHEAD_BYTES
