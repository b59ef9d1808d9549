"""Group commit: whatever waits at this moment goes out in one call. Owns the items until that call has answered.

One call is under way at a time. While it runs, others gather; when it is idle, an item goes out at once, together with
whatever else was submitted in the same turn of the loop. Nothing is delayed to make a batch larger, unless it was made to
linger (outcomes, for which nobody waits); nothing is retried: what the call raises is what every item of that batch gets.

Hot path: plain asyncio, one future and one deque entry per item (about 2 µs with its share of the batch). The task that
drives it is `run`, started in a task group by whoever builds it; rejected: a task per batch, which nobody would own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import anyio

from worker.domain.deadline import Deadline
from worker.domain.errors import WorkerError

T = TypeVar("T")
R = TypeVar("R")


class GroupCommitFull(WorkerError):
    """Raised when as much waits as may wait; the item was not taken. Try again later."""


class GroupCommitClosed(WorkerError):
    """Raised when nothing is taken any more, or when the driving task ended before the item's outcome was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`max_*`: of one call (a larger item goes alone). `capacity_*`: of all that waits or is under way."""

    max_items: int
    max_bytes: int
    capacity_items: int
    capacity_bytes: int


class _Entry(NamedTuple, Generic[T, R]):
    item: T
    size_bytes: int
    answer: asyncio.Future[R]


class GroupCommit(Generic[T, R]):
    """`flush` gets the items in the order of submission and answers one result for each, in that order."""

    __slots__ = (
        "_busy",
        "_closed",
        "_flush",
        "_held_bytes",
        "_hurried",
        "_idle",
        "_limits",
        "_linger_s",
        "_name",
        "_stats",
        "_waiting",
        "_wake",
    )

    def __init__(self, name: str, flush: Callable[[list[T]], Awaitable[Sequence[R]]], limits: Limits, *, linger_s: float = 0.0) -> None:
        """`linger_s`: for items nobody waits for, the longest they may wait for company (see `_until_beat`)."""
        self._name = name
        self._linger_s = linger_s
        self._hurried = asyncio.Event()
        self._flush = flush
        self._limits = limits
        self._waiting: deque[_Entry[T, R]] = deque()
        self._busy = 0
        self._held_bytes = 0
        self._closed = False
        self._wake: asyncio.Future[None] | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._stats = {"calls": 0, "items": 0, "failed": 0, "abandoned": 0, "refused": 0, "largest": 0}

    def __repr__(self) -> str:
        return f"<GroupCommit {self._name} waiting={len(self._waiting)} under_way={self._busy} held_bytes={self._held_bytes}>"

    @property
    def held_bytes(self) -> int:
        """Bytes of all that waits or is under way."""
        return self._held_bytes

    def has_room(self, items: int, size_bytes: int) -> bool:
        """Whether `items` of together `size_bytes` would be taken now. Anything is taken when nothing else is held."""
        held = len(self._waiting) + self._busy
        if held == 0:
            return items <= self._limits.capacity_items
        return held + items <= self._limits.capacity_items and self._held_bytes + size_bytes <= self._limits.capacity_bytes

    async def submit(self, item: T, size_bytes: int = 0) -> R:
        """The item's own result. Cancelling gives up the item only if it has not gone out yet, never its batch."""
        return await self.submit_nowait(item, size_bytes)

    def submit_nowait(self, item: T, size_bytes: int = 0) -> asyncio.Future[R]:
        """Takes the item or raises `GroupCommitFull`, `GroupCommitClosed`. A future cancelled before its item goes out takes it out."""
        if self._closed:
            raise GroupCommitClosed(f"{self._name}: closed; nothing is taken any more")
        if not self.has_room(1, size_bytes):
            self._stats["refused"] += 1
            raise GroupCommitFull(f"{self._name}: {len(self._waiting) + self._busy} items, {self._held_bytes} bytes wait; try again later")
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(item, size_bytes, answer))
        self._held_bytes += size_bytes
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)
        return answer

    async def run(self) -> None:
        """Drives the calls until `close`, or until cancelled: then whatever has no answer yet fails with `GroupCommitClosed`.

        Called once, in a task group.
        """
        try:
            while await self._something_waits():
                self._idle.clear()
                await self._until_beat()
                await self._send(self._take())
                if not self._waiting:
                    self._idle.set()
        finally:
            self._closed = True
            self._fail(self._waiting, GroupCommitClosed(f"{self._name}: stopped before the item went out"))
            self._waiting.clear()
            self._held_bytes = 0
            self._idle.set()

    async def close(self, deadline: Deadline) -> bool:
        """Takes nothing more and waits, at most until `deadline`, for what was taken. False: something is still under way."""
        self._closed = True
        self._hurried.set()
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)
        with anyio.move_on_after(deadline.left_s(anyio.current_time())):
            while self._waiting or self._busy:
                self._idle.clear()
                await self._idle.wait()
        return not self._waiting and not self._busy

    def statistics(self) -> dict[str, int]:
        """Counts since the start, and what is held now."""
        return {**self._stats, "waiting": len(self._waiting), "under_way": self._busy, "held_bytes": self._held_bytes}

    async def _something_waits(self) -> bool:
        while not self._waiting:
            if self._closed:
                return False
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return True

    async def _until_beat(self) -> None:
        """Lets others gather until the next beat, which all that linger as long have in common: the store syncs once for all of them."""
        if not self._linger_s or self._closed or len(self._waiting) >= self._limits.max_items:
            return
        beat_in_s = self._linger_s - asyncio.get_running_loop().time() % self._linger_s
        with anyio.move_on_after(beat_in_s):
            await self._hurried.wait()
        self._hurried.clear()

    def hurry(self) -> None:
        """What waits goes out now."""
        self._hurried.set()

    def _take(self) -> list[_Entry[T, R]]:
        """The next batch. Items whose submitter has gone are left out: nobody would hear their answer."""
        waiting, limits = self._waiting, self._limits
        batch: list[_Entry[T, R]] = []
        room = limits.max_bytes
        while waiting and len(batch) < limits.max_items:
            entry = waiting[0]
            if entry.answer.done():
                self._held_bytes -= entry.size_bytes
                self._stats["abandoned"] += 1
            elif entry.size_bytes > room and batch:
                break
            else:
                batch.append(entry)
                room -= entry.size_bytes
            waiting.popleft()
        return batch

    async def _send(self, batch: list[_Entry[T, R]]) -> None:
        if not batch:
            return
        self._busy = len(batch)
        stats = self._stats
        stats["calls"] += 1
        stats["items"] += len(batch)
        stats["largest"] = max(stats["largest"], len(batch))
        try:
            results = await self._flush([entry.item for entry in batch])
            for entry, result in zip(batch, results, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(result)
        except Exception as exc:  # noqa: BLE001 -- handed to every submitter of the batch, who decides
            stats["failed"] += len(batch)
            self._fail(batch, exc)
        except BaseException:
            self._fail(batch, GroupCommitClosed(f"{self._name}: stopped while the item was under way; its outcome is unknown"))
            raise
        finally:
            self._busy = 0
            self._held_bytes -= sum([entry.size_bytes for entry in batch])

    @staticmethod
    def _fail(entries: Sequence[_Entry[T, R]] | deque[_Entry[T, R]], exc: Exception) -> None:
        for entry in entries:
            if not entry.answer.done():
                entry.answer.set_exception(exc)
                # Counts as seen: a submitter that is cancelled in this very turn must not leave asyncio a complaint to log.
                entry.answer.exception()
