"""`replay`: asks a worker, page by page, to deliver dead letters or past events again, at a rate, and says what became of it.

The pages are the API's (`POST /api/dead-letters/replay`, `POST /api/webhooks/{id}/replay`). Each call is repeatable, so that one without an
answer is asked again; and the place is the caller's, so that Ctrl-C ends it between two pages and `--cursor` goes on from there.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import anyio
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from worker.adapters.http_push import HttpPush, Reply, pushing
from worker.commands.reaching import reach
from worker.domain.errors import ConfigurationError, DependencyUnreachable, WorkerError
from worker.lifecycle import ExitCode

PAGE = 1_000
CALL_S = 130.0
"""A little more than the API gives itself for a call."""
TRIES = 8
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REFUSED = 1
STOPPED = 130
"""As a shell says it of what Ctrl-C ended."""
_AGAIN = frozenset({408, 429, 503})


class Refused(WorkerError):
    """Raised when the API answers that this cannot be done; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to ask. `body` without the cursor; `rate_per_s` is in it too."""

    url: str
    path: str
    key: str = field(repr=False)
    tenant: str | None
    body: Mapping[str, Any]
    cursor: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} | ({"x-tenant-id": self.tenant} if self.tenant else {})


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far it went. `cursor` None at the end: all is queued."""

    replayed: int = 0
    skipped: int = 0
    progress: float = 0.0
    cursor: str | None = None

    def __str__(self) -> str:
        return f"{self.replayed} replayed, {self.skipped} skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The words of the command line; `wanted` are fields of the API's filter."""

    events: bool
    wanted: Mapping[str, str | None]
    to_webhook: str | None
    rate_per_s: int
    cursor: str | None


def plan_of(url: str, key: str | None, tenant: str | None, asked: Asked) -> Plan:
    """Raises `ConfigurationError` where a word is missing or has no meaning here."""
    wanted = {name: value for name, value in asked.wanted.items() if value is not None}
    needed = {"--key": (key, "a key of the tenant, or WORKER_HTTP__ADMIN_KEY")}
    if asked.events:
        needed["--webhook"] = (wanted.get("webhookId"), "the webhook's id")
        needed["--since"] = (wanted.get("since"), "RFC 3339, as 2026-11-22T07:45:38Z")
    faults = [f"{name}: not given: allowed: {what}" for name, (given, what) in needed.items() if given is None]
    if asked.events:
        senseless = {"--instance": wanted.get("instanceId"), "--reason": wanted.get("reason"), "--to-webhook": asked.to_webhook}
        faults += [f"{name}: not with --events: allowed: with --dead-letters" for name, given in senseless.items() if given is not None]
    if faults or key is None:
        raise ConfigurationError(faults)
    body: dict[str, Any] = {"ratePerS": asked.rate_per_s, "limit": PAGE}
    if asked.events:
        path = f"/api/webhooks/{quote(wanted['webhookId'], safe='')}/replay"
        body |= {name: wanted[name] for name in ("since", "until") if name in wanted}
    else:
        path = "/api/dead-letters/replay" + (f"?webhookId={quote(asked.to_webhook, safe='')}" if asked.to_webhook else "")
        body |= wanted
    return Plan(url=url, path=path, key=key, tenant=tenant, body=body, cursor=asked.cursor)


def replay_until_told(plan: Plan) -> int:
    """Runs the plan and says what became of it. Answers the exit code. Raises `DependencyUnreachable`."""
    tally = Tally(cursor=plan.cursor)
    try:
        anyio.run(replay, plan, tally)
    except KeyboardInterrupt:
        print(f"stopped: {tally}; what was replayed is delivered. Go on with:{_going_on(tally)}")
        return STOPPED
    except (Refused, DependencyUnreachable) as error:
        print(error, file=sys.stderr)
        if tally.cursor is not None:
            print(f"{tally} before that; go on with:{_going_on(tally)}", file=sys.stderr)
        return ExitCode.UNREACHABLE if isinstance(error, DependencyUnreachable) else REFUSED
    print(tally)
    return ExitCode.CLEAN


def _going_on(tally: Tally) -> str:
    return f" --cursor {tally.cursor}" if tally.cursor else " the same command"


async def replay(plan: Plan, tally: Tally) -> None:
    """Until the last page is queued; `tally` is kept up to date. Raises `Refused`, `DependencyUnreachable`. Cancelling it loses nothing."""
    await reach(plan.url)
    console = Console(file=sys.stdout)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console, transient=True
    )
    bar.disable = not console.is_terminal
    with bar:
        task = bar.add_task("asking", total=1.0)
        async with pushing(connections=1, timeout_s=CALL_S) as client:
            async for _ in _pages(plan, tally, client, console):
                bar.update(task, completed=tally.progress, description=str(tally))
                if bar.disable:
                    console.print(f"{tally} ({tally.progress:.0%})")


async def _pages(plan: Plan, tally: Tally, client: HttpPush, console: Console) -> AsyncIterator[None]:
    while True:
        began_s = anyio.current_time()
        body = plan.body if tally.cursor is None else {**plan.body, "cursor": tally.cursor}
        told = await _ask(plan, client, orjson.dumps(body), console)
        data, meta = told["data"], told["meta"]
        tally.replayed += data["replayed"]
        tally.skipped += data["skipped"]
        tally.progress, tally.cursor = meta["progress"], meta["nextCursor"]
        yield
        if tally.cursor is None:
            return
        await anyio.sleep_until(began_s + meta["resumeAfterS"])


async def _ask(plan: Plan, client: HttpPush, body: bytes, console: Console) -> dict[str, Any]:
    """One page, asked again while nobody answers or the worker asks for patience."""
    pause_s, last = FIRST_PAUSE_S, "no answer"
    for _ in range(TRIES):
        reply = await client.ask(plan.url + plan.path, body, plan.headers)
        if reply is not None and reply.status not in _AGAIN:
            return _page(reply)
        last = _why(reply)
        console.print(f"{last}; asked again in {pause_s:g} s", markup=False)
        await anyio.sleep_until(anyio.current_time() + pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
    next_step = "start the worker, or say where it listens with --url or http.port (WORKER_HTTP__PORT)"
    raise DependencyUnreachable(f"{last} from {plan.url}, {TRIES} times; {next_step}")


def _page(reply: Reply) -> dict[str, Any]:
    try:
        told = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        told = None
    if reply.status == 200 and isinstance(told, dict) and "meta" in told:  # noqa: PLR2004
        return told
    raise Refused(_why(reply))


def _why(reply: Reply | None) -> str:
    if reply is None:
        return "no answer"
    try:
        error = orjson.loads(reply.body)["error"]
        return f"{reply.status} {error['code']}: {error['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{reply.status} from something that is no worker"
