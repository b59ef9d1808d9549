"""What a child tells its parent and hears from it, over the pipes that are its stdout and stdin. Lines, both ways.

The child says JSON objects with one key each:

| key | value | when |
|---|---|---|
| `owner` | its name in the lease table | before it opens the store |
| `refused` | `{lines, code}` | instead of a start: what the operator can mend |
| `ready` | true | it may own shards |
| `leaving` | true | all leave, and it has announced that it drains |
| `alive` | true | every five seconds: its loop turns |
| `facts` | the figures of the live line | twice a second, where the parent has a terminal |
| `report` | the drain report | at its end |

and hears two words: `all` (before the signal that ends all of them) and `go` (everybody has announced that it leaves).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping

import anyio
import orjson

from worker.domain.errors import StoreFull, StoreUnavailable
from worker.lifecycle import ExitCode
from worker.logs import Lines
from worker.processes.seat import ALIVE_EVERY_S, Seat

FACTS_EVERY_S = 0.5
ALL_WITHIN_S = 0.3
"""`leave_together`: for the parent's word."""
TOGETHER_S = 2.0
"""`leave_together`: what siblings get to announce that they leave, at most a fifth of the budget. Events go on meanwhile."""


class ToParent:
    """The child's side of the two pipes; without a parent every call does nothing. `hear` must run in a task group."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._said: Lines | None = None
        self._heard = b""
        self._all, self._go = anyio.Event(), anyio.Event()
        if seat.has_parent:
            said = os.dup(1)
            os.dup2(2, 1)  # whatever prints from here on is a line of the log
            self._said = Lines(said)
            self._said.start()
            os.set_blocking(0, False)

    def tell(self, **what: object) -> None:
        """From any thread; waits for nobody."""
        if self._said is not None:
            self._said.put(
                orjson.dumps(what, default=str, option=orjson.OPT_NON_STR_KEYS).decode(), must=not what.keys() & {"facts", "alive"}
            )

    def refuse(self, lines: list[str], code: ExitCode) -> None:
        """Instead of a start; the parent says it once for all."""
        self.tell(refused={"lines": lines, "code": int(code)})
        self.close()

    def close(self) -> None:
        """Once what was told has been taken, or after two seconds. Idempotent."""
        if self._said is not None:
            self._said.close()

    async def hear(self) -> None:
        """Until cancelled; tells meanwhile that the loop turns. A parent that is gone takes us with it, where the kernel has not yet."""
        if self._said is None:
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(0, self._take)
        try:
            while True:
                self.tell(alive=True)
                await anyio.sleep(ALIVE_EVERY_S)
        finally:
            loop.remove_reader(0)

    def _take(self) -> None:
        try:
            piece = os.read(0, 256)
        except BlockingIOError:
            return
        if not piece:
            os.kill(os.getpid(), signal.SIGKILL)
        self._heard += piece
        for word, event in ((b"all\n", self._all), (b"go\n", self._go)):
            if word in self._heard:
                event.set()

    async def leave_together(self, announce: Callable[[], Awaitable[None]], budget_s: float) -> bool:
        """Where all leave at once: until each of us has announced that, so that nobody takes another for its successor.

        False where it is only us who leaves: whoever signals all of us by himself, as systemd does, may be faster than our parent, so its
        word is waited for. At most `ALL_WITHIN_S` and `TOGETHER_S`; cancel-safe.
        """
        if self._said is None:
            return False
        with anyio.move_on_after(ALL_WITHIN_S):
            await self._all.wait()
        if not self._all.is_set():
            return False
        with anyio.move_on_after(min(TOGETHER_S, budget_s / 5)):
            try:
                await announce()
            except (StoreUnavailable, StoreFull):
                return True  # nobody is handed anything through a store that is away
            self.tell(leaving=True)
            await self._go.wait()
        return True

    async def show(self, facts: Callable[[], Mapping[str, object]]) -> None:
        """Tells the live line's figures until cancelled; returns at once where nobody looks."""
        while self.seat.console:
            self.tell(facts=facts())
            await anyio.sleep(FACTS_EVERY_S)
