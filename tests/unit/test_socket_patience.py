"""How long a session waits before it connects again, and what is told of many that fail together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.domain.catalog import Instance
from worker.domain.ids import InstanceId, TenantId
from worker.metrics import CLOSED, Metrics
from worker.websocket.chronicle import LINES_AT_ONCE, WINDOW_S, Chronicle, Clocks
from worker.websocket.patience import ASKED_CAP_S, CAP_S, FIRST_S, NEEDS_OPERATOR, SLOW_CAP_S, SLOW_FIRST_S, wait_s
from worker.websocket.port import CloseReason, ConnectionClosed

QUICK = [reason for reason in CloseReason if reason not in NEEDS_OPERATOR]
chances = st.floats(0, 1, exclude_max=True)
failures = st.integers(1, 10_000)


@given(st.sampled_from(QUICK), failures, chances)
def test_the_wait_is_anything_between_nothing_and_a_bound_that_doubles(reason: CloseReason, count: int, chance: float) -> None:
    bound = min(CAP_S, FIRST_S * 2.0 ** min(count - 1, 60))
    assert wait_s(reason, count, None, chance) == bound * chance


@given(st.sampled_from(sorted(NEEDS_OPERATOR)), failures, chances)
def test_where_somebody_has_to_act_the_wait_is_long_from_the_start(reason: CloseReason, count: int, chance: float) -> None:
    assert SLOW_FIRST_S / 2 <= wait_s(reason, count, None, chance) <= SLOW_CAP_S


@given(st.sampled_from(CloseReason), failures, st.floats(-1e9, 1e9), chances)
def test_what_a_gateway_asks_for_is_kept_to_but_not_for_ever(reason: CloseReason, count: int, asked_s: float, chance: float) -> None:
    wait = wait_s(reason, count, asked_s, chance)
    assert wait >= min(max(0.0, asked_s), ASKED_CAP_S)
    assert wait <= ASKED_CAP_S + SLOW_CAP_S


def test_every_reason_is_a_value_of_the_metrics_label() -> None:
    assert set(CLOSED.closed) == {reason.value for reason in CloseReason}


def test_of_a_thousand_that_fail_together_a_few_are_told_and_how_many_more() -> None:
    now_s = [100.0]
    clocks = Clocks(monotonic_s=lambda: now_s[0], unit_random=lambda: 0.5, wall=lambda: "2026-11-22T07:45:38.300Z")
    chronicle = Chronicle(clocks, Metrics())
    with capture_logs() as logs:
        for number in range(1_000):
            instance = Instance(id=InstanceId(f"i{number}"), tenant_id=TenantId("t"), gateway="waha", gateway_instance="g")
            chronicle.lost(instance, ConnectionClosed(CloseReason.BROKEN, "reset"), 1, 0.5, was_open=True)
        chronicle.turn(now_s[0] + WINDOW_S / 2)
        assert [line["event"] for line in logs] == ["socket_lost"] * LINES_AT_ONCE
        chronicle.turn(now_s[0] + WINDOW_S)
        chronicle.turn(now_s[0] + WINDOW_S)
    assert [(line["event"], line.get("count")) for line in logs[LINES_AT_ONCE:]] == [("lines_left_out", 1_000 - LINES_AT_ONCE)]
    assert chronicle.statistics()["reconnects"] == {"broken": 1_000}
