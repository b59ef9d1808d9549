"""The sweep: every 20 ms who has become suspect and who may start, every 200 ms who must spill, every second what is late.

One timer for all attempts instead of one each. Renewal of the leases asks whether it turns.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from worker.event_integration.pipeline import Pipeline

EVERY_S = 0.02
IDLE_EVERY_S = 0.2
SPILL_EVERY = 10
TOO_LATE_S = 0.1
"""A worker that is itself late judges nobody: when it starves, every endpoint's pace drops with it."""
REPORT_EVERY = 50


class Sweep:
    def __init__(self, pipeline: Pipeline, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self.turned_at_s = clock()

    async def run(self) -> None:
        turn, late_s = 0, 0.0
        while True:
            pause_s = EVERY_S if self._pipeline.in_flight else IDLE_EVERY_S
            due_s = self._clock() + pause_s
            await anyio.sleep(pause_s)
            self.turned_at_s = self._clock()
            late_s = max(late_s, self.turned_at_s - due_s)
            self._pipeline.sweep()
            turn += 1
            if turn % SPILL_EVERY == 0:
                if late_s < TOO_LATE_S:
                    self._pipeline.spill()
                late_s = 0.0
            if turn % REPORT_EVERY == 0:
                self._pipeline.report_slow()
