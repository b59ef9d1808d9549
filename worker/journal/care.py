"""How a tenure reads where earlier ones came to grief: which events carefully, which not at all (docs/decisions/0009-poison.md). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from worker.domain.ids import Position, WebhookId
from worker.journal.port import Doubt, Progress

NOBODY = WebhookId("-")
"""The webhook of a dead letter whose event was not opened: which ones wanted it nobody knows."""
TENURES_WITHOUT_PROGRESS = 3
STRIKES = 2
"""One may have been a kill, or a lease lost, that had nothing to do with the event."""
CAREFUL_EVENTS = 100
MOST_DOUBLINGS = 7
"""12 800 events: farther beyond the prefix nobody reads (`reader.MAX_GAP`)."""


class Look(Enum):
    """How to take the next event."""

    PLAINLY = auto()
    CAREFULLY = auto()
    POISON = auto()
    """To be buried unopened."""
    BURIED = auto()
    """It has been, by an earlier tenure: not to be opened either."""


class Care:
    """Of one tenure. Ask `look` for each event in the order of positions."""

    __slots__ = ("_last", "buried", "has_begun", "left", "poison", "suspect", "why")

    def __init__(self, doubt: Doubt, buried: Iterable[Position]) -> None:
        self.buried = frozenset(buried)
        self.suspect = doubt.suspect
        self.poison = doubt.suspect if doubt.strikes >= STRIKES else None
        self.left = careful_events(doubt)
        """Events still to be read carefully."""
        self.why = "its checkpoint did not move over the last tenures" if doubt.suspect is None else "one ended while it read an event"
        self.has_begun = False
        """Whether one was read carefully."""
        self._last = max((*self.buried, doubt.suspect or 0))

    def __repr__(self) -> str:
        return f"<Care left={self.left} suspect={self.suspect} poison={self.poison} buried={len(self.buried)}>"

    def look(self, position: Position) -> Look:
        """As far as the suspect everything is read carefully, however many that are."""
        if position in self.buried:
            return Look.BURIED
        if position == self.poison:
            return Look.POISON
        is_careful = self.left > 0 or (self.suspect is not None and position <= self.suspect)
        return Look.CAREFULLY if is_careful else Look.PLAINLY

    def note_survived(self) -> None:
        """An event was read carefully."""
        self.left = max(0, self.left - 1)

    def is_over(self, cursor: Position) -> bool:
        """Whether all that is left to read is read as ever."""
        return not self.left and cursor > self._last


def careful_events(doubt: Doubt) -> int:
    """How many from the first on; each tenure that did not get on by it doubles the number, or the cause could lie beyond for ever."""
    in_vain = doubt.starts - 1 - TENURES_WITHOUT_PROGRESS
    if in_vain < 0:
        return 0 if doubt.suspect is None else CAREFUL_EVENTS
    return CAREFUL_EVENTS << min(MOST_DOUBLINGS, in_vain)


def care_for(progress: Progress) -> Care | None:
    """None: everything may be read as ever."""
    care = Care(progress.doubt, (fact.position for fact in progress.done if fact.webhook == NOBODY))
    return None if care.is_over(progress.prefix) else care
