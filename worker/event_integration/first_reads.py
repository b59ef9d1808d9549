"""How long a shard waits between its grant and our first read of its journal. A journal around a journal; changes nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from worker.domain.ids import Position, Shard
from worker.journal.port import Appended, Journal, NewEvent, Segment


class FirstReads:
    """`Journal`, seen by the reader. A shard whose first read brings nothing was served from when it was asked."""

    def __init__(self, journal: Journal, clock: Callable[[], float], observe_s: Callable[[float], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._observe_s = observe_s
        self._granted_at_s: dict[Shard, float] = {}

    def expect(self, shard: Shard) -> None:
        """The shard was granted now; of one that is lost before it was read nothing is told."""
        self._granted_at_s[shard] = self._clock()

    async def append(self, shard: Shard, events: Sequence[NewEvent]) -> list[Appended]:
        return await self._journal.append(shard, events)

    async def read(self, cursors: Mapping[Shard, Position], *, max_segments: int, block_s: float) -> list[Segment]:
        asked_at_s = self._clock()
        segments = await self._journal.read(cursors, max_segments=max_segments, block_s=block_s)
        if self._granted_at_s:
            brought = {segment.shard for segment in segments}
            for shard in self._granted_at_s.keys() & cursors.keys():
                served_at_s = self._clock() if shard in brought else asked_at_s
                self._observe_s(max(0.0, served_at_s - self._granted_at_s.pop(shard)))
        return segments

    async def close(self) -> None:
        await self._journal.close()
