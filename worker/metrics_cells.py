"""Pre-aggregated cells: counters, gauges and histograms that cost what a dictionary look-up costs. Pure, single-threaded.

Label values are bounded: closed sets, or the first `limit` values seen; whatever comes beyond is `other`. A gauge asks its
source when it is read, and where it has more values than the limit the worst are shown and the rest folded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

LABEL_LIMIT = 1_000
OTHER = "other"

LabelValues: TypeAlias = tuple[str, ...]
GaugeSource: TypeAlias = Callable[[], float | Mapping[LabelValues, float]]


@dataclass(frozen=True, slots=True, kw_only=False)
class Label:
    """A label's name and which values it may take: `closed` names them all; else the first `limit` seen."""

    name: str
    closed: tuple[str, ...] = ()
    limit: int = 0


class Fold(Enum):
    """How values beyond the limit become one: counts add up, of ages and states the maximum is shown."""

    SUM = "sum"
    MAX = "max"


@dataclass(slots=True)
class Spread:
    """One cell of a histogram: `counts[i]` of values ≤ `bounds[i]` and above the bound before; the last: above all."""

    counts: list[int]
    total: float = 0.0


class Cell:
    """One cell of a histogram, held on to by whoever records into it often: no look-up, no label."""

    __slots__ = ("_bounds", "_spread")

    def __init__(self, bounds: tuple[float, ...], spread: Spread) -> None:
        self._bounds = bounds
        self._spread = spread

    def record(self, value: float) -> None:
        spread = self._spread
        spread.counts[bisect_left(self._bounds, value)] += 1
        spread.total += value


class _Labelled:
    """What counters and histograms share: the admission of label values."""

    __slots__ = ("_seen", "help", "labels", "name", "unit")

    def __init__(self, name: str, help_text: str, labels: tuple[Label, ...], unit: str) -> None:
        self.name = name
        self.help = help_text
        self.labels = labels
        self.unit = unit
        self._seen: tuple[set[str], ...] = tuple(set(label.closed) for label in labels)

    def _admitted(self, values: LabelValues) -> LabelValues:
        """The values as they are shown. Raises `ValueError` when their number is not that of the labels."""
        return tuple(self._shown(label, seen, value) for label, seen, value in zip(self.labels, self._seen, values, strict=True))

    @staticmethod
    def _shown(label: Label, seen: set[str], value: str) -> str:
        if value in seen:
            return value
        if label.closed or len(seen) >= label.limit:
            return OTHER
        seen.add(value)
        return value


class Counter(_Labelled):
    """A sum that only rises."""

    __slots__ = ("cells",)

    def __init__(self, name: str, help_text: str, labels: tuple[Label, ...], *, unit: str = "") -> None:
        super().__init__(name, help_text, labels, unit)
        self.cells: dict[LabelValues, float] = {} if labels else {(): 0.0}

    def add(self, *values: str, amount: float = 1.0) -> None:
        """`values` in the order of the labels."""
        cells = self.cells
        if values not in cells:
            values = self._admitted(values)
            cells.setdefault(values, 0.0)
        cells[values] += amount


class Histogram(_Labelled):
    """How values spread over fixed buckets."""

    __slots__ = ("bounds", "cells")

    def __init__(self, name: str, help_text: str, labels: tuple[Label, ...], bounds: tuple[float, ...], *, unit: str = "seconds") -> None:
        super().__init__(name, help_text, labels, unit)
        self.bounds = bounds
        self.cells: dict[LabelValues, Spread] = {}

    def record(self, value: float, *values: str) -> None:
        """`value` in the histogram's unit, `values` in the order of the labels."""
        cell = self.cells.get(values)
        if cell is None:
            cell = self._new_cell(values)
        cell.counts[bisect_left(self.bounds, value)] += 1
        cell.total += value

    def cell(self, *values: str) -> Cell:
        """The cell of these label values, to be kept by the caller."""
        found = self.cells.get(values)
        return Cell(self.bounds, self._new_cell(values) if found is None else found)

    def _new_cell(self, values: LabelValues) -> Spread:
        return self.cells.setdefault(self._admitted(values), Spread([0] * (len(self.bounds) + 1)))


@dataclass(slots=True, kw_only=False)
class Gauge:
    """A value read from its source when somebody looks. Without a source it is not shown."""

    name: str
    help: str
    labels: tuple[Label, ...] = ()
    unit: str = ""
    fold: Fold = Fold.MAX
    _source: GaugeSource | None = field(default=None, repr=False)

    def watch(self, source: GaugeSource) -> None:
        """`source` answers a number, or with labels one number per tuple of label values; cheap, without side effects."""
        self._source = source

    def read(self) -> dict[LabelValues, float]:
        """What the source says now, at most the worst `LABEL_LIMIT` values; the rest folded into `other`."""
        if self._source is None:
            return {}
        found = self._source()
        if isinstance(found, int | float):
            return {(): float(found)}
        if len(found) <= LABEL_LIMIT:
            return dict(found)
        worst_first = sorted(found.items(), key=lambda item: item[1], reverse=True)
        rest = [value for _, value in worst_first[LABEL_LIMIT:]]
        folded = sum(rest) if self.fold is Fold.SUM else max(rest)
        return {**dict(worst_first[:LABEL_LIMIT]), (OTHER,) * len(self.labels): folded}


Instrument: TypeAlias = Counter | Gauge | Histogram
