"""The life of a session as a table: in which state what is heard leads where, and what is then to be done. Pure.

```
                 ┌────────────────────────────── due ──────────────────────────────┐
                 ▼                                                                 │
 idle ─start─▶ connecting ──opened──▶ open ──mute──▶ silent ──given_up──▶ waiting ─┘
                 │                    │  ◀──heard──┘  │                      ▲
                 └── lost ────────────┴── lost, stalled ─────────────────────┘
                                      │
                                      └─leave, lapsed─▶ leaving ──ended──▶ left      (abort, superseded: left, from anywhere)
```
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    SILENT = "silent"
    """Connected, as far as anybody can tell, but nothing was heard for too long."""
    WAITING = "waiting"
    """Until the next try to connect."""
    LEAVING = "leaving"
    """Goodbye is said; what the gateway sent before it heard of that is still read."""
    LEFT = "left"
    """For ever: who wants the instance read again starts another session."""


class Event(StrEnum):
    START = "start"
    OPENED = "opened"
    HEARD = "heard"
    """A frame, or a sign of life without one."""
    QUIET = "quiet"
    """Nothing heard for a while: time to ask."""
    MUTE = "mute"
    """Asked, and still nothing."""
    GIVEN_UP = "given_up"
    """Nothing for so long that the connection is taken for dead."""
    LOST = "lost"
    """There is no connection, or none came about."""
    STALLED = "stalled"
    """What was read could not be made durable in time."""
    SUPERSEDED = "superseded"
    """Somebody else took our place, and the shard is not ours."""
    DUE = "due"
    """Time to try again."""
    LEAVE = "leave"
    LAPSED = "lapsed"
    """That the shard is ours could not be proved any more, and its gateway does not send again what is on its way."""
    ABORT = "abort"
    ENDED = "ended"
    """All that was sent before our goodbye is read and looked after."""


class Action(StrEnum):
    """What the session's task does next, in the order given."""

    CONNECT = "connect"
    PING = "ping"
    SAY_GOODBYE = "say_goodbye"
    CLOSE = "close"
    """Gives the connection back, if there is one. Without a receipt: what is owed by then is handed over."""
    BACK_OFF = "back_off"
    """Decides when to try again."""


class Step(NamedTuple):
    state: State
    actions: tuple[Action, ...]


_NEXT = """
              idle        connecting  open        silent      waiting     leaving     left
  start       connecting  .           .           .           .           .           .
  opened      .           open        .           .           .           .           .
  heard       .           .           .           open        .           .           .
  quiet       .           .           .           .           .           .           .
  mute        .           .           silent      .           .           .           .
  given_up    .           .           waiting     waiting     .           left        .
  lost        .           waiting     waiting     waiting     .           left        .
  stalled     .           .           waiting     waiting     .           left        .
  superseded  .           left        left        left        .           left        .
  due         .           .           .           .           connecting  .           .
  leave       left        left        leaving     leaving     left        .           .
  lapsed      left        left        leaving     leaving     left        .           .
  abort       left        left        left        left        left        left        .
  ended       .           .           .           .           .           left        .
"""
"""Rows: what happens. Columns: the state it happens in. `.`: nothing changes (late news, or news from a connection that is gone)."""

_ON_ENTERING: Mapping[State, tuple[Action, ...]] = MappingProxyType(
    {
        State.CONNECTING: (Action.CONNECT,),
        State.WAITING: (Action.CLOSE, Action.BACK_OFF),
        State.LEAVING: (Action.SAY_GOODBYE,),
        State.LEFT: (Action.CLOSE,),
    }
)
_WITHIN: Mapping[tuple[State, Event], tuple[Action, ...]] = MappingProxyType({(State.OPEN, Event.QUIET): (Action.PING,)})
"""Without a change of state."""


def _read(text: str) -> Mapping[tuple[State, Event], Step]:
    head, *rows = [line.split() for line in text.strip().splitlines()]
    steps = {}
    for event_name, *cells in rows:
        for state_name, cell in zip(head, cells, strict=True):
            state, event = State(state_name), Event(event_name)
            changes = cell != "."
            after = State(cell) if changes else state
            steps[state, event] = Step(after, _ON_ENTERING.get(after, ()) if changes else _WITHIN.get((state, event), ()))
    return MappingProxyType(steps)


TABLE: Mapping[tuple[State, Event], Step] = _read(_NEXT)
READING = frozenset({State.OPEN, State.SILENT, State.LEAVING})
"""There is a connection, and it is read."""


def step(state: State, event: Event) -> Step:
    """Where `event` leads from `state`, and what is then to be done."""
    return TABLE[state, event]
