"""The clocks. Owns where time comes from; decides nothing.

Ages, validity and deadlines run on `monotonic_s`; the wall clock is for people: `received_at` and `webhook-timestamp`.
(`monotonic_s` itself lives in `worker.lifecycle`, which is needed before anything else is loaded.)
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from worker.domain.instants import rfc3339
from worker.lifecycle import monotonic_s

__all__ = ["monotonic_s", "rfc3339", "utc_now"]


def utc_now() -> datetime:
    """The wall clock. It may jump; it decides nothing."""
    return datetime.now(UTC)


def wall_s() -> float:
    """Seconds since the epoch, as stamped on requests. It may jump; it decides nothing."""
    return time.time()
