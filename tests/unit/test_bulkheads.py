"""No number of hanging endpoints takes the share of the healthy."""

from __future__ import annotations

import pytest

from tests.unit.bulkhead_samples import CANCELLED, FAILED, OK, bulkheads, proven, start_all, verdict, webhook
from worker.domain.ids import WebhookId
from worker.event_integration.bulkheads import Verdict, destination_of
from worker.event_integration.circuit import CircuitState


def test_a_webhook_that_has_not_answered_yet_has_one_attempt_and_the_rest_waits() -> None:
    held, new = bulkheads(), webhook()
    assert len(start_all(held, new)) == 1
    assert verdict(held, new) is Verdict.WAIT


def test_a_webhook_that_answers_has_two_and_earns_up_to_its_own_limit() -> None:
    held, good = bulkheads(), webhook(max_in_flight=5)
    proven(held, good)
    seen = []
    for _ in range(20):
        slots = start_all(held, good)
        seen.append(len(slots))
        for slot in slots:
            held.end(slot, OK, 0.0)
    assert seen[0] == 2
    assert seen == sorted(seen)
    assert seen[-1] == 5


def test_answers_below_the_limit_earn_nothing() -> None:
    held, good = bulkheads(), webhook()
    for _ in range(50):
        proven(held, good)
    assert len(start_all(held, good)) == 2


def test_a_webhook_limited_to_one_stays_at_one() -> None:
    held, careful = bulkheads(), webhook(max_in_flight=1)
    proven(held, careful)
    assert len(start_all(held, careful)) == 1


def test_a_failure_makes_a_suspect_of_one_slot_and_a_2xx_ends_it_with_a_smaller_limit() -> None:
    held, shaky = bulkheads(), webhook()
    proven(held, shaky)
    for _ in range(60):
        for slot in start_all(held, shaky):
            held.end(slot, OK, 0.0)
    held.end(held.begin(shaky, 0.0, retry=False), FAILED, 0.0)
    assert held.is_suspect(shaky.id)
    [slot] = start_all(held, shaky)
    assert verdict(held, shaky) is Verdict.PARK
    held.end(slot, OK, 0.0)
    assert not held.is_suspect(shaky.id)
    assert len(start_all(held, shaky)) == 4


def test_an_attempt_under_way_for_over_two_seconds_makes_a_suspect_and_silence_before_does_not() -> None:
    held, slow = bulkheads(), webhook()
    proven(held, slow)
    slot = held.begin(slow, 10.0, retry=False)
    held.sweep(12.0)
    assert not held.is_suspect(slow.id)
    held.sweep(12.02)
    assert held.is_suspect(slow.id)
    assert verdict(held, slow, 12.02) is Verdict.PARK
    held.end(slot, OK, 13.0)
    assert not held.is_suspect(slow.id)


def test_a_cancelled_attempt_changes_nothing_but_the_count() -> None:
    held, new, failing = bulkheads(), webhook("new"), webhook("failing")
    held.end(held.begin(new, 0.0, retry=False), CANCELLED, 0.0)
    assert verdict(held, new) is Verdict.START
    assert len(start_all(held, new)) == 1
    held.end(held.begin(failing, 0.0, retry=False), FAILED, 0.0)
    held.end(held.begin(failing, 0.0, retry=False), CANCELLED, 0.0)
    assert held.is_suspect(failing.id)
    assert held.in_flight == 1


def test_a_cancelled_slow_attempt_is_under_way_no_more() -> None:
    held, slow = bulkheads(), webhook()
    proven(held, slow)
    slot = held.begin(slow, 0.0, retry=False)
    held.sweep(3.0)
    held.end(slot, CANCELLED, 3.0)
    assert not held.is_suspect(slow.id)
    assert len(start_all(held, slow, 3.0)) == 2


def test_the_unproven_and_the_suspects_together_hold_at_most_half() -> None:
    held = bulkheads(10)
    bad = [webhook(f"bad{n}") for n in range(3)]
    for one in bad:
        held.end(held.begin(one, 0.0, retry=False), FAILED, 0.0)
    started = [one for one in [*bad, *(webhook(f"new{n}") for n in range(9))] if start_all(held, one)]
    assert len(started) == 5
    assert verdict(held, webhook("another")) is Verdict.WAIT


def test_newcomers_do_not_wait_for_the_deadlines_of_newcomers_that_hang() -> None:
    held = bulkheads(100)
    hung = [webhook(f"hung-{n}", host=f"h{n}.example") for n in range(60)]
    began = sum(len(start_all(held, one)) for one in hung)
    assert began == 50, "the unproven take the whole half"
    healthy = webhook("new")
    assert verdict(held, healthy, 1.9) is Verdict.WAIT
    held.sweep(2.1)
    assert verdict(held, healthy, 2.1) is Verdict.START, "what hangs is suspect by now and holds none of the newcomers' places"
    assert sum(len(start_all(held, one, 2.1)) for one in hung[50:]) == 10
    assert verdict(held, healthy, 2.1) is Verdict.START, "twelve places: ten are taken"


def test_suspects_of_one_destination_hold_at_most_a_quarter() -> None:
    held = bulkheads(16)
    shared = [webhook(f"w{n}", host="one") for n in range(8)]
    for one in shared:
        held.end(held.begin(one, 0.0, retry=False), FAILED, 0.0)
    assert sum(len(start_all(held, one)) for one in shared) == 4
    assert verdict(held, shared[-1]) is Verdict.PARK
    elsewhere = webhook("elsewhere")
    held.end(held.begin(elsewhere, 0.0, retry=False), FAILED, 0.0)
    assert verdict(held, elsewhere) is Verdict.START


def test_an_endpoint_that_turns_hanging_moves_to_the_suspects_and_the_healthy_keep_their_half() -> None:
    held = bulkheads(8)
    hanging, good = [webhook(f"h{n}") for n in range(4)], [webhook(f"g{n}") for n in range(3)]
    proven(held, *hanging, *good)
    assert sum(len(start_all(held, one)) for one in hanging) == 8
    assert verdict(held, good[0]) is Verdict.WAIT
    held.sweep(2.1)
    assert sum(len(start_all(held, one, 2.1)) for one in good) == 4
    assert held.in_flight == 12
    assert verdict(held, good[2], 2.1) is Verdict.WAIT


def test_retries_hold_at_most_a_fifth_while_first_attempts_wait() -> None:
    held = bulkheads(20)
    good = [webhook(f"g{n}") for n in range(10)]
    proven(held, *good)
    assert sum(len(start_all(held, one, retry=True, firsts_wait=True)) for one in good) == 4
    assert verdict(held, good[9], retry=True, firsts_wait=True) is Verdict.WAIT
    assert verdict(held, good[9], retry=True, firsts_wait=False) is Verdict.START
    assert verdict(held, good[9]) is Verdict.START


def test_retries_that_hang_leave_half_of_the_retries_share_to_the_healthy() -> None:
    held = bulkheads(20)
    hanging, good = [webhook(f"h{n}") for n in range(4)], webhook("good")
    proven(held, *hanging, good)
    for one in hanging:
        start_all(held, one, retry=True, firsts_wait=True)
    held.sweep(2.1)
    assert len(start_all(held, good, 2.1, retry=True, firsts_wait=True)) == 2


def test_the_circuit_opens_at_the_fifth_failure_and_lets_one_probe_through() -> None:
    held, bad = bulkheads(), webhook()
    for _ in range(5):
        held.end(held.begin(bad, 0.0, retry=False), FAILED, 0.0)
    admission = held.admit(bad, 1.0, retry=False, firsts_wait=False)
    assert (admission.verdict, admission.reopen_in_s) == (Verdict.OPEN, 4.0)
    assert held.room_for(bad, 1.0, firsts_wait=False) == 0
    assert held.circuit(bad.id) == (CircuitState.OPEN, 4.0)
    assert held.room_for(bad, 5.0, firsts_wait=False) == 1
    [probe] = start_all(held, bad, 5.0)
    assert verdict(held, bad, 5.0) is Verdict.PARK
    assert held.circuit(bad.id) == (CircuitState.HALF_OPEN, 0.0)
    held.end(probe, OK, 6.0)
    assert held.circuit(bad.id) == (CircuitState.CLOSED, 0.0)
    assert len(start_all(held, bad, 6.0)) == 2


def test_a_probe_that_fails_doubles_the_wait_and_a_cancelled_one_leaves_its_place() -> None:
    held, bad = bulkheads(), webhook()
    for _ in range(5):
        held.end(held.begin(bad, 0.0, retry=False), FAILED, 0.0)
    held.end(held.begin(bad, 5.0, retry=False), CANCELLED, 5.5)
    [probe] = start_all(held, bad, 5.5)
    held.end(probe, FAILED, 6.0)
    assert held.circuit(bad.id) == (CircuitState.OPEN, 10.0)


def test_room_says_how_many_could_start() -> None:
    held, good = bulkheads(10), webhook()
    assert held.room_for(good, 0.0, firsts_wait=True) == 1
    proven(held, good)
    assert held.room_for(good, 0.0, firsts_wait=True) == 2
    slots = start_all(held, good)
    assert held.room_for(good, 0.0, firsts_wait=False) == 0
    held.end(slots[0], OK, 0.0)
    assert held.room_for(good, 0.0, firsts_wait=False) == 1


def test_a_retry_that_found_no_room_gets_the_webhooks_next_free_slot() -> None:
    held, busy = bulkheads(), webhook(max_in_flight=2)
    proven(held, busy)
    slots = start_all(held, busy)
    held.keep_for_retry(busy, 1.0)
    held.end(slots.pop(), OK, 1.1)
    assert verdict(held, busy, 1.1) is Verdict.WAIT
    assert held.room_for(busy, 1.1, firsts_wait=True) == 1
    retry = held.begin(busy, 1.1, retry=True)
    held.end(slots.pop(), OK, 1.2)
    assert verdict(held, busy, 1.2) is Verdict.START, "one slot is kept, once"
    held.keep_for_retry(busy, 1.2)
    assert verdict(held, busy, 1.2) is Verdict.START, "a retry is under way"
    held.end(retry, OK, 1.2)


def test_a_slot_kept_for_a_retry_that_does_not_come_is_given_to_firsts_again() -> None:
    held, busy = bulkheads(), webhook(max_in_flight=1)
    proven(held, busy)
    [slot] = start_all(held, busy)
    held.keep_for_retry(busy, 1.0)
    held.end(slot, OK, 1.1)
    assert verdict(held, busy, 1.2) is Verdict.WAIT
    assert verdict(held, busy, 1.3) is Verdict.START


def test_no_slot_is_kept_where_the_webhook_has_room_or_the_retries_of_all_have_none() -> None:
    held, idle, busy = bulkheads(10), webhook("idle"), webhook("busy", max_in_flight=1)
    proven(held, idle, busy)
    held.keep_for_retry(idle, 1.0)
    assert len(start_all(held, idle, 1.0)) == 2
    others = [webhook("w0"), webhook("w1")]
    proven(held, *others)
    retries = [held.begin(other, 1.0, retry=True) for other in others]
    [slot] = start_all(held, busy, 1.0)
    held.keep_for_retry(busy, 1.0)
    held.end(slot, OK, 1.1)
    assert verdict(held, busy, 1.1) is Verdict.START
    for retry in retries:
        held.end(retry, OK, 1.1)


def test_a_webhook_that_moves_counts_at_its_new_destination_from_when_nothing_is_under_way() -> None:
    held = bulkheads(8)
    before, after = webhook("w", host="old"), webhook("w", host="new")
    held.end(held.begin(before, 0.0, retry=False), FAILED, 0.0)
    [slot] = start_all(held, before)
    assert verdict(held, after) is Verdict.PARK
    held.end(slot, FAILED, 0.0)
    start_all(held, after)
    others = [webhook(f"o{n}", host="new") for n in range(3)]
    for one in others:
        held.end(held.begin(one, 0.0, retry=False), FAILED, 0.0)
    assert sum(len(start_all(held, one)) for one in others) == 1


def test_a_lowered_limit_of_its_own_holds_at_once() -> None:
    held = bulkheads()
    proven(held, webhook())
    start_all(held, webhook())
    assert verdict(held, webhook(max_in_flight=1)) is Verdict.WAIT


def test_webhooks_idle_for_an_hour_are_forgotten_one_for_each_sweep() -> None:
    held = bulkheads()
    webhooks = [webhook(f"w{n}") for n in range(3)]
    proven(held, *webhooks)
    busy = held.begin(webhooks[0], 1.0, retry=False)
    for _ in range(5):
        held.sweep(3700.0)
    assert held.statistics()["webhooks"] == 1
    held.end(busy, OK, 3701.0)
    assert held.in_flight == 0


def test_statistics_count_what_is_under_way_and_why() -> None:
    held, bad, good = bulkheads(), webhook("bad"), webhook("good")
    for _ in range(5):
        held.end(held.begin(bad, 0.0, retry=False), FAILED, 0.0)
    proven(held, good)
    held.begin(good, 0.0, retry=True)
    held.begin(webhook("new"), 0.0, retry=False)
    assert held.statistics() == {
        "max_in_flight": 100,
        "in_flight": 2,
        "in_flight_healthy": 1,
        "in_flight_confined": 1,
        "in_flight_retries": 1,
        "webhooks": 3,
        "webhooks_suspect": 1,
        "webhooks_unproven": 2,
        "circuits_open": 1,
    }
    assert repr(held) == "<Bulkheads 2/100 in flight, 1 of them confined>"


def test_nothing_is_known_of_a_stranger() -> None:
    held = bulkheads()
    assert not held.is_suspect(WebhookId("stranger"))
    assert held.circuit(WebhookId("stranger")) == (CircuitState.CLOSED, 0.0)


def test_a_slot_ends_once() -> None:
    held = bulkheads()
    slot = held.begin(webhook(), 0.0, retry=False)
    held.end(slot, OK, 0.0)
    with pytest.raises(AssertionError):
        held.end(slot, OK, 0.0)


def test_fewer_than_two_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        bulkheads(1)


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("https://CRM.example.com/hook", "crm.example.com:443"),
        ("http://crm.example.com/hook", "crm.example.com:80"),
        ("http://user:pass@crm.example.com:8080", "crm.example.com:8080"),
        ("https://[2001:db8::1]/x", "2001:db8::1:443"),
        ("https://crm.example.com:99999/", "unreadable"),
        ("https://[::1", "unreadable"),
        ("", ":80"),
    ],
)
def test_a_destination_is_host_and_port(url: str, destination: str) -> None:
    assert destination_of(url) == destination
