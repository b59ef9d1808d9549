"""Five failures in a row close the road for a while; one probe asks."""

from __future__ import annotations

import pytest

from worker.event_integration.circuit import Circuit, CircuitState


def steady() -> float:
    """The middle of the jitter: waits are exactly 5, 10, 20 …"""
    return 0.5


def opened(at_s: float = 0.0) -> Circuit:
    circuit = Circuit(steady)
    for _ in range(5):
        circuit.failed(at_s, probe=False)
    return circuit


def probe(circuit: Circuit) -> bool:
    began: bool = circuit.began()
    return began


def test_it_opens_at_the_fifth_failure_in_a_row_and_not_before() -> None:
    circuit = Circuit(steady)
    for _ in range(4):
        circuit.failed(0.0, probe=False)
    assert circuit.state(0.0) is CircuitState.CLOSED
    circuit.failed(0.0, probe=False)
    assert circuit.state(0.0) is CircuitState.OPEN
    assert circuit.reopen_in_s(1.0) == 4.0


def test_an_answer_in_between_starts_the_count_anew() -> None:
    circuit = Circuit(steady)
    for _ in range(4):
        circuit.failed(0.0, probe=False)
    circuit.answered(probe=False)
    for _ in range(4):
        circuit.failed(0.0, probe=False)
    assert circuit.is_closed


def test_when_the_wait_is_over_one_attempt_is_the_probe() -> None:
    circuit = opened()
    assert circuit.state(5.0) is CircuitState.HALF_OPEN
    assert circuit.reopen_in_s(5.0) == 0.0
    assert circuit.began()
    assert circuit.is_probing


def test_attempts_of_a_closed_circuit_are_no_probes() -> None:
    assert not Circuit(steady).began()


def test_waits_double_from_5_to_60_seconds_and_an_answer_ends_the_doubling() -> None:
    circuit, now_s, waits = opened(), 0.0, []
    for _ in range(6):
        waits.append(circuit.reopen_in_s(now_s))
        now_s += waits[-1]
        circuit.began()
        circuit.failed(now_s, probe=True)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    circuit.began()
    circuit.answered(probe=True)
    assert circuit.is_closed
    for _ in range(5):
        circuit.failed(now_s, probe=False)
    assert circuit.reopen_in_s(now_s) == 5.0


@pytest.mark.parametrize(("unit_random", "wait_s"), [(0.0, 4.0), (0.75, 5.5)])
def test_waits_are_spread_by_a_fifth(unit_random: float, wait_s: float) -> None:
    circuit = Circuit(lambda: unit_random)
    for _ in range(5):
        circuit.failed(0.0, probe=False)
    assert circuit.reopen_in_s(0.0) == pytest.approx(wait_s)


def test_failures_of_attempts_that_began_before_it_opened_are_not_counted() -> None:
    circuit = opened()
    for _ in range(7):
        circuit.failed(4.0, probe=False)
    assert circuit.reopen_in_s(4.0) == 1.0
    circuit.began()
    circuit.failed(6.0, probe=False)
    assert circuit.state(6.0) is CircuitState.HALF_OPEN


def test_a_late_answer_of_an_earlier_attempt_closes_it() -> None:
    circuit = opened()
    circuit.answered(probe=False)
    assert circuit.is_closed


def test_a_probe_that_fails_after_a_late_answer_is_a_failure_like_any_other() -> None:
    circuit = opened()
    assert probe(circuit)
    circuit.answered(probe=False)
    circuit.failed(6.0, probe=True)
    assert not circuit.is_probing
    assert circuit.is_closed
    for _ in range(4):
        circuit.failed(6.0, probe=False)
    assert circuit.state(6.0) is CircuitState.OPEN


def test_a_cancelled_probe_leaves_its_place_and_changes_nothing_else() -> None:
    circuit = opened()
    assert probe(circuit)
    circuit.cancelled(probe=True)
    assert not circuit.is_probing
    assert circuit.state(6.0) is CircuitState.HALF_OPEN
    circuit.cancelled(probe=False)
    assert circuit.state(6.0) is CircuitState.HALF_OPEN
