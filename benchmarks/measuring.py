"""Slices that take turns, and what is said about them: medians, spreads, ratios of the same round.

Absolute figures of a shared machine move by half within an hour; two slices that follow each other do not. So every comparison is a
ratio within a round, and the figure is the median over the rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table: the median over the rounds, and the range of the middle eight tenths."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    goal: str = ""


def figure(name: str, unit: str, values: Sequence[float], goal: str = "") -> Figure:
    ordered = sorted(values)
    cut = len(ordered) // 10
    return Figure(name=name, unit=unit, median=median(ordered), low=ordered[cut], high=ordered[-1 - cut], rounds=len(ordered), goal=goal)


def ratio(name: str, of: Sequence[float], to: Sequence[float], goal: str = "") -> Figure:
    """Round by round."""
    return figure(name, "", [a / b for a, b in zip(of, to, strict=True)], goal)


def table(title: str, figures: Sequence[Figure]) -> str:
    rows = [f"\n{title}", f"  {'':<58} {'median':>10}  {'p10 – p90':>19}  rounds"]
    for f in figures:
        spread = f"{f.low:,.2f} – {f.high:,.2f}"
        name = f"{f.name} [{f.unit}]" if f.unit else f.name
        rows.append(f"  {name:<58} {f.median:>10,.2f}  {spread:>19}  {f.rounds:>6}  {f.goal}".rstrip())
    return "\n".join(rows)


class Subject:
    """A child process that answers one line of JSON for each line it is told (`subjects.py`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.hello = self._heard()
        """Its first line: `ready`, and what else it has to say."""

    def ask(self, *words: object) -> dict[str, Any]:
        """Raises `RuntimeError` when the child has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._heard())
        return answer

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a measured process ended with code {self._process.wait()}; its own words stand above")
        return line


@contextmanager
def subject(module: str, *arguments: str) -> Iterator[Subject]:
    """`python -m benchmarks.<module> …`, from its first line (`ready`) on; ended with its standard input."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Subject(process)
