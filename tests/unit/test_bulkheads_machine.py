"""In no history of attempts do the bulkheads lose count, or the healthy their half."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.bulkhead_samples import CANCELLED, FAILED, bulkheads, proven, verdict, webhook
from worker.domain.catalog import Webhook
from worker.domain.ids import WebhookId
from worker.event_integration.bulkheads import Slot, SlotResult, Verdict, destination_of
from worker.event_integration.circuit import CircuitState


class AnyHistory(RuleBasedStateMachine):
    """Webhooks begin, answer, fail, hang and are cancelled in any order; a plain model keeps the accounts."""

    MAX = 8
    HALF = 4
    KEPT = 1
    """Of the half, for the unproven alone."""
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

    def suspects(self) -> int:
        return sum(self.is_suspect(one) for one, *_ in self.under_way)

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
            suspects = self.suspects()
            is_common = confined < self.HALF and len(self.under_way) < self.MAX
            unproven = confined - suspects
            beside = self.count(healthy=True) + unproven + min(suspects, self.HALF - self.KEPT) < self.MAX
            assert is_common or (not self.is_suspect(one) and unproven < self.KEPT and beside)
        if self.is_suspect(one):
            assert self.suspects() < self.HALF - self.KEPT
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
    def the_total_exceeds_the_limit_only_by_what_suspects_or_all_confined_hold_beyond_their_share(self) -> None:
        """The healthy keep their half: whoever of them turns suspect under way takes from nobody."""
        confined = len(self.under_way) - self.count(healthy=True)
        assert len(self.under_way) <= self.MAX + max(0, self.suspects() - (self.HALF - self.KEPT), confined - self.HALF)

    def teardown(self) -> None:
        for _, slot, _, _ in self.under_way:
            self.held.end(slot, CANCELLED, self.now_s)
        figures = self.held.statistics()
        assert [figures[name] for name in ("in_flight", "in_flight_healthy", "in_flight_confined", "in_flight_retries")] == [0, 0, 0, 0]


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(stateful_step_count=60)
