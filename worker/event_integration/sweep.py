"""The sweep: every 20 ms, who has become suspect and who may start now; every second, what has been here too long.

One timer for all attempts instead of one each. Renewal of the leases asks whether it turns.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from worker.event_integration.pipeline import Pipeline

EVERY_S = 0.02
REPORT_EVERY = 50


class Sweep:
    def __init__(self, pipeline: Pipeline, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self.turned_at_s = clock()

    async def run(self) -> None:
        turn = 0
        while True:
            await anyio.sleep(EVERY_S)
            self.turned_at_s = self._clock()
            self._pipeline.sweep()
            turn += 1
            if turn % REPORT_EVERY == 0:
                self._pipeline.report_slow()
