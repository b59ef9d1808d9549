"""The transition table of a session: every pair decided, and what must hold whatever comes in whatever order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.websocket.states import READING, TABLE, Action, Event, State, Step, step

CHANGES: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.START): State.CONNECTING,
    (State.IDLE, Event.LEAVE): State.LEFT,
    (State.CONNECTING, Event.OPENED): State.OPEN,
    (State.CONNECTING, Event.LOST): State.WAITING,
    (State.CONNECTING, Event.SUPERSEDED): State.LEFT,
    (State.CONNECTING, Event.LEAVE): State.LEFT,
    (State.OPEN, Event.MUTE): State.SILENT,
    (State.OPEN, Event.GIVEN_UP): State.WAITING,
    (State.OPEN, Event.LOST): State.WAITING,
    (State.OPEN, Event.STALLED): State.WAITING,
    (State.OPEN, Event.SUPERSEDED): State.LEFT,
    (State.OPEN, Event.LEAVE): State.LEAVING,
    (State.SILENT, Event.HEARD): State.OPEN,
    (State.SILENT, Event.GIVEN_UP): State.WAITING,
    (State.SILENT, Event.LOST): State.WAITING,
    (State.SILENT, Event.STALLED): State.WAITING,
    (State.SILENT, Event.SUPERSEDED): State.LEFT,
    (State.SILENT, Event.LEAVE): State.LEAVING,
    (State.WAITING, Event.DUE): State.CONNECTING,
    (State.WAITING, Event.LEAVE): State.LEFT,
    (State.LEAVING, Event.GIVEN_UP): State.LEFT,
    (State.LEAVING, Event.LOST): State.LEFT,
    (State.LEAVING, Event.STALLED): State.LEFT,
    (State.LEAVING, Event.SUPERSEDED): State.LEFT,
    (State.LEAVING, Event.ENDED): State.LEFT,
    (State.IDLE, Event.LAPSED): State.LEFT,
    (State.CONNECTING, Event.LAPSED): State.LEFT,
    (State.OPEN, Event.LAPSED): State.LEAVING,
    (State.SILENT, Event.LAPSED): State.LEAVING,
    (State.WAITING, Event.LAPSED): State.LEFT,
    **{(one, Event.ABORT): State.LEFT for one in State if one is not State.LEFT},
}
"""Written down a second time, pair by pair: everything that changes the state. Whatever is not here does not."""


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_of_state_and_event_leads_where_it_should(state: State, event: Event) -> None:
    assert step(state, event).state == CHANGES.get((state, event), state)


def test_the_table_holds_every_pair_and_no_other() -> None:
    assert set(TABLE) == set(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_what_is_done_follows_from_the_state_entered(state: State, event: Event) -> None:
    after = step(state, event)
    if (state, event) == (State.OPEN, Event.QUIET):
        assert after == Step(State.OPEN, (Action.PING,))
    elif after.state is state:
        assert after.actions == ()
    else:
        assert (
            after.actions
            == {
                State.CONNECTING: (Action.CONNECT,),
                State.OPEN: (),
                State.SILENT: (),
                State.WAITING: (Action.CLOSE, Action.BACK_OFF),
                State.LEAVING: (Action.SAY_GOODBYE,),
                State.LEFT: (Action.CLOSE,),
            }[after.state]
        )


@given(st.lists(st.sampled_from(Event)))
def test_whatever_happens_a_session_that_left_stays_away_and_none_reads_without_a_connection(events: list[Event]) -> None:
    state, is_connected, has_left = State.IDLE, False, False
    for event in events:
        if event is Event.OPENED and state is not State.CONNECTING:
            continue  # nothing else opens a connection
        before = state
        state, actions = step(state, event)
        is_connected = (is_connected or event is Event.OPENED) and Action.CLOSE not in actions
        assert is_connected == (state in READING)
        assert (Action.SAY_GOODBYE in actions) == (state is State.LEAVING and before is not State.LEAVING)
        assert not has_left or (state is State.LEFT and not actions)
        has_left = state is State.LEFT


@given(st.lists(st.sampled_from(Event)))
def test_from_wherever_it_is_a_session_can_be_ended_at_once(events: list[Event]) -> None:
    state = State.IDLE
    for event in events:
        state = step(state, event).state
    assert step(state, Event.ABORT).state is State.LEFT


@pytest.mark.parametrize("state", [state for state in State if state is not State.LEFT])
def test_no_state_is_a_dead_end(state: State) -> None:
    """From each the end can be reached, and, unless goodbye was said, an open connection."""
    reached = {state}
    while more := {step(one, event).state for one in reached for event in Event} - reached:
        reached |= more
    assert State.LEFT in reached
    assert State.OPEN in reached or state is State.LEAVING
