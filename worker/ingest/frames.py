"""From a socket's frame to the journal: prepared as a push of the same gateway is, then appended.

Nobody can be told to send a frame again, so nothing is refused here: what cannot be made durable now stays with the caller, who brings it
again. Not even a drain closes this way; what was read before the sockets closed is appended until the process ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import anyio.to_thread

from worker.domain.catalog import Instance
from worker.domain.errors import StoreFull, StoreUnavailable, WorkerError
from worker.domain.ids import Shard
from worker.gateways.port import Gateway
from worker.ingest.door import Door, Refusal
from worker.ingest.intake import Intake
from worker.ingest.preparation import Preparation, Prepared
from worker.ingest.segments import SegmentWriter, TooMuchAtOnce
from worker.journal.group_commit import GroupCommitClosed, GroupCommitFull
from worker.journal.port import Appended, NewEvent

FRAMES_DURABLE_S = 4.0
"""`frames_durable`: how long one try may take, as for a push."""
OFF_LOOP_BYTES = 64 << 10
OFF_LOOP_THREADS = 2
_NO_ROOM = frozenset({Refusal.JOURNAL_FULL, Refusal.TENANT_BACKLOG_FULL})


class NotDurable(WorkerError):
    """Raised when frames could not be made durable now, or nobody knows whether they were: bring them again, a repeat is a duplicate."""


class NoRoom(NotDurable):
    """Raised when nothing was tried: there is no room for this tenant's events."""


class Frames:
    """`prepare` each frame once, `append` until it answers; from any task."""

    def __init__(
        self, preparation: Preparation, gateways: Mapping[str, Gateway], writer: SegmentWriter, door: Door, intake: Intake
    ) -> None:
        self._preparation = preparation
        self._gateways = gateways
        self._writer = writer
        self._door = door
        self._intake = intake
        self._off_loop = anyio.CapacityLimiter(OFF_LOOP_THREADS)

    async def prepare(self, instance: Instance, body: bytes, transport: str) -> Prepared:
        """Its events; a body over 64 KiB is read off the loop. Raises nothing: what cannot be read is kept whole."""
        if len(body) <= OFF_LOOP_BYTES:
            return self.prepare_now(instance, body, transport)
        return await anyio.to_thread.run_sync(self.prepare_now, instance, body, transport, limiter=self._off_loop)

    def prepare_now(self, instance: Instance, body: bytes, transport: str) -> Prepared:
        """As `prepare`, here and now."""
        return self._preparation.prepare_frame(self._gateways[instance.gateway], instance, body, transport)

    async def append(self, instance: Instance, frames: Sequence[Prepared], *, again: int = 0) -> None:
        """Returns once every event of all `frames` is durable. Raises `NotDurable`. Cancelling gives up what has not gone out yet.

        `again`: how many of them, the first, an append that raised has counted at the door already; `NoRoom` counts none.
        """
        if (why := self._door.refused(instance.tenant_id)) in _NO_ROOM:
            raise NoRoom(f"{why.value}: too much waits for delivery; look at /status for webhooks that do not answer")
        items = [item for frame in frames for item in frame.items]
        fresh = [len(event.record) for frame in frames[again:] for _, event in frame.items]
        self._door.count(instance.tenant_id, len(fresh), sum(fresh))
        try:
            with anyio.fail_after(FRAMES_DURABLE_S):
                appended = await self._append(items)
        except TimeoutError as exc:
            raise NotDurable(f"the journal did not answer within {FRAMES_DURABLE_S:.0f} s") from exc
        except (StoreFull, StoreUnavailable, GroupCommitFull, GroupCommitClosed) as exc:
            raise NotDurable(str(exc)) from exc
        answers = iter(appended)
        for frame in frames:
            self._intake.count(instance, frame, [next(answers).duplicate for _ in frame.items])

    async def _append(self, items: Sequence[tuple[Shard, NewEvent]]) -> list[Appended]:
        """In portions, where one frame holds more than the writer takes at once."""
        try:
            return await self._writer.append_each(items)
        except TooMuchAtOnce:
            if len(items) == 1:  # more than four times the largest frame
                raise
            half = len(items) // 2
            return [*await self._append(items[:half]), *await self._append(items[half:])]
