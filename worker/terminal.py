"""What a person at a terminal sees: one live line while the worker works, the phases while it drains.

Fed by a callable that answers plain facts; decides nothing, and shows nothing where there is no terminal. The picture is rendered
here to text and stands as the footer of `worker.logs.Lines`, which keeps it below the log.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.lifecycle import monotonic_s
from worker.logs import Lines

REFRESH_S = 0.5
_SMOOTHING = 0.4
_WIDEST = 160
_COLUMNS = 4
_MARGIN = 3
"""For the cursor, and the ^C that a terminal writes behind the footer: a line that wraps because of it could not be erased."""


async def show_live(lines: Lines, statistics: Callable[[], Mapping[str, object]]) -> None:
    """Shows `statistics()` twice a second until cancelled; returns at once where `lines` is no terminal.

    Reads the keys `role`, `shards`, `accepted`, `delivered` (counters), `buffered`, `in_flight`, `retry_queue`, and while draining
    `phase`, `phases` (`[{name, ms, cut}]`), `left_s`, `budget_s`; what is missing is not shown.
    """
    if not lines.is_terminal:
        return
    rates = Rates()
    try:
        while True:
            facts = statistics()
            lines.footer(picture(facts, rates.after(facts, monotonic_s()), width=min(_WIDEST, shutil.get_terminal_size().columns)))
            await anyio.sleep(REFRESH_S)  # noqa: TID251 - how often a person looks
    finally:
        lines.footer("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Events per second, smoothed."""

    accepted: float = 0.0
    delivered: float = 0.0


class Rates:
    """Makes speeds of counters that only rise."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._seen = (0.0, 0.0)
        self._speed = Speed()

    def after(self, facts: Mapping[str, object], now_s: float) -> Speed:
        """The speeds, given the counters at `now_s`. The first look knows none."""
        seen = (_number(facts, "accepted"), _number(facts, "delivered"))
        if self._at_s is not None and now_s > self._at_s:
            span_s = now_s - self._at_s
            fresh = [max(0.0, new - old) / span_s for new, old in zip(seen, self._seen, strict=True)]
            old_speeds = (self._speed.accepted, self._speed.delivered)
            accepted, delivered = (old + _SMOOTHING * (new - old) for new, old in zip(fresh, old_speeds, strict=True))
            self._speed = Speed(accepted=accepted, delivered=delivered)
        self._at_s, self._seen = now_s, seen
        return self._speed


def picture(facts: Mapping[str, object], speed: Speed, *, width: int) -> str:
    """The footer as text with terminal colours, each line narrower than `width`. Pure."""
    shown: RenderableType = _line(facts, speed)
    if "phase" in facts:
        shown = Group(_drain(facts), shown)
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", width=max(20, width - _MARGIN), highlight=False, legacy_windows=False
    )
    console.print(shown, end="", no_wrap=True, overflow="ellipsis")
    return out.getvalue().rstrip("\n")


def _line(facts: Mapping[str, object], speed: Speed) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    role = str(facts.get("role", "starting"))
    line.append(f" {role} ", style={"active": "black on green", "draining": "black on yellow"}.get(role, "black on cyan"))
    line.append(f"  in {speed.accepted:.1f}/s  delivered {speed.delivered:.1f}/s", style="bold")
    for key, name in (("buffered", "buffered"), ("in_flight", "in flight"), ("retry_queue", "retry queue"), ("shards", "shards")):
        if key in facts:
            line.append(f"  {name} {facts[key]}")
    return line


def _drain(facts: Mapping[str, object]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for _ in range(_COLUMNS):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for phase in _phases(facts):
        cut = " cut short" if phase.get("cut") else ""
        table.add_row(Text("✓", style="green"), str(phase.get("name", "")), f"{_number(phase, 'ms'):,.0f} ms{cut}")
    budget_s, left_s = _number(facts, "budget_s"), _number(facts, "left_s")
    bar = ProgressBar(total=max(budget_s, 0.001), completed=max(0.0, budget_s - left_s), width=24)
    table.add_row(Text("▸", style="yellow"), str(facts["phase"]), bar, f"{left_s:.0f} s left")
    return table


def _phases(facts: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    phases = facts.get("phases", ())
    return phases if isinstance(phases, (list, tuple)) else ()


def _number(facts: Mapping[str, object], key: str) -> float:
    value = facts.get(key, 0)
    return float(value) if isinstance(value, (int, float)) else 0.0
