"""When a call to a broker is tried again, and after how long (design 6: full jitter inside the deadline)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.instances.broker import BrokerCause, BrokerFailure
from worker.instances.calling import ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S, WORTH_A_RETRY, wait_before_retry_s


@pytest.mark.parametrize("cause", BrokerCause)
def test_only_what_may_pass_is_tried_again(cause: BrokerCause) -> None:
    wait_s = wait_before_retry_s(BrokerFailure(cause, "x"), 1, 10.0, 0.5)
    assert (wait_s is not None) is (cause in WORTH_A_RETRY)
    assert not WORTH_A_RETRY & {BrokerCause.AUTH, BrokerCause.NOT_CONFIGURED, BrokerCause.QUOTA}


@given(
    st.sampled_from(sorted(WORTH_A_RETRY)),
    st.integers(1, 10),
    st.floats(0, 30),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 60),
)
def test_a_wait_is_jittered_fully_within_the_time_left(
    cause: BrokerCause, attempts: int, left_s: float, unit_random: float, asked_s: float | None
) -> None:
    wait_s = wait_before_retry_s(BrokerFailure(cause, "x", retry_after_s=asked_s), attempts, left_s, unit_random)
    if wait_s is None:
        assert attempts >= ATTEMPTS or left_s <= max(asked_s or 0.0, LONGEST_WAIT_S)
        return
    assert attempts < ATTEMPTS
    assert (asked_s or 0.0) <= wait_s < left_s
    assert wait_s <= max(asked_s or 0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempts - 1)))


def test_the_bound_doubles_and_the_wait_may_be_nothing() -> None:
    away = BrokerFailure(BrokerCause.CONNECT, "x")
    assert [wait_before_retry_s(away, n, 10.0, 0.5) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert wait_before_retry_s(away, 3, 10.0, 0.0) == 0.0


def test_what_the_broker_asks_for_is_kept_and_ends_it_where_there_is_no_time() -> None:
    busy = BrokerFailure(BrokerCause.RATE_LIMITED, "x", retry_after_s=3.0)
    assert wait_before_retry_s(busy, 1, 10.0, 0.9) == 3.0
    assert wait_before_retry_s(busy, 1, 3.0, 0.9) is None
