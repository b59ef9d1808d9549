"""No number of hanging endpoints takes the share of the healthy."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.domain.catalog import Webhook
from worker.domain.ids import TenantId, WebhookId
from worker.event_integration.bulkheads import Bulkheads, Slot, SlotResult, Verdict, destination_of
from worker.event_integration.circuit import CircuitState

OK, FAILED, CANCELLED = SlotResult.ANSWERED_OK, SlotResult.FAILED, SlotResult.CANCELLED


def webhook(name: str = "w", host: str | None = None, max_in_flight: int = 8) -> Webhook:
    return Webhook(id=WebhookId(name), tenant_id=TenantId("t"), url=f"https://{host or name}.test/hook", max_in_flight=max_in_flight)


def steady() -> float:
    return 0.5


def bulkheads(max_in_flight: int = 100) -> Bulkheads:
    return Bulkheads(max_in_flight, steady)


def proven(held: Bulkheads, *webhooks: Webhook, now_s: float = 0.0) -> None:
    for one in webhooks:
        held.end(held.begin(one, now_s, retry=False), OK, now_s)


def verdict(held: Bulkheads, of: Webhook, now_s: float = 0.0, *, retry: bool = False, firsts_wait: bool = False) -> Verdict:
    return held.admit(of, now_s, retry=retry, firsts_wait=firsts_wait).verdict


def start_all(held: Bulkheads, of: Webhook, now_s: float = 0.0, *, retry: bool = False, firsts_wait: bool = False) -> list[Slot]:
    """Starts as many attempts as are admitted."""
    slots = []
    while verdict(held, of, now_s, retry=retry, firsts_wait=firsts_wait) is Verdict.START:
        slots.append(held.begin(of, now_s, retry=retry))
        assert len(slots) <= 1000
    return slots


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


class AnyHistory(RuleBasedStateMachine):
    """Webhooks begin, answer, fail, hang and are cancelled in any order; a plain model keeps the accounts."""

    MAX = 8
    WEBHOOKS = tuple(webhook(f"w{n}", host=f"h{n % 3}", max_in_flight=1 + n % 5) for n in range(10))

    def __init__(self) -> None:
        super().__init__()
        self.held = bulkheads(self.MAX)
        self.now_s = 0.0
        self.under_way: list[tuple[Webhook, Slot, float, bool]] = []
        # Most have answered once: what is interesting begins when many may have several under way.
        proven(self.held, *self.WEBHOOKS[:7])
        self.failed_last: dict[WebhookId, bool] = {one.id: False for one in self.WEBHOOKS[:7]}
        self.swept_s = 0.0

    def of(self, one: Webhook) -> list[tuple[Webhook, Slot, float, bool]]:
        return [entry for entry in self.under_way if entry[0].id == one.id]

    def is_suspect(self, one: Webhook) -> bool:
        return self.failed_last.get(one.id, False) or any(self.swept_s - began_s > 2.0 for _, _, began_s, _ in self.of(one))

    def is_healthy(self, one: Webhook) -> bool:
        return one.id in self.failed_last and not self.is_suspect(one)

    def count(self, *, healthy: bool) -> int:
        return sum(self.is_healthy(one) is healthy for one, *_ in self.under_way)

    @rule(one=st.sampled_from(WEBHOOKS), retry=st.booleans(), firsts_wait=st.booleans())
    def try_to_begin(self, one: Webhook, retry: bool, firsts_wait: bool) -> None:
        room = self.held.room_for(one, self.now_s, firsts_wait=firsts_wait)
        answer = self.held.admit(one, self.now_s, retry=retry, firsts_wait=firsts_wait)
        if retry:
            assert (room > 0) is (answer.verdict is Verdict.START)
        if answer.verdict is not Verdict.START:
            assert (answer.verdict in {Verdict.PARK, Verdict.OPEN}) is self.is_suspect(one)
            return
        confined, mine = self.count(healthy=False), len(self.of(one))
        assert self.held.circuit(one.id)[0] is not CircuitState.OPEN
        if self.is_healthy(one):
            assert mine < min(8, one.max_in_flight)
            assert self.count(healthy=True) + min(confined, self.MAX // 2) < self.MAX
        else:
            assert mine == 0
            assert confined < self.MAX // 2
            assert len(self.under_way) < self.MAX
        if self.is_suspect(one):
            there = sum(self.is_suspect(w) and destination_of(w.url) == destination_of(one.url) for w, *_ in self.under_way)
            assert there < self.MAX // 4
        if retry and firsts_wait:
            # Retries that were under way before firsts waited may be more; they never grow.
            assert sum(r for *_, r in self.under_way) < max(2, self.MAX // 5) + confined
        self.under_way.append((one, self.held.begin(one, self.now_s, retry=retry), self.now_s, retry))

    @rule()
    def fill(self) -> None:
        for one in self.WEBHOOKS:
            while verdict(self.held, one, self.now_s) is Verdict.START:
                self.try_to_begin(one, retry=False, firsts_wait=False)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 10**6), result=st.sampled_from(SlotResult))
    def finish(self, which: int, result: SlotResult) -> None:
        one, slot, _, _ = self.under_way.pop(which % len(self.under_way))
        self.held.end(slot, result, self.now_s)
        if result is not CANCELLED:
            self.failed_last[one.id] = result is FAILED

    @rule(seconds=st.sampled_from([0.02, 0.5, 1.9, 2.5, 5.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.swept_s = self.now_s
        self.held.sweep(self.now_s)

    @invariant()
    def accounts_agree(self) -> None:
        figures = self.held.statistics()
        assert figures["in_flight"] == len(self.under_way)
        assert figures["in_flight_retries"] == sum(retry for *_, retry in self.under_way)
        for one in self.WEBHOOKS:
            assert self.held.is_suspect(one.id) is self.is_suspect(one)

    @invariant()
    def the_healthy_always_get_a_slot_below_half(self) -> None:
        healthy = [one for one in self.WEBHOOKS if self.is_healthy(one) and not self.of(one)]
        if healthy and self.count(healthy=True) < self.MAX // 2:
            assert verdict(self.held, healthy[0], self.now_s) is Verdict.START

    @invariant()
    def the_total_exceeds_the_limit_only_by_what_suspects_hold_beyond_their_half(self) -> None:
        assert len(self.under_way) <= self.MAX + max(0, self.count(healthy=False) - self.MAX // 2)

    def teardown(self) -> None:
        for _, slot, _, _ in self.under_way:
            self.held.end(slot, CANCELLED, self.now_s)
        figures = self.held.statistics()
        assert [figures[name] for name in ("in_flight", "in_flight_healthy", "in_flight_confined", "in_flight_retries")] == [0, 0, 0, 0]


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(stateful_step_count=60)
