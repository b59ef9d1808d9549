"""Journal → webhook: the engine, the engine without its transport, and the straightforward worker, slice by slice in turn."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import uvloop

from benchmarks.load import SHARDS, catalog_of, prefill
from benchmarks.measuring import Figure, figure, ratio, subject
from benchmarks.reference import prefill_reference
from benchmarks.sink import sink
from benchmarks.subjects import WEBHOOKS
from tests.real_redis import real_redis
from worker.adapters.redis_store import open_redis_store

SUBJECTS = ("engine", "null", "reference", "lean")


@dataclass(slots=True)
class _Slices:
    """One subject's slices, in order."""

    cpu_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)

    def add(self, events: int, told: dict[str, Any]) -> None:
        self.cpu_us.append(told["cpu_s"] / events * 1e6)
        self.per_s.append(events / told["wall_s"])


def measure(*, rounds: int, events: int) -> tuple[str, list[Figure]]:
    """A title and the figures of `rounds` slices of `events` each, after one round that is not counted."""
    slices = {name: _Slices() for name in SUBJECTS}
    with sink() as endpoint, real_redis(appendonly="no") as redis, ExitStack() as children:
        urls = {name: f"{redis.url}?db={number}" for number, name in enumerate(SUBJECTS)}
        subjects = {name: children.enter_context(subject("subjects", name, urls[name], endpoint.fast_url)) for name in SUBJECTS}
        for number in range(1 + rounds):
            for name, child in subjects.items():
                uvloop.run(_fill(name, urls[name], number * events, events))
                told = child.ask("run", events)
                if told.get("parked") or told.get("dead"):
                    print(f"  {name}: {told['parked']} parked, {told['dead']} dead in round {number}", file=sys.stderr)
                if number:
                    slices[name].add(events, told)
    title = f"Journal → webhook, 1 KB events, {WEBHOOKS} webhooks; {rounds} rounds of {events} events; sink in {endpoint.made_of}"
    return title, _figures(slices)


async def _fill(name: str, url: str, first: int, count: int) -> None:
    catalog = catalog_of([""] * WEBHOOKS)
    if name in {"reference", "lean"}:
        await prefill_reference(url, catalog, first, count)
        return
    async with open_redis_store(url, shards=SHARDS) as store:
        await prefill(store, catalog, first, count)


def _figures(slices: dict[str, _Slices]) -> list[Figure]:
    engine, null, reference, lean = (slices[name] for name in SUBJECTS)
    return [
        figure("everything but the transport", "µs CPU/event", null.cpu_us, "goal ≤ 30"),
        figure("whole path", "µs CPU/event", engine.cpu_us),
        figure("straightforward reference", "µs CPU/event", reference.cpu_us),
        ratio("whole path ÷ reference", engine.cpu_us, reference.cpu_us, "goal ≤ 0.5"),
        figure("the reference without spans, on uvloop", "µs CPU/event", lean.cpu_us),
        ratio("whole path ÷ that one", engine.cpu_us, lean.cpu_us),
        figure("whole path, as the two cores let it", "events/s", engine.per_s),
        figure("reference, as the two cores let it", "events/s", reference.per_s),
    ]
