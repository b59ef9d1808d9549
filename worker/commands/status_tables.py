"""The page `/status` as tables for people. Pure.

What a worker does not say (an older one, or one that is still starting) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

NOTHING = "-"
"""In a cell: there is none, or nobody here knows."""
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
KIB = 1_024


class Section(NamedTuple):
    """One table: every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Figure(NamedTuple):
    """One row: its words, where it stands on the page, how it is written, and where its limit stands."""

    words: str
    path: str
    shown: Callable[[Any], str]
    limit: str = ""


def sections(status: Mapping[str, Any]) -> list[Section]:
    """In the order in which a person asks: who is this, who else is there, who holds what, what is under way, what waits."""
    found = [
        Section("worker", ("what", "value"), list(_this_worker(status))),
        Section("workers", ("", "owner", "task", "family", "revision", "zone", "state", "shards"), list(_workers(status))),
        Section("shards", ("shard", "owner", "token", "since", "valid for"), list(_shards(status))),
        Section("brokers", ("broker", "gateway", "circuit", "failures in a row", "last cause"), list(_brokers(status))),
        Section("sockets", ("what", "value"), list(_flat(status.get("sockets")))),
        *(Section(title, ("what", "value"), list(_figures(status, figures))) for title, figures in FIGURES.items()),
        Section("last drain", ("what", "value"), list(_last_drain(status.get("last_drain")))),
    ]
    return [section for section in found if section.rows]


def tables(found: Sequence[Section]) -> RenderableType:
    """For a terminal. In a narrow one cells are folded, never cut."""
    drawn: list[RenderableType] = []
    for section in found:
        table = Table(
            title=section.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
        )
        for column in section.columns:
            table.add_column(column, overflow="fold")
        for row in section.rows:
            table.add_row(*map(Text, row))
        drawn += [table, ""]
    return Group(*drawn)


def plain(found: Sequence[Section]) -> str:
    """For everything else: columns two blanks apart, a line per row, however long."""
    blocks = []
    for section in found:
        lines = [section.columns, *section.rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
        blocks.append("\n".join([section.title, *told]))
    return "\n\n".join(blocks)


# -- the cells ---------------------------------------------------------------------------------------------------------


def _this_worker(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    registry, process = status.get("registry", {}), status.get("process", {})
    told = {"role": registry.get("role", "starting"), "owner": registry.get("owner"), "shutdown": status.get("shutdown", {}).get("phase")}
    yield from ((name, str(value)) for name, value in told.items() if value is not None)
    yield from _figures(status, PROCESS)
    if process.get("of", 1) > 1:
        yield "process", f"{process['index']} of 0 to {process['of'] - 1}"


def _workers(status: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in status.get("workers", []):
        state = "draining" if row.get("draining") else "ready" if row.get("ready") else "starting"
        names = (str(row.get(name) or NOTHING) for name in ("owner", "task", "family", "revision", "zone"))
        owner, task, *rest = names
        yield ("*" if row.get("me") else "", owner, task.rpartition("/")[2], *rest, state, str(row.get("shards", NOTHING)))


def _shards(status: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in status.get("shards", []):
        valid_for_s = row.get("validForS")
        shown = (str(row.get(name) or NOTHING) for name in ("owner", "token", "since"))
        yield (str(row.get("shard", NOTHING)), *shown, NOTHING if valid_for_s is None else seconds(valid_for_s))


def _brokers(status: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in status.get("brokers", []):
        shown = (row.get(name) for name in ("id", "gateway", "circuit", "failures_in_row", "last_cause"))
        yield tuple(NOTHING if value is None else str(value) for value in shown)


def _last_drain(drain: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if drain is None:
        return
    for name in ("at", "owner", "reason", "successor"):
        if drain.get(name) is not None:
            yield name, str(drain[name])
    if "ms" in drain:
        yield "took", seconds(drain["ms"] / 1_000)
    yield from _flat({name: drain[name] for name in ("during", "spilled", "ledger", "receipts", "exit_code") if name in drain})


def _flat(facts: object, before: str = "") -> Iterator[tuple[str, str]]:
    """Whatever shape a part gives its statistics: one row per figure, and per thing where they are listed with their own."""
    if not isinstance(facts, Mapping):
        return
    for name, value in facts.items():
        words = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{words} ")
        elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            yield from ((words, ", ".join(f"{key} {told}" for key, told in one.items())) for one in value)
        elif isinstance(value, list):
            yield words, count(len(value))
        else:
            yield words, count(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _figures(status: Mapping[str, Any], figures: Sequence[Figure]) -> Iterator[tuple[str, str]]:
    for figure in figures:
        value, limit = _at(status, figure.path), _at(status, figure.limit)
        if value is not None:
            yield figure.words, figure.shown(value) + ("" if limit is None else f" of {figure.shown(limit)}")


def _at(status: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - whatever stands there
    """What stands at `a.b.c`; None where nothing does."""
    value: Any = status
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def count(value: float) -> str:
    return f"{value:,}"


def seconds(value: float) -> str:
    """`8.9 s`, `3 min 20 s`, `2 h 5 min`, `4 d 7 h`."""
    for unit_s, unit, smaller_s, smaller in ((DAY_S, "d", HOUR_S, "h"), (HOUR_S, "h", MINUTE_S, "min"), (MINUTE_S, "min", 1, "s")):
        if value >= unit_s:
            return f"{int(value // unit_s)} {unit} {int(value % unit_s // smaller_s)} {smaller}"
    return f"{value:.1f} s"


def milliseconds(value: float) -> str:
    return f"{value:,} ms"


def size(value: float) -> str:
    """`312 B`, `2.3 KiB`, `64.0 MiB`."""
    shown = float(value)
    for unit in ("B", "KiB", "MiB"):
        if shown < KIB:
            return f"{shown:.0f} B" if unit == "B" else f"{shown:.1f} {unit}"
        shown /= KIB
    return f"{shown:.1f} GiB"


def names(value: Sequence[str]) -> str:
    return ", ".join(value) or "none"


PROCESS = (
    Figure("version", "process.version", str),
    Figure("process id", "process.pid", str),
    Figure("up", "process.uptime_s", seconds),
    Figure("cpu time", "process.cpu_s", seconds),
    Figure("memory at most", "process.memory_peak_bytes", size),
    Figure("loop lag, last 15 to 30 s", "loop_lag_ms", milliseconds),
    Figure("loop lag at worst", "loop_lag_max_ms", milliseconds),
    Figure("clock error at most", "ecs.clock_error_ms", milliseconds),
)
FIGURES = {
    "buffers and pipeline": (
        Figure("accepted", "ingest.events", count),
        Figure("duplicates", "ingest.duplicates", count),
        Figure("refused", "ingest.refused", count),
        Figure("door", "door.state", str),
        Figure("events in memory", "event_buffer.events", count, limit="event_buffer.capacity_events"),
        Figure("bytes in memory", "event_buffer.bytes", size),
        Figure("attempts under way", "pipeline.in_flight", count, limit="pipeline.bulkheads.max_in_flight"),
        Figure("oldest event under way", "pipeline.oldest_age_s", seconds),
        Figure("delivered", "settling.delivered", count),
        Figure("suspect webhooks", "pipeline.bulkheads.webhooks_suspect", count),
        Figure("open circuits", "pipeline.bulkheads.circuits_open", count),
        Figure("paused webhooks", "pipeline.paused_webhooks", names),
        Figure("disabled webhooks", "pipeline.disabled_webhooks", names),
    ),
    "retries and journal": (
        Figure("waiting for a retry", "retry_queue.depth", count),
        Figure("parked", "settling.parked", count),
        Figure("dead letters", "settling.dead", count),
        Figure("read from the journal", "journal.events_read", count),
        Figure("oldest neither delivered nor parked", "journal.oldest_age_s", seconds),
        Figure("undelivered in the store", "door.waiting_events", count, limit="door.max_events"),
        Figure("bytes of them", "door.waiting_bytes", size, limit="door.max_bytes"),
    ),
}
"""What is shown of the rest."""
