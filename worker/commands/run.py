"""`run`: the daemon, on uvloop. What it is made of is `worker.app`'s business."""

from __future__ import annotations

import uvloop

from worker import app
from worker.commands.refusals import guarded
from worker.lifecycle import Signals


def run(signals: Signals) -> int:
    """Runs until a signal has been answered by a drain; answers the exit code."""
    return guarded(lambda settings: uvloop.run(app.run(settings, signals)))
