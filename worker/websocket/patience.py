"""How long a session waits, for what. Pure."""

from __future__ import annotations

from worker.domain.backoff import doubled_s
from worker.websocket.port import CloseReason

CONNECT_S = 10.0
"""`connect`: from the turn to connect to the open stream."""
RECEIPT_S = 2.0
"""`receipt`: one call; well below `STALL_S`, because what is read next waits behind it."""
RECEIPT_PAUSE_S = 5.0
"""After a receipt that failed."""
STALL_S = 5.0
"""`stall`: what was read is not durable by then, so no more is read."""
PING_AFTER_S = 30.0
SILENT_AFTER_S = 45.0
CLOSE_AFTER_S = 60.0
"""Of hearing nothing at all: asked, shown, given up."""
SETTLED_AFTER_S = 10.0
"""A connection that held for so long was a good one: the next loss begins with short waits again."""

FIRST_S = 1.0
CAP_S = 60.0
SLOW_FIRST_S = 60.0
SLOW_CAP_S = 900.0
ASKED_CAP_S = 300.0
"""At most so much of what a gateway asks for by `Retry-After`."""
NEEDS_OPERATOR = frozenset({CloseReason.UNAUTHORIZED, CloseReason.UNKNOWN_INSTANCE})
"""Trying again changes nothing until somebody has acted."""


def wait_s(reason: CloseReason, failures: int, retry_after_s: float | None, unit_random: float) -> float:
    """Before the next try, after `failures` in a row (at least one). Full jitter: many that were lost together do not come together.

    Where an operator has to act the wait is long from the start, and only its upper half is jittered.
    """
    step = max(0, failures - 1)
    if reason in NEEDS_OPERATOR:
        wait = doubled_s(SLOW_FIRST_S, step, SLOW_CAP_S) * (1 + unit_random) / 2
    else:
        wait = doubled_s(FIRST_S, step, CAP_S) * unit_random
    if retry_after_s is None:
        return wait
    return min(max(0.0, retry_after_s), ASKED_CAP_S) + wait
