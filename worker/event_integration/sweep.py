"""The sweep: every 20 ms who has become suspect and who may start, every 200 ms who must spill, every second what is late.

One timer for all attempts instead of one each. Renewal of the leases asks whether it turns.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from worker.event_buffer.deliveries import Delivery
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.leaving import Leaving
from worker.event_integration.pipeline import Pipeline

log = structlog.get_logger()

EVERY_S = 0.02
IDLE_EVERY_S = 0.2
SPILL_EVERY = 10
TOO_LATE_S = 0.1
"""A worker that is itself late judges nobody: when it starves, every endpoint's pace drops with it."""
REPORT_EVERY = 50
SLOW_EVENT_S = 5.0


class Sweep:
    def __init__(self, pipeline: Pipeline, buffer: EventBuffer, leaving: Leaving, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._buffer = buffer
        self._leaving = leaving
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
                    self._leaving.spill()
                late_s = 0.0
            if turn % REPORT_EVERY == 0:
                self._report_slow()

    def _report_slow(self) -> None:
        """An event older than 5 s in the pipeline is logged once, with stage and webhook."""
        now_s = self._clock()
        for attempt in self._pipeline.under_way:
            _report_if_slow(attempt.delivery, "attempt", now_s)
        for lane in self._buffer.lanes():
            if lane.waiting:
                _report_if_slow(lane.waiting[0], "queue", now_s)


def _report_if_slow(delivery: Delivery, stage: str, now_s: float) -> None:
    age_s = now_s - delivery.event.read_at_s
    if age_s > SLOW_EVENT_S and not delivery.slow_reported:
        delivery.slow_reported = True
        log.warning(
            "event_is_slow", stage=stage, webhook=delivery.webhook_id, event_key=delivery.event.record.event_key, age_s=round(age_s, 1)
        )
