"""`status`: asks a running worker for `/status` and prints it: tables on a terminal, plain columns elsewhere, or the page as it is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from rich.console import Console

from worker.adapters.http_page import NoPage, Page, read_page
from worker.commands.reaching import reach
from worker.commands.status_tables import plain, sections, tables
from worker.domain.errors import DependencyUnreachable, WorkerError
from worker.lifecycle import ExitCode

ASK_WITHIN_S = 10.0
WATCH_EVERY_S = 2.0
REFUSED = 1


class Refused(WorkerError):
    """Raised when what answers is no page of status; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The words of the command line. `key` None: none is sent."""

    url: str
    key: str | None = field(repr=False)
    raw: bool
    watch: bool


def show_status(asked: Asked) -> int:
    """Asks, prints, answers the exit code. Raises `ConfigurationError`, `DependencyUnreachable`."""
    try:
        anyio.run(_show, asked)
    except KeyboardInterrupt:
        return ExitCode.CLEAN
    except Refused as refused:
        print(refused, file=sys.stderr)
        return REFUSED
    return ExitCode.CLEAN


async def _show(asked: Asked) -> None:
    console = Console(file=sys.stdout, highlight=False)
    async for body in _pages(asked):
        if asked.raw:
            print(body.decode(), flush=True)
        elif console.is_terminal:
            if asked.watch:
                console.clear()
            console.print(tables(sections(_read(body))))
        else:
            print(plain(sections(_read(body))), flush=True)


async def _pages(asked: Asked) -> AsyncIterator[bytes]:
    """Once it has answered, a watched worker may be away, as while it is started again: said once, until it answers."""
    has_answered, said = False, ""
    while True:
        began_s = anyio.current_time()
        try:
            page = await _ask(asked)
        except (DependencyUnreachable, Refused) as exc:
            if not has_answered:
                raise
            if said != (said := f"{exc}; asked again until it answers"):
                print(said, file=sys.stderr, flush=True)
        else:
            has_answered, said = True, ""
            yield page
        if not asked.watch:
            return
        await anyio.sleep_until(began_s + WATCH_EVERY_S)


async def _ask(asked: Asked) -> bytes:
    await reach(asked.url)
    headers = {"authorization": f"Bearer {asked.key}"} if asked.key else {}
    try:
        page = await read_page(f"{asked.url}/status", within_s=ASK_WITHIN_S, headers=headers)
    except NoPage as exc:
        raise DependencyUnreachable(f"no answer from {asked.url}: {exc}; is this the address of a worker?") from exc
    if page.status == 200:  # noqa: PLR2004
        return page.body
    raise Refused(_why(page))


def _why(page: Page) -> str:
    try:
        error = orjson.loads(page.body)["error"]
        return f"{page.status} {error['code']}: {error['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{page.status} from something that is no worker"


def _read(body: bytes) -> dict[str, Any]:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict) or "process" not in status:
        raise Refused("the answer is not a worker's status; is this the address of a worker?")
    return status
