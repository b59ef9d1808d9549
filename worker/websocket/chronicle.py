"""What is told of sessions: log lines, counters, gaps. Decides nothing.

Sessions fail together, by the thousand, when their gateway or the journal goes. Of each kind of line a few are written, and then how many
more there were; a gap is told for each instance, because somebody has to look there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from worker.domain.catalog import Instance
from worker.domain.instants import later
from worker.metrics import Metrics
from worker.websocket.patience import NEEDS_OPERATOR
from worker.websocket.port import CloseReason, ConnectionClosed

LINES_AT_ONCE = 10
WINDOW_S = 10.0
WORST_GAPS = 20
_NEXT_STEPS = {
    CloseReason.UNAUTHORIZED: "correct the broker's api_key; it is tried again by itself",
    CloseReason.UNKNOWN_INSTANCE: "make gateway_instance at its gateway, or take the instance out here: from the file, or by DELETE",
}

log = structlog.get_logger("worker.websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`wall`: now as RFC 3339, for people."""

    monotonic_s: Callable[[], float]
    unit_random: Callable[[], float]
    wall: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody read the instance's stream in this window, and its gateway does not send again what it told meanwhile."""

    instance: Instance
    since_s: float
    until_s: float
    """Monotonic: from the last sign of life to the open stream."""
    reason: CloseReason


class Chronicle:
    """Called by sessions as things happen; `turn` now and then."""

    def __init__(self, clocks: Clocks, metrics: Metrics) -> None:
        self._clocks = clocks
        self._metrics = metrics
        self._lines: Counter[str] = Counter()
        """By kind: since the window began."""
        self._window_ends_s = 0.0
        self._event_at_s: dict[str, float] = {}
        self._reconnects: Counter[str] = Counter()
        self._gaps: list[Gap] = []
        self._gap_count = 0

    # -- told by sessions ------------------------------------------------------------------------------------------------

    def heard(self, instance: Instance) -> None:
        """A frame came."""
        self._event_at_s[instance.gateway] = self._clocks.monotonic_s()

    def lost(self, instance: Instance, loss: ConnectionClosed, failures: int, again_in_s: float, *, was_open: bool) -> bool:
        """There is no connection (any more), for the `failures`-th time in a row. Answers whether a line was written.

        Each time where somebody has to act, and where there was a connection; else ever more seldom.
        """
        self._reconnects[loss.reason.value] += 1
        self._metrics.websocket_reconnects.add(instance.gateway, loss.reason.value)
        told = {**_named(instance), "reason": loss.reason.value, "cause": str(loss), "again_in_s": round(again_in_s, 1)}
        if loss.reason in NEEDS_OPERATOR:
            if self._may_write("socket_refused"):
                log.error("socket_refused", **told, next_step=_NEXT_STEPS[loss.reason])
                return True
        elif (was_open or failures & (failures - 1) == 0) and self._may_write("socket_lost"):
            log.warning("socket_lost", **told, failures=failures, next_step="connected again by itself")
            return True
        return False

    def reads_again(self, instance: Instance, unread_s: float) -> None:
        """A stream of which it was told that it is not read."""
        if self._may_write("socket_reads_again"):
            next_step = "none; what its gateway kept has come or follows, what it forgot is told as stream_gap"
            log.info("socket_reads_again", **_named(instance), unread_s=round(unread_s, 1), next_step=next_step)

    def waits(self, instance: Instance, cause: str, patience_s: float) -> None:
        """What was read cannot be made durable now."""
        if self._may_write("frames_wait"):
            next_step = f"kept and tried again; after {patience_s:.0f} s the connection is closed without a receipt"
            log.warning("frames_wait", instance=instance.id, cause=cause, next_step=next_step)

    def unreceipted(self, instance: Instance, cause: str) -> None:
        """A receipt could not be sent."""
        if self._may_write("receipts_not_sent"):
            log.warning("receipts_not_sent", instance=instance.id, cause=cause, next_step="sent again soon, or by whoever reads next")

    def gap(self, gap: Gap) -> None:
        self._gap_count += 1
        self._gaps = sorted([*self._gaps, gap], key=lambda one: one.since_s - one.until_s)[:WORST_GAPS]
        next_step = "its gateway does not repeat what it told in this window: compare with its chat history"
        log.warning("stream_gap", **self._gap_row(gap), next_step=next_step)

    # -- asked -----------------------------------------------------------------------------------------------------------

    def last_event_age_s(self) -> dict[tuple[str, ...], float]:
        """Since any session of the gateway last brought an event."""
        now_s = self._clocks.monotonic_s()
        return {(gateway,): now_s - at_s for gateway, at_s in self._event_at_s.items()}

    def statistics(self) -> dict[str, object]:
        """Losses by reason; the worst gaps, longest first."""
        gaps = {"count": self._gap_count, "worst": [self._gap_row(gap) for gap in self._gaps]}
        return {"reconnects": dict(self._reconnects), "gaps": gaps}

    def turn(self, now_s: float) -> None:
        """Says how many lines were left out, once their window is over."""
        if now_s < self._window_ends_s or not self._lines:
            return
        for event, count in self._lines.items():
            if count > LINES_AT_ONCE:
                log.warning(
                    "lines_left_out", of=event, count=count - LINES_AT_ONCE, window_s=WINDOW_S, next_step="look at /status, sockets"
                )
        self._lines.clear()

    def _may_write(self, event: str) -> bool:
        if not self._lines:
            self._window_ends_s = self._clocks.monotonic_s() + WINDOW_S
        self._lines[event] += 1
        return self._lines[event] <= LINES_AT_ONCE

    def _gap_row(self, gap: Gap) -> dict[str, object]:
        now_s, wall = self._clocks.monotonic_s(), self._clocks.wall()
        return {
            "instance": gap.instance.id,
            "gateway": gap.instance.gateway,
            "since": later(wall, gap.since_s - now_s),
            "until": later(wall, gap.until_s - now_s),
            "seconds": round(gap.until_s - gap.since_s, 3),
            "reason": gap.reason.value,
        }


def _named(instance: Instance) -> dict[str, str]:
    return {"instance": instance.id, "gateway": instance.gateway, "gateway_instance": instance.gateway_instance}
