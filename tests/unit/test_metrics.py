"""Metrics: bounded labels, folded gauges, and a text that Prometheus can read."""

from __future__ import annotations

import re

import pytest

from worker.metrics import DURATION_BUCKETS_S, Metrics
from worker.metrics_cells import LABEL_LIMIT, Counter, Fold, Gauge, Histogram, Label
from worker.metrics_text import prometheus_text

TENANT = Label("tenant", limit=2)
COLOUR = Label("colour", closed=("red", "green"))
_LINE = re.compile(r'^(#.*|[a-z_:][a-z0-9_:]*(\{[a-z_]+="(\\.|[^"\\])*"(,[a-z_]+="(\\.|[^"\\])*")*\})? [-+0-9.einfa]+)$')


def test_a_counter_adds_up_per_label_values() -> None:
    counter = Counter("fruits", "Fruits.", (TENANT, COLOUR))
    counter.add("acme", "red")
    counter.add("acme", "red", amount=2)
    counter.add("acme", "green")
    assert counter.cells == {("acme", "red"): 3, ("acme", "green"): 1}


def test_the_first_values_of_a_label_are_shown_and_the_rest_add_up_as_other() -> None:
    counter = Counter("fruits", "Fruits.", (TENANT,))
    for tenant in ("a", "b", "c", "d", "a"):
        counter.add(tenant)
    assert counter.cells == {("a",): 2, ("b",): 1, ("other",): 2}


def test_a_value_outside_a_closed_set_is_other() -> None:
    counter = Counter("fruits", "Fruits.", (COLOUR,))
    counter.add("5511900000001")
    assert counter.cells == {("other",): 1}


def test_the_wrong_number_of_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        Counter("fruits", "Fruits.", (TENANT, COLOUR)).add("acme")


def test_a_histogram_counts_a_value_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram("wait", "Wait.", (), (1.0, 5.0))
    for value in (0.5, 1.0, 1.1, 300.0):
        histogram.record(value)
    text = prometheus_text([histogram])
    assert 'wait_seconds_bucket{le="1"} 2\n' in text
    assert 'wait_seconds_bucket{le="5"} 3\n' in text
    assert 'wait_seconds_bucket{le="+Inf"} 4\n' in text
    assert "wait_seconds_count 4\n" in text
    assert "wait_seconds_sum 302.6" in text


def test_a_histogram_of_many_tenants_stays_small() -> None:
    histogram = Histogram("wait", "Wait.", (TENANT,), (1.0,))
    for n in range(100):
        histogram.record(0.5, f"tenant-{n}")
    assert set(histogram.cells) == {("tenant-0",), ("tenant-1",), ("other",)}
    assert sum(histogram.cells["other",].counts) == 98


@pytest.mark.parametrize(("fold", "expected"), [(Fold.SUM, 0 + 1 + 2), (Fold.MAX, 2)])
def test_a_gauge_shows_the_worst_and_folds_the_rest(fold: Fold, expected: float) -> None:
    gauge = Gauge("age", "Age.", (TENANT,), fold=fold)
    gauge.watch(lambda: {(f"t{n}",): float(n) for n in range(LABEL_LIMIT + 3)})
    values = gauge.read()
    assert len(values) == LABEL_LIMIT + 1
    assert values["other",] == expected
    assert values["t1002",] == 1002


def test_a_gauge_whose_source_fails_hides_no_other() -> None:
    broken, sound = Gauge("broken", "Broken."), Gauge("sound", "Sound.")
    broken.watch(lambda: 1 / 0)
    sound.watch(lambda: 7)
    text = prometheus_text([broken, sound])
    assert "sound 7\n" in text
    assert "# broken could not be read: ZeroDivisionError\n" in text


def test_label_values_are_escaped() -> None:
    counter = Counter("fruits", "Fruits.", (TENANT,))
    counter.add('a"b\\c\nd')
    assert r'fruits_total{tenant="a\"b\\c\nd"} 1' in prometheus_text([counter])


def test_names_carry_unit_and_total_last() -> None:
    metrics = Metrics()
    metrics.event_integration_duration.record(0.2, "acme", "message", "delivered")
    metrics.webhook_attempts.add("acme", "crm", "delivered")
    metrics.event_buffer_bytes.watch(lambda: 5)
    text = metrics.text()
    assert 'event_integration_duration_seconds_bucket{tenant="acme",event_type="message",outcome="delivered",le="300"} 1\n' in text
    assert 'webhook_attempts_total{tenant="acme",webhook="crm",outcome="delivered"} 1\n' in text
    assert "event_buffer_bytes 5\n" in text


def test_every_line_of_the_exposition_is_well_formed_and_no_name_is_declared_twice() -> None:
    metrics = Metrics()
    for instrument in metrics:
        values = [label.closed[0] if label.closed else "x" for label in instrument.labels]
        if isinstance(instrument, Histogram):
            instrument.record(0.1, *values)
        elif isinstance(instrument, Counter):
            instrument.add(*values)
        else:
            instrument.watch({tuple(values): 1.5}.copy)
    lines = metrics.text().splitlines()
    assert [line for line in lines if not _LINE.match(line)] == []
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == len(list(metrics))


def test_durations_are_told_apart_up_to_300_s() -> None:
    assert DURATION_BUCKETS_S[-1] == 300
    assert list(DURATION_BUCKETS_S) == sorted(set(DURATION_BUCKETS_S))
