"""`simulate`: pushes a gateway's traffic to an ingest address at a given rate, and says what became of it.

Open loop: a push is due at its instant whether or not earlier ones were answered, as with a real gateway. At most `MAX_IN_FLIGHT` are
under way; what is due beyond that is counted as not sent, never queued.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from worker.adapters.clock import utc_now
from worker.adapters.http_push import HttpPush, pushing
from worker.commands.reaching import reach
from worker.domain.catalog import Catalog, Instance
from worker.domain.errors import ConfigurationError
from worker.fake_gateway.traffic import Push, Sender, Traffic

MAX_IN_FLIGHT = 256
REMEMBERED = 1_000
"""Among so many of the last pushes the next duplicate is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`rate` in events per second, `duplicates` the share of pushes that repeat an earlier one (0 to 1), `url` of the worker."""

    gateway: str
    rate: float
    seconds: float
    duplicates: float
    seed: int
    url: str
    senders: tuple[tuple[str, Sender], ...] = field(repr=False)
    """Instance ids, and who each is at the gateway."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the pushes so far; `accepted` and `duplicates` are events, the rest requests."""

    pushed: int = 0
    accepted: int = 0
    duplicates: int = 0
    unanswered: int = 0
    not_sent: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not (self.refused or self.unanswered or self.not_sent)


def senders(catalog: Catalog, gateway: str, wanted: str, secret: str | None) -> tuple[tuple[str, Sender], ...]:
    """The instances to play: `wanted` is how many of the declared ones, or their ids with commas between. Raises `ConfigurationError`."""
    known = [i for i in catalog.instances.values() if i.gateway == gateway]
    if wanted.isdecimal() and int(wanted) > 0:
        chosen: Sequence[Instance] = known[: int(wanted)]
    else:
        ids = {name.strip() for name in wanted.split(",")}
        chosen = [i for i in known if i.id in ids]
    if not chosen:
        declared = ", ".join(i.id for i in known) or "none"
        raise ConfigurationError([f"--instances: {wanted}: allowed: a number, or ids of declared {gateway} instances ({declared})"])
    return tuple((i.id, Sender(gateway_instance=i.gateway_instance, secret=secret or next(iter(i.ingest_secrets), None))) for i in chosen)


async def simulate(plan: Plan) -> Tally:
    """Runs the plan, with a progress bar on a terminal, and prints a summary. Raises `ConfigurationError`, `DependencyUnreachable`."""
    await reach(plan.url)
    tally = Tally()
    total = max(1, round(plan.rate * plan.seconds))
    console = Console(file=sys.stdout)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        console=console,
    )
    bar.disable = not console.is_terminal
    with bar:
        task = bar.add_task(plan.gateway, total=total)
        async with pushing(connections=MAX_IN_FLIGHT) as client:
            await _push_all(plan, total, tally, client, lambda: bar.advance(task))
    console.print(summary(plan, tally))
    return tally


async def _push_all(plan: Plan, total: int, tally: Tally, client: HttpPush, advance: Callable[[], None]) -> None:
    pushes = _Pushes(plan)
    slots = anyio.Semaphore(MAX_IN_FLIGHT)
    begun_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(total):
            await anyio.sleep_until(begun_s + number / plan.rate)
            try:
                slots.acquire_nowait()
            except anyio.WouldBlock:
                tally.not_sent += 1
            else:
                tasks.start_soon(_push, client, pushes.next_one(), tally, slots)
            advance()


class _Pushes:
    """Chooses the instance, and now and then repeats itself."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._traffic = Traffic(plan.gateway, plan.seed)
        self._chance = random.Random(plan.seed)  # noqa: S311 - a simulation
        self._last: deque[tuple[str, Push]] = deque(maxlen=REMEMBERED)

    def next_one(self) -> tuple[str, Push]:
        """The URL and the request."""
        if self._last and self._chance.random() < self._plan.duplicates:
            return self._chance.choice(self._last)
        instance_id, sender = self._chance.choice(self._plan.senders)
        made = (f"{self._plan.url}/ingest/{self._plan.gateway}/{instance_id}", self._traffic.next_push(sender, utc_now().timestamp()))
        self._last.append(made)
        return made


async def _push(client: HttpPush, request: tuple[str, Push], tally: Tally, slots: anyio.Semaphore) -> None:
    url, push = request
    try:
        reply = await client.ask(url, push.body, push.headers)
    finally:
        slots.release()
    tally.pushed += 1
    if reply is None:
        tally.unanswered += 1
        return
    told = _told(reply.body)
    if reply.status in {200, 202}:
        tally.accepted += int(told.get("accepted", 0))
        tally.duplicates += int(told.get("duplicates", 0))
    else:
        tally.refused[f"{reply.status} {told.get('code', '')}".strip()] += 1


def _told(body: bytes) -> dict[str, str | int]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def summary(plan: Plan, tally: Tally) -> Table:
    table = Table(title=f"{plan.gateway}, {len(plan.senders)} instances, seed {plan.seed}", show_header=False)
    table.add_row("requests answered or given up", str(tally.pushed))
    table.add_row("events accepted", str(tally.accepted))
    table.add_row("events known already (duplicates)", str(tally.duplicates))
    for answer, times in sorted(tally.refused.items()):
        table.add_row(f"refused: {answer}", str(times))
    if tally.unanswered:
        table.add_row("without an answer", str(tally.unanswered))
    if tally.not_sent:
        table.add_row(f"not sent: {MAX_IN_FLIGHT} were under way", str(tally.not_sent))
    return table
