"""How late the event loop runs. One coroutine, one number; decides nothing."""

from __future__ import annotations

import anyio

LOOK_EVERY_S = 0.1
WINDOW_S = 15.0


class LoopLag:
    """The worst delay of a due timer, in seconds: since the start, and lately."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._window_s = 0.0
        self._window_before_s = 0.0

    async def measure(self) -> None:
        """Until cancelled."""
        window_ends_s = anyio.current_time() + WINDOW_S
        while True:
            due_s = anyio.current_time() + LOOK_EVERY_S
            await anyio.sleep(LOOK_EVERY_S)  # noqa: TID251 - time is what this measures
            late_s = max(0.0, anyio.current_time() - due_s)
            self.worst_s = max(self.worst_s, late_s)
            self._window_s = max(self._window_s, late_s)
            if anyio.current_time() >= window_ends_s:
                window_ends_s = anyio.current_time() + WINDOW_S
                self._window_before_s, self._window_s = self._window_s, 0.0

    def recent_s(self) -> float:
        """The worst of the window under way and the one before. Looking changes nothing, however many look."""
        return max(self._window_s, self._window_before_s)
