"""A backlog comes back at twice its webhook's usual rate, and never at less than fifty a second's double."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.ids import WebhookId
from worker.event_integration.release import BURST_S, TIMES_USUAL, USUAL_AT_LEAST_PER_S, ReleaseRates

HOOK, OTHER = WebhookId("crm"), WebhookId("other")
LEAST_PER_S = TIMES_USUAL * USUAL_AT_LEAST_PER_S


def released(rates: ReleaseRates, hook: WebhookId, from_s: float, seconds: float, routed_ever: int = 0) -> int:
    """All that may go is taken, every 20 ms."""
    total = 0
    for step in range(int(seconds * 50)):
        count = rates.allowance(hook, routed_ever, from_s + step / 50)
        rates.spend(hook, count)
        total += count
    return total


def test_a_webhook_of_which_nothing_is_known_gets_twice_fifty_a_second() -> None:
    assert abs(released(ReleaseRates(0.0), HOOK, 0.0, 10.0) - 10 * LEAST_PER_S) <= LEAST_PER_S * BURST_S + 1


def test_a_busy_webhook_gets_twice_what_it_usually_gets() -> None:
    rates = ReleaseRates(0.0)
    got = released(rates, HOOK, 60.0, 10.0, routed_ever=200 * 60)
    assert 10 * 2 * 150 <= got <= 10 * 2 * 200 * 1.1
    assert released(rates, OTHER, 60.0, 10.0) <= 11 * LEAST_PER_S, "one webhook's rate is not another's"


def test_what_was_not_used_does_not_gather_beyond_a_quarter_of_a_second() -> None:
    rates = ReleaseRates(0.0)
    rates.allowance(HOOK, 0, 0.0)
    assert rates.allowance(HOOK, 0, 3_600.0) == int(LEAST_PER_S * BURST_S)


def test_the_usual_rate_is_forgotten_after_an_hour() -> None:
    rates = ReleaseRates(0.0)
    busy = released(rates, HOOK, 10.0, 2.0, routed_ever=10_000)
    assert busy > 2 * LEAST_PER_S * 1.2
    assert released(rates, HOOK, 3_700.0, 2.0, routed_ever=10_001) <= 2 * LEAST_PER_S * 1.2


def test_a_webhook_asked_about_for_the_first_time_after_hours_has_its_hours_rate() -> None:
    """The count is of all that was ever routed; taken for what came in the last second it would open the gates."""
    rates = ReleaseRates(0.0)
    assert released(rates, HOOK, 7_200.0, 2.0, routed_ever=7_200 * 60) <= 2 * TIMES_USUAL * 60 * 1.2


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60), st.integers(0, 3_000))
def test_in_any_order_of_asking_never_more_than_the_rate_and_one_burst(pauses_s: list[float], routed: int) -> None:
    rates = ReleaseRates(0.0)
    now_s, total = 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        count = rates.allowance(HOOK, routed, now_s)
        assert count >= 0
        rates.spend(HOOK, count)
        total += count
    highest_per_s = TIMES_USUAL * max(USUAL_AT_LEAST_PER_S, routed)
    assert total <= highest_per_s * (now_s + 2 * BURST_S) + 1
