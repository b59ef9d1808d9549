"""The outcome table of contract 4, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.event_integration.outcome import Dead, Delivered, Outcome, RetryAt, RetryPolicy, decide
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Answer, Cause, Failure, Stage

POLICY = RetryPolicy(schedule_s=(5, 30, 300), max_age_s=3600)
NOW_S = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, 5.6.7."""
SCHEDULED = RetryAt(5.0)


def outcome(result: Answer | Failure, *, attempts_made: int = 1, age_s: float = 0.0, unit_random: float = 0.5) -> Outcome:
    return decide(result, attempts_made=attempts_made, age_s=age_s, policy=POLICY, unit_random=unit_random, wall_now_s=NOW_S)


def status(code: int, retry_after: str | None = None) -> Answer:
    return Answer(status=code, retry_after=retry_after)


def failure(cause: Cause) -> Failure:
    return Failure(stage=Stage.CONNECT, cause=cause)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 226, 299])
def test_2xx_is_delivered_however_late_it_comes(code: int) -> None:
    assert outcome(status(code), attempts_made=99, age_s=1e9) == Delivered()


def test_410_is_dead_and_disables_the_webhook() -> None:
    assert outcome(status(410)) == Dead(DeadReason.WEBHOOK_DISABLED, disables_webhook=True)


@pytest.mark.parametrize("code", [101, 300, 301, 302, 304, 307, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 599, 600, 999])
def test_any_other_status_is_tried_again_on_the_schedule(code: int) -> None:
    assert outcome(status(code)) == SCHEDULED


@pytest.mark.parametrize("cause", sorted(set(Cause) - {Cause.FORBIDDEN}))
def test_any_failure_but_a_forbidden_destination_is_tried_again_on_the_schedule(cause: Cause) -> None:
    assert outcome(failure(cause)) == SCHEDULED


def test_a_forbidden_destination_is_dead_at_once() -> None:
    assert outcome(failure(Cause.FORBIDDEN)) == Dead(DeadReason.FORBIDDEN_DESTINATION)


@pytest.mark.parametrize(
    ("attempts_made", "expected"),
    [(1, RetryAt(5.0)), (2, RetryAt(30.0)), (3, RetryAt(300.0)), (4, Dead(DeadReason.EXHAUSTED)), (5, Dead(DeadReason.EXHAUSTED))],
)
def test_the_schedule_is_walked_and_one_attempt_more_than_it_is_long_is_made(attempts_made: int, expected: Outcome) -> None:
    assert outcome(status(500), attempts_made=attempts_made) == expected
    assert outcome(failure(Cause.TIMEOUT), attempts_made=attempts_made) == expected


@pytest.mark.parametrize(("age_s", "expected"), [(3599.9, SCHEDULED), (3600.0, Dead(DeadReason.TOO_OLD)), (1e9, Dead(DeadReason.TOO_OLD))])
def test_what_is_too_old_is_not_tried_again(age_s: float, expected: Outcome) -> None:
    assert outcome(status(503, "1"), age_s=age_s) == (RetryAt(1.0) if expected == SCHEDULED else expected)
    assert outcome(status(500), age_s=age_s) == expected


@pytest.mark.parametrize(("unit_random", "delay_s"), [(0.0, 4.0), (0.5, 5.0), (0.999999, 6.0)])
def test_waits_are_spread_by_a_fifth_either_way(unit_random: float, delay_s: float) -> None:
    spread = outcome(status(500), unit_random=unit_random)
    assert isinstance(spread, RetryAt)
    assert spread.delay_s == pytest.approx(delay_s, rel=1e-5)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("17", RetryAt(17.0)),
        (" 17 ", RetryAt(17.0)),
        ("0", RetryAt(1.0)),
        ("3600", RetryAt(3600.0)),
        ("3601", RetryAt(3600.0)),
        ("9" * 400, RetryAt(3600.0)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", RetryAt(60.0)),
        ("Sun Nov  6 08:50:37 1994", RetryAt(60.0)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", RetryAt(1.0)),
        ("Fri, 31 Dec 1999 23:59:59 GMT", RetryAt(3600.0)),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", SCHEDULED),
        ("Sun, 06 Nov 1994 08:49:37 +99999999999999999999", SCHEDULED),
        ("", SCHEDULED),
        ("soon", SCHEDULED),
        ("-5", SCHEDULED),
        ("1.5", SCHEDULED),
        ("٣", SCHEDULED),
        (None, SCHEDULED),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour_where_it_can_be_read(code: int, retry_after: str | None, expected: Outcome) -> None:
    assert outcome(status(code, retry_after)) == expected


@pytest.mark.parametrize("code", [301, 500, 504])
def test_retry_after_means_nothing_elsewhere(code: int) -> None:
    assert outcome(status(code, "17")) == SCHEDULED


@given(retry_after=st.text(max_size=60), code=st.sampled_from([429, 503]))
def test_no_header_can_make_the_decision_fail_or_the_wait_leave_its_bounds(retry_after: str, code: int) -> None:
    decided = outcome(status(code, retry_after))
    assert isinstance(decided, RetryAt)
    assert 1.0 <= decided.delay_s <= 3600.0
