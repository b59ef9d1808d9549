"""Something happens at a worker's k-th call to the store: it stops there for ever, or the test does something and the call goes on."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tests.component.rig import Worker


class StopAt:
    """Stops a worker at its k-th call to the store, before or after the script has run; `reached` tells. Background calls don't count."""

    IDLE = frozenset(
        {
            *("waiting", "memory_fill", "live", "announce", "wait_wake", "holders", "offers", "renew", "due", "read", "trim"),
            *("expire_dead_letters", "all_states"),
        }
    )

    def __init__(self, worker: Worker, k: int, *, after: bool = False) -> None:
        self.reached = anyio.Event()
        self._left = k
        if after:
            worker.faults.after = self._hook
        else:
            worker.faults.before = self._hook

    async def _hook(self, script: str) -> None:
        if script in self.IDLE:
            return
        self._left -= 1
        if self._left == 0:
            self.reached.set()
        if self._left <= 0:
            await anyio.sleep_forever()


class At:
    """Does something at a worker's k-th call to the store, just before the script runs, and lets the call go on."""

    def __init__(self, worker: Worker, k: int, act: Callable[[], None]) -> None:
        self.has_acted = False
        self._left = k
        self._act = act
        worker.faults.before = self._hook

    async def _hook(self, script: str) -> None:
        if script in StopAt.IDLE or self.has_acted:
            return
        self._left -= 1
        if self._left <= 0:
            self.has_acted = True
            self._act()
