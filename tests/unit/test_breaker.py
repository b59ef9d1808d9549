"""A broker's circuit breaker (design 6): five failed calls, thirty seconds, one probe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.instances.breaker import ABSENT, FAILURES_TO_OPEN, OPEN_FOR_S, Breaker, BreakerState
from worker.instances.broker import BrokerCause, BrokerFailure
from worker.instances.failures import CircuitOpen

AWAY = BrokerFailure(BrokerCause.CONNECT, "x", status=None, broker_code="c")


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(AWAY, at_s, probe=breaker.admit(at_s))
    return breaker


def test_it_opens_with_the_fifth_failure_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(AWAY, 0.0, probe=False)
    assert breaker.state(0.0) is BreakerState.CLOSED
    breaker.failed(AWAY, 0.0, probe=False)
    assert breaker.state(0.0) is BreakerState.OPEN


def test_an_answer_in_between_begins_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.failed(AWAY, 0.0, probe=False)
        breaker.answered(probe=False)
    assert breaker.state(0.0) is BreakerState.CLOSED


@pytest.mark.parametrize("cause", sorted(set(BrokerCause) - ABSENT))
def test_a_broker_that_says_no_is_there(cause: BrokerCause) -> None:
    breaker = Breaker()
    for _ in range(2 * FAILURES_TO_OPEN):
        breaker.failed(BrokerFailure(cause, "x"), 0.0, probe=False)
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_while_it_is_open_nobody_asks_and_is_told_why_and_for_how_long() -> None:
    with pytest.raises(CircuitOpen) as told:
        opened().admit(10.0)
    assert (told.value.cause, told.value.broker_code, told.value.retry_after_s) == (BrokerCause.CONNECT, "c", OPEN_FOR_S - 10)
    assert "20 s" in str(told.value)


def test_after_its_time_one_probe_asks_and_the_others_wait() -> None:
    breaker = opened()
    assert breaker.state(OPEN_FOR_S) is BreakerState.HALF_OPEN
    assert breaker.admit(OPEN_FOR_S) is True
    with pytest.raises(CircuitOpen):
        breaker.admit(OPEN_FOR_S)


def test_a_probe_that_is_answered_closes_it() -> None:
    breaker = opened()
    breaker.answered(probe=breaker.admit(OPEN_FOR_S))
    assert breaker.state(OPEN_FOR_S) is BreakerState.CLOSED
    assert breaker.admit(OPEN_FOR_S) is False


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    breaker = opened()
    breaker.failed(AWAY, OPEN_FOR_S, probe=breaker.admit(OPEN_FOR_S))
    assert breaker.state(2 * OPEN_FOR_S - 0.1) is BreakerState.OPEN
    assert breaker.admit(2 * OPEN_FOR_S) is True


def test_a_probe_that_was_cancelled_leaves_its_place() -> None:
    breaker = opened()
    breaker.cancelled(probe=breaker.admit(OPEN_FOR_S))
    assert breaker.admit(OPEN_FOR_S) is True


def test_calls_that_began_before_it_opened_do_not_keep_it_open_for_longer() -> None:
    breaker = opened()
    breaker.failed(AWAY, OPEN_FOR_S - 1, probe=False)
    assert breaker.state(OPEN_FOR_S) is BreakerState.HALF_OPEN


@given(st.lists(st.tuples(st.sampled_from(["admit", "answered", "failed", "cancelled"]), st.floats(0, 20)), max_size=60))
def test_there_is_never_more_than_one_probe(steps: list[tuple[str, float]]) -> None:
    breaker, now_s, under_way = Breaker(), 0.0, [False] * 0
    for step, later_s in steps:
        now_s += later_s
        if step == "admit":
            try:
                under_way.append(breaker.admit(now_s))
            except CircuitOpen:
                assert breaker.state(now_s) is not BreakerState.CLOSED
            assert sum(under_way) <= 1 or breaker.state(now_s) is BreakerState.CLOSED
        elif under_way:
            probe = under_way.pop()
            if step == "answered":
                breaker.answered(probe=probe)
            elif step == "failed":
                breaker.failed(AWAY, now_s, probe=probe)
            else:
                breaker.cancelled(probe=probe)


def test_what_it_shows_is_the_circuit_and_what_it_failed_of() -> None:
    breaker = opened()
    assert breaker.statistics(1.0) == {"circuit": "open", "failures_in_row": FAILURES_TO_OPEN, "last_cause": "connect"}
    breaker.answered(probe=breaker.admit(OPEN_FOR_S))
    assert breaker.statistics(OPEN_FOR_S) == {"circuit": "closed", "failures_in_row": 0, "last_cause": None}
