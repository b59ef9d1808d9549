"""What can go wrong between a caller and the twin of the store: the only place where a test breaks it.

Every script of the twin passes `reach` once before it runs and once after, as a call to Redis goes out and its answer comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from worker.domain.errors import StoreUnavailable

Hook = Callable[[str], Awaitable[None]]


class StoreFaults:
    """Switches a test may turn at any moment; all off at the start.

    `before` and `after` are awaited with the name of each script (`append`, `park`, …): the door through which a test stops an owner
    at every step, or ends its lease exactly there. Whatever they raise goes to the caller of the port.
    """

    def __init__(self) -> None:
        self.away = False
        """Every call raises `StoreUnavailable`; nothing is written."""
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.calls: list[str] = []
        """Names of the scripts reached since the test last cleared it, at most `REMEMBERED_CALLS`."""
        self._failing = 0
        self._losing = 0
        self._stalled: anyio.Event | None = None

    def fail_next(self, calls: int) -> None:
        """The next calls raise `StoreUnavailable` and write nothing."""
        self._failing = calls

    def lose_next_answers(self, calls: int) -> None:
        """The next calls write, and then raise `StoreUnavailable`: the outcome that a caller cannot know."""
        self._losing = calls

    def stall(self) -> None:
        """Calls wait, before they write, until `resume`; cancelling one means that it never happened."""
        self._stalled = self._stalled or anyio.Event()

    def resume(self) -> None:
        stalled, self._stalled = self._stalled, None
        if stalled is not None:
            stalled.set()

    async def reach(self, script: str) -> None:
        """On the way to the store."""
        if len(self.calls) < REMEMBERED_CALLS:
            self.calls.append(script)
        if self._stalled is not None:
            await self._stalled.wait()
        if self.before is not None:
            await self.before(script)
        if self.away:
            raise StoreUnavailable(f"{script}: the store is away; nothing was written, call again")
        if self._failing:
            self._failing -= 1
            raise StoreUnavailable(f"{script}: the store failed; nothing was written, call again")

    async def answered(self, script: str) -> None:
        """On the way back: the script has run."""
        if self.after is not None:
            await self.after(script)
        if self._losing:
            self._losing -= 1
            raise StoreUnavailable(f"{script}: the answer was lost; call again, the script is repeatable")


REMEMBERED_CALLS = 10_000
