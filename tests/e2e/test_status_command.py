"""`whatsapp-worker status` beside running workers, as a whole process: what it prints where, and how it ends."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import orjson
import pytest
from aiohttp import web
from anyio import to_thread

from tests.contract.serving import serving
from tests.e2e.rig import AT_A_TERMINAL, Rig, Worker, declared, until
from worker.commands import status as status_command
from worker.commands.status import Asked, show_status
from worker.domain.errors import DependencyUnreachable

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

KEY = "the operator's key of this test"


async def status(worker: Worker, *words: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr. `environment` without `WORKER_`."""
    asked = worker.environment | {f"WORKER_{name}": value for name, value in environment.items()}
    done = await anyio.run_process([sys.executable, "-m", "worker", "status", *words], env=asked, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def table(text: str, title: str) -> list[list[str]]:
    """The rows of one table of the plain print, without its heads."""
    block = next(block for block in text.split("\n\n") if block.splitlines()[0] == title)
    return [line.split() for line in block.splitlines()[2:]]


async def test_it_names_all_workers_and_the_owner_of_every_shard(rig: Rig) -> None:
    server = await rig.redis()
    old, new = (rig.worker(declared([]), REDIS__URL=server.url, REGISTRY__REVISION=revision) for revision in ("1", "2"))
    await old.start()
    await new.start()
    pages: list[dict[str, object]] = []

    async def look() -> None:
        while True:
            pages.append(await new.status())
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as looking:
        looking.start_soon(look)
        await until(lambda: bool(pages) and is_whole(pages[-1]), 30, "both workers and all owners are known")
        looking.cancel_scope.cancel()
    code, told, _ = await status(new)
    assert code == 0
    owners = [str((await worker.get("/rolez"))[1]["owner"]) for worker in (new, old)]
    workers = told.split("\n\n")[1].splitlines()[2:]
    assert [owner in row for owner, row in zip(owners, workers, strict=True)] == [True, True]
    assert [row.startswith("*") for row in workers] == [True, False]
    shards = table(told, "shards")
    assert [row[0] for row in shards] == [str(shard) for shard in range(16)]
    assert {row[1] for row in shards} <= set(owners)
    assert "buffers and pipeline" in told
    code, raw, _ = await status(old, "--json")
    assert code == 0
    assert orjson.loads(raw)["registry"]["owner"] == owners[1]


def is_whole(page: dict[str, object]) -> bool:
    workers, shards = page["workers"], page["shards"]
    assert isinstance(workers, list)
    assert isinstance(shards, list)
    return len(workers) == 2 and all(row["owner"] for row in shards)


async def test_a_wrong_key_is_refused_and_the_settings_key_is_not(rig: Rig) -> None:
    worker = rig.worker(declared([]), HTTP__HOST="0.0.0.0", HTTP__ADMIN_KEY=KEY)  # noqa: S104 - where a key is asked for
    await worker.start()
    code, told, why = await status(worker, "--url", worker.url, "--key", "not that one, certainly")
    assert (code, told) == (1, "")
    assert why.startswith("401 UNAUTHORIZED: ")
    assert "not that one" not in why
    code, told, _ = await status(worker, "--url", worker.url)
    assert code == 0
    assert told.startswith("worker\n")


async def test_where_no_worker_is_it_says_so_and_ends_with_69(rig: Rig) -> None:
    worker = rig.worker(declared([]))
    code, told, why = await status(worker)
    assert (code, told) == (69, "")
    assert why == (
        f"no worker at 127.0.0.1 port {worker.port}: connection refused; start the worker, or say where it listens with --url or "
        "http.port (WORKER_HTTP__PORT)\n"
    )
    assert (await status(worker, "--url", "localhost:8080"))[0] == 78


class Terminal:
    """A pseudo-terminal of a given width, and a process at it."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.shown = b""

    async def read(self, until_seen: bytes | None) -> None:
        """Until that was seen; None: until nobody writes any more."""
        while until_seen is None or until_seen not in self.shown:
            try:
                piece = await to_thread.run_sync(os.read, self._ours, 65_536, abandon_on_cancel=True)
            except OSError:  # the other side has gone
                return
            self.shown += piece

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
async def started(rig: Rig) -> Worker:
    worker = rig.worker(declared([]))
    await worker.start()
    return worker


@asynccontextmanager
async def at_terminal(worker: Worker, terminal: Terminal, *words: str, **environment: str) -> AsyncIterator[anyio.abc.Process]:
    """The command there; it has gone at the end, whatever happens."""
    environment = {name: value for name, value in worker.environment.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}} | environment
    command = [*AT_A_TERMINAL, sys.executable, "-m", "worker", "status", *words]
    process = await anyio.open_process(command, env=environment, stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs)
    os.close(terminal.theirs)
    try:
        with anyio.fail_after(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()
        terminal.close()


@pytest.mark.parametrize("environment", [{"TERM": "xterm-256color"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}], ids=str)
async def test_at_a_narrow_terminal_no_line_is_wider_than_it(started: Worker, environment: dict[str, str]) -> None:
    terminal = Terminal(columns=50)
    async with at_terminal(started, terminal, **environment) as process:
        await terminal.read(None)
        assert await process.wait() == 0
    lines = visible(terminal.shown).splitlines()
    assert {"worker", "workers", "shards", "buffers and pipeline"} <= {line.strip() for line in lines}
    assert max(map(len, lines)) <= 50
    if "NO_COLOR" in environment:
        assert b"\x1b[3" not in terminal.shown


def visible(shown: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")


async def test_watching_goes_on_until_ctrl_c(started: Worker) -> None:
    terminal = Terminal(columns=100)
    async with at_terminal(started, terminal, "--watch", TERM="xterm-256color") as process:
        await terminal.read(b"buffers and pipeline")
        terminal.shown = b""
        await terminal.read(b"buffers and pipeline")
        process.send_signal(signal.SIGINT)
        await terminal.read(None)
        assert await process.wait() == 0
    assert b"Traceback" not in terminal.shown


async def test_watching_outlives_the_worker_that_is_watched(started: Worker) -> None:
    terminal = Terminal(columns=200)
    async with at_terminal(started, terminal, "--watch", TERM="xterm-256color") as process:
        await terminal.read(b"buffers and pipeline")
        await started.stop()
        await terminal.read(f"no worker at 127.0.0.1 port {started.port}: connection refused".encode())
        await terminal.read(b"asked again until it answers")
        terminal.shown = b""
        await started.start()
        await terminal.read(b"buffers and pipeline")
        process.send_signal(signal.SIGINT)
        await terminal.read(None)
        assert await process.wait() == 0


async def test_the_address_of_the_page_itself_is_understood(started: Worker) -> None:
    assert [(await status(started, "--url", f"{started.url}{path}"))[0] for path in ("/status", "/status/", "/")] == [0, 0, 0]


Handler = Callable[[web.Request], Awaitable[web.Response]]


async def hangs(_request: web.Request) -> web.Response:
    await anyio.sleep_forever()
    raise AssertionError


async def lists_things(_request: web.Request) -> web.Response:
    return web.json_response([1, 2])


async def is_another_program(_request: web.Request) -> web.Response:
    return web.json_response({"status": "UP"})


async def is_a_website(_request: web.Request) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


async def knows_no_such_page(_request: web.Request) -> web.Response:
    raise web.HTTPNotFound


async def shown(url: str) -> int:
    asked = Asked(url=url, key=None, raw=False, watch=False)
    return await to_thread.run_sync(show_status, asked)


@pytest.mark.parametrize("handler", [lists_things, is_another_program, is_a_website, knows_no_such_page], ids=lambda h: h.__name__)
async def test_what_is_no_worker_is_told_as_that(handler: Handler, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(handler) as url:
        assert await shown(url) == 1
    assert "worker" in capsys.readouterr().err


async def test_a_worker_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_command, "ASK_WITHIN_S", 0.3)
    async with serving(hangs) as url:
        with pytest.raises(DependencyUnreachable, match=r"no answer within 0\.3 s"):
            await shown(url)
