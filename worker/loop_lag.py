"""How late the event loop runs. One coroutine, one number; decides nothing."""

from __future__ import annotations

import anyio

LOOK_EVERY_S = 0.1


class LoopLag:
    """The worst delay of a due timer, in seconds, since the start and since the last look."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._recent_s = 0.0

    async def measure(self) -> None:
        """Until cancelled."""
        while True:
            due_s = anyio.current_time() + LOOK_EVERY_S
            await anyio.sleep(LOOK_EVERY_S)  # noqa: TID251 - time is what this measures
            late_s = max(0.0, anyio.current_time() - due_s)
            self.worst_s = max(self.worst_s, late_s)
            self._recent_s = max(self._recent_s, late_s)

    def take_recent_s(self) -> float:
        """The worst since the last call."""
        recent_s, self._recent_s = self._recent_s, 0.0
        return recent_s
