"""`python -m benchmarks`: measures what is asked for, prints tables, leaves a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import backlog, ingest, order, path, processes, sockets
from benchmarks.measuring import Figure, table

Bench = Callable[[], tuple[str, list[Figure]]]


def main() -> None:
    asked = _arguments()
    benches: dict[str, Bench] = {
        "path": lambda: path.measure(rounds=asked.rounds, events=asked.events),
        "order": lambda: order.measure(rounds=asked.rounds, events=asked.events),
        "ingest": lambda: ingest.measure(rounds=asked.rounds),
        "backlog": lambda: backlog.measure(events=asked.backlog),
        "processes": lambda: processes.measure(rounds=asked.rounds),
        "sockets": lambda: sockets.measure(rounds=asked.rounds, instances=asked.instances),
    }
    told = {}
    for name in [asked.only] if asked.only else benches:
        title, figures = benches[name]()
        print(table(title, figures), flush=True)
        told[name] = {"title": title, "figures": [asdict(f) for f in figures]}
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(
        json.dumps({"at": datetime.now(UTC).isoformat(), "machine": _machine(), "benches": told}, indent=1, ensure_ascii=False)
    )
    print(f"\nwritten to {asked.json}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        choices=["path", "order", "ingest", "backlog", "processes", "sockets"],
        help="one of the six; all of them where nothing is said",
    )
    parser.add_argument("--rounds", type=int, default=5, help="slices of each subject")
    parser.add_argument("--events", type=int, default=6_000, help="per slice")
    parser.add_argument("--backlog", type=int, default=40_000, help="events that wait at the start; the goal speaks of 1 000 000")
    parser.add_argument("--instances", type=int, default=5_000, help="of the idle worker that holds a websocket for each")
    parser.add_argument("--json", type=Path, default=Path(".worker/bench.json"))
    return parser.parse_args()


def _machine() -> dict[str, object]:
    return {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "system": platform.system()}


if __name__ == "__main__":
    main()
