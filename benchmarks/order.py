"""What order per chat costs: one webhook with `ordering: chat` beside the same without, over the same events, slice by slice in turn."""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import ExitStack

import uvloop

from benchmarks.load import SHARDS, prefill, talk_catalog
from benchmarks.measuring import Figure, figure, ratio, subject
from benchmarks.sink import sink
from tests.real_redis import real_redis
from worker.adapters.redis_store import open_redis_store

CHATS = 200
KINDS = {"null": "everything but the transport", "engine": "whole path", "slow": "an endpoint that takes 20 ms, no transport"}
SUBJECTS = [f"{kind}-{ordering}" for kind in KINDS for ordering in ("none", "chat")]


def measure(*, rounds: int, events: int) -> tuple[str, list[Figure]]:
    """A title and the figures of `rounds` slices of `events` each, after one round that is not counted."""
    cpu_us, per_s = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with sink() as endpoint, real_redis(appendonly="no") as redis, ExitStack() as children:
        urls = {name: f"{redis.url}?db={number}" for number, name in enumerate(SUBJECTS)}
        subjects = {name: children.enter_context(subject("subjects", name, urls[name], endpoint.fast_url)) for name in SUBJECTS}
        for number in range(1 + rounds):
            # Who goes first changes: what warms or cools the machine within a round is nobody's in particular.
            for name in SUBJECTS if number % 2 else reversed(SUBJECTS):
                uvloop.run(_fill(urls[name], number * events, events))
                told = subjects[name].ask("run", events)
                if told["parked"] or told["dead"]:
                    print(f"  {name}: {told['parked']} parked, {told['dead']} dead in round {number}", file=sys.stderr)
                if number:
                    cpu_us[name].append(told["cpu_s"] / events * 1e6)
                    per_s[name].append(events / told["wall_s"])
    title = f"One webhook, {CHATS} chats, 1 KB events: in order ÷ without; {rounds} rounds of {events} events; sink in {endpoint.made_of}"
    return title, [each for kind, words in KINDS.items() for each in _figures(kind, words, cpu_us, per_s)]


async def _fill(url: str, first: int, count: int) -> None:
    async with open_redis_store(url, shards=SHARDS) as store:
        await prefill(store, talk_catalog("", ordering="none"), first, count, CHATS)


def _figures(kind: str, words: str, cpu_us: dict[str, list[float]], per_s: dict[str, list[float]]) -> list[Figure]:
    loose, ordered = f"{kind}-none", f"{kind}-chat"
    return [
        figure(f"{words}: without order", "events/s", per_s[loose]),
        figure(f"{words}: in order", "events/s", per_s[ordered]),
        ratio(f"{words}: in order ÷ without, events/s", per_s[ordered], per_s[loose], "goal ≥ 0.9"),
        ratio(f"{words}: without ÷ in order, CPU per event", cpu_us[loose], cpu_us[ordered]),
    ]
