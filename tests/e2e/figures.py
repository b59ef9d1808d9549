"""What the end-to-end tests measured: a line each under `.chaos/`, and a table at the end of `make chaos`."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parents[2] / ".chaos" / "figures.jsonl"
measured: list[dict[str, object]] = []
"""Of this run, in order."""


def state(test: str, **figures: object) -> None:
    """Writes a test's figures down. Numbers are rounded for people."""
    row = {"test": test, **{name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}}
    measured.append(row)
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(json.dumps(row))


def table() -> list[str]:
    """One line per test, its figures behind its name."""
    width = max((len(str(row["test"])) for row in measured), default=0)
    return [f"{row['test']!s:<{width}}  " + "  ".join(f"{k}={v}" for k, v in row.items() if k != "test") for row in measured]
