"""`run`: the daemon, on uvloop. What it is made of is `worker.app`'s business."""

from __future__ import annotations

import uvloop

from worker import app
from worker.commands.refusals import guarded
from worker.lifecycle import Signals
from worker.processes.seat import Seat
from worker.processes.to_parent import ToParent


def run(signals: Signals) -> int:
    """Runs until a signal has been answered by a drain; answers the exit code."""
    return guarded(lambda settings: uvloop.run(app.run(settings, signals)))


def run_in_seat(signals: Signals, word: str) -> int:
    """The same as one of several, whose parent gave it this word; what keeps it from starting is the parent's to say."""
    parent = ToParent(Seat.from_word(word))
    try:
        return guarded(lambda settings: uvloop.run(app.run(settings, signals, parent)), parent.refuse)
    finally:
        parent.close()
