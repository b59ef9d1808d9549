"""What this process knows of itself without asking anybody: which it is, since when, what it has taken of the machine. For people."""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import version

from worker.adapters.clock import rfc3339, utc_now
from worker.lifecycle import monotonic_s

KIB = 1024
VERSION = version("whatsapp-event-worker")
"""Looked for among the installed files while modules are loaded: later it would hold the loop."""


class OwnProcess:
    """Made when the process begins to work. `index` of `of`: which child of a parent it is."""

    def __init__(self, *, index: int, of: int) -> None:
        self._index = index
        self._of = of
        self._started_at = rfc3339(utc_now())
        self._started_s = monotonic_s()

    def statistics(self) -> dict[str, object]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "index": self._index,
            "of": self._of,
            "pid": os.getpid(),
            "version": VERSION,
            "python": platform.python_version(),
            "started_at": self._started_at,
            "uptime_s": round(monotonic_s() - self._started_s, 1),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "memory_peak_bytes": used.ru_maxrss * KIB,
        }
