"""The Prometheus text exposition of the worker's cells. Pure, but for the gauges' sources that it asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from worker.metrics_cells import Counter, Gauge, Histogram, Instrument, Label, LabelValues

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_KINDS: dict[type[Instrument], str] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def prometheus_text(instruments: Iterable[Instrument]) -> str:
    """One block per instrument, also where it has no value yet. A gauge whose source fails is left out and named in a comment."""
    return "".join(f"{line}\n" for instrument in instruments for line in _block(instrument))


def exposed_name(instrument: Instrument) -> str:
    """Dots become underscores; the unit and, for counters, `_total` come last."""
    parts = [instrument.name.replace(".", "_")]
    if instrument.unit and not parts[0].endswith(f"_{instrument.unit}"):
        parts.append(instrument.unit)
    if isinstance(instrument, Counter):
        parts.append("total")
    return "_".join(parts)


def _block(instrument: Instrument) -> Iterator[str]:
    name = exposed_name(instrument)
    yield f"# HELP {name} {instrument.help}"
    yield f"# TYPE {name} {_KINDS[type(instrument)]}"
    if isinstance(instrument, Histogram):
        yield from _histogram(name, instrument)
    elif isinstance(instrument, Counter):
        yield from _values(name, instrument.labels, instrument.cells)
    else:
        yield from _gauge(name, instrument)


def _gauge(name: str, gauge: Gauge) -> Iterator[str]:
    try:
        values = gauge.read()
    except Exception as exc:  # noqa: BLE001 -- one broken source must not hide all the others
        yield f"# {name} could not be read: {type(exc).__name__}"
        return
    yield from _values(name, gauge.labels, values)


def _values(name: str, labels: tuple[Label, ...], cells: dict[LabelValues, float]) -> Iterator[str]:
    for values, value in cells.items():
        yield f"{name}{_braces(labels, values)} {value:.17g}"


def _histogram(name: str, histogram: Histogram) -> Iterator[str]:
    for values, cell in histogram.cells.items():
        running = list(accumulate(cell.counts))
        for bound, count in zip((*(f"{bound:g}" for bound in histogram.bounds), "+Inf"), running, strict=True):
            le = f'le="{bound}"'
            yield f"{name}_bucket{_braces(histogram.labels, values, le)} {count}"
        yield f"{name}_sum{_braces(histogram.labels, values)} {cell.total:.17g}"
        yield f"{name}_count{_braces(histogram.labels, values)} {running[-1]}"


def _braces(labels: tuple[Label, ...], values: LabelValues, *more: str) -> str:
    pairs = [f'{label.name}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True)]
    inside = ",".join([*pairs, *more])
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
