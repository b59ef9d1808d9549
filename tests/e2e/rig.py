"""The rig of the end-to-end tests: a worker as a process, gateways that push until they get their 2xx, and the books they keep.

Everything that `Rig` starts it ends, by process id, also after a failure. Speaks the public contract only, but where a test
says so.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import anyio
import anyio.abc
import orjson
from anyio import to_thread

from tests.e2e.sink import SECRET, Sink
from tests.real_redis import RealRedis

READY_WITHIN_S = 40.0
LOOPBACK = '["127.0.0.0/8", "::1/128"]'
SHORT_SCHEDULE = "[1, 1, 2, 3" + ", 5" * 100 + "]"
"""Waits between attempts that a test can wait for, and enough of them."""


AT_A_TERMINAL = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
]
"""What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn: a whole test run perhaps."""


class Hook(NamedTuple):
    """A declared webhook. `instances` none: all of them."""

    name: str
    url: str
    instances: tuple[str, ...] = ()
    deadline_s: float = 10
    secret: str = SECRET
    ordering: str = "none"
    enrich: bool = False


def declared(hooks: Sequence[Hook], instances: Sequence[str] = ("i",), *, gateway: str = "generic", broker: str | None = None) -> str:
    """One tenant's file: instances of one gateway and its webhooks; `broker`: the instances', declared elsewhere."""
    lines = ["[[tenants]]", 'id = "t"']
    for name in instances:
        lines += ["[[instances]]", f'id = "{name}"', 'tenant_id = "t"', f'gateway = "{gateway}"']
        lines += [f'broker = "{broker}"'] if broker else []
    for hook in hooks:
        lines += ["[[webhooks]]", f'id = "{hook.name}"', 'tenant_id = "t"', f'url = "{hook.url}"', f'secrets = ["{hook.secret}"]']
        lines += [f"instance_ids = {list(hook.instances)}", f"deadline_s = {hook.deadline_s}", f'ordering = "{hook.ordering}"']
        lines += ["enrich_contact = true"] if hook.enrich else []
    return "\n".join(lines) + "\n"


async def until(holds: Callable[[], bool], within_s: float, what: str) -> float:
    """Looks until it holds; answers how long that took. Fails by name."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < within_s, f"not within {within_s:g} s: {what}"
        await anyio.sleep(0.01)
    return time.monotonic() - began_s


class Worker:
    """`python -m worker run` on a port of its own. `start` again after `stop` or `kill`: a new life over the same data."""

    def __init__(self, directory: Path, toml: str, session: aiohttp.ClientSession, settings: Mapping[str, str]) -> None:
        directory.mkdir()
        self._file = directory / "worker.toml"
        self._file.write_text(toml)
        self.data_dir = directory / "data"
        self.log = directory / "log"
        self.command = [sys.executable, "-m", "worker", "run"]
        self.more_environment: dict[str, str] = {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._session = session
        self._settings = settings
        self._life_from = 0
        self._process: anyio.abc.Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        ours = {
            "CONFIG": str(self._file),
            "DATA_DIR": str(self.data_dir),
            "HTTP__PORT": str(self.port),
            "DELIVERY__ALLOWED_PRIVATE_CIDRS": LOOPBACK,
            "DELIVERY__RETRY_SCHEDULE_S": SHORT_SCHEDULE,
            "SHUTDOWN__BUDGET_S": "25",
            "SHUTDOWN__STOP_TIMEOUT_S": "30",
            **self._settings,
        }
        return inherited | {f"WORKER_{name}": value for name, value in ours.items()} | self.more_environment

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def launch(self) -> None:
        """Starts the process and returns at once."""
        self._life_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = await anyio.open_process(self.command, env=self.environment, stdout=log, stderr=log)

    async def start(self) -> float:
        """Returns once `/readyz` says so; answers after how many seconds."""
        began_s = time.monotonic()
        await self.launch()
        while (await self.get("/readyz"))[0] != 200:
            assert self.is_alive, f"the worker ended: {self.lines()[-5:]}"
            assert time.monotonic() - began_s < READY_WITHIN_S, f"not ready: {self.lines()[-5:]}"
            await anyio.sleep(0.02)
        return time.monotonic() - began_s

    async def stop(self, signum: signal.Signals = signal.SIGTERM, within_s: float = 40) -> tuple[int, float]:
        """Sends the signal and waits for the end: exit code, seconds."""
        began_s = time.monotonic()
        self.send(signum)
        return await self.ended(within_s), time.monotonic() - began_s

    async def ended(self, within_s: float) -> int:
        assert self._process is not None
        with anyio.fail_after(within_s):
            return await self._process.wait()

    async def start_draining(self, within_s: float = 5) -> None:
        """Sends SIGTERM; returns once it says that it leaves."""
        self.send(signal.SIGTERM)
        began_s = time.monotonic()
        while (await self.get("/readyz"))[0] == 200:
            assert time.monotonic() - began_s < within_s, "it drains"
            await anyio.sleep(0.005)

    def send(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    async def kill(self) -> None:
        if self.is_alive:
            self.send(signal.SIGKILL)
            await self.ended(10)

    async def get(self, path: str) -> tuple[int, Any]:
        """A page; status 0 where nobody answers."""
        try:
            async with self._session.get(self.url + path, timeout=aiohttp.ClientTimeout(2)) as answer:
                body = await answer.read()
                return answer.status, orjson.loads(body) if answer.content_type == "application/json" else body.decode()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, {}

    async def status(self) -> dict[str, Any]:
        answered, page = await self.get("/status")
        assert answered == 200, f"no /status: {self.lines()[-5:]}"
        return dict(page)

    async def shards(self) -> dict[int, int]:
        """What it owns: shard → token."""
        return {row["shard"]: row["token"] for row in (await self.get("/rolez"))[1].get("shards", [])}

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        _, page = await self.get("/metrics")
        total = 0.0
        for line in str(page).splitlines():
            match = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
            if match and all(f'{label}="{value}"' in (match[1] or "") for label, value in labels.items()):
                total += float(match[2])
        return total

    def lines(self, message: str | None = None) -> list[dict[str, Any]]:
        """The log of this life, only the lines of one kind where named."""
        with self.log.open("rb") as log:
            log.seek(self._life_from)
            parsed = [_parsed(line) for line in log]
        return [line for line in parsed if message in {None, line.get("message")}]

    def report(self) -> dict[str, Any]:
        """The drain report of this life, which has ended."""
        [report] = self.lines("drain report")
        return report


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(line))
    except (orjson.JSONDecodeError, ValueError, TypeError):
        return {"text": line.decode(errors="replace").rstrip()}


class Gateway:
    """A patient gateway: what it pushes it pushes again until a 2xx says received. `accepted`: id → when the 2xx came."""

    def __init__(self, workers: Sequence[Worker], session: aiohttp.ClientSession) -> None:
        self.workers = workers
        self.accepted: dict[str, float] = {}
        self.instance_of: dict[str, str] = {}
        self.pushed_at_s: dict[str, float] = {}
        """When the first push of each event began."""
        self.answers: dict[int, int] = {}
        """How often each status was the answer; 0: none came."""
        self.without_retry_after = 0
        self.name = "generic"
        self.make: Callable[[str, str, int], dict[str, Any]] = lambda event, _instance, pad: generic_event(event, pad)
        """Of an event's id, its instance and the size of its text: its body."""
        self._session = session
        self._numbers = itertools.count()

    def accepted_for(self, instances: Sequence[str] = ()) -> set[str]:
        """The ids accepted for these instances; none named: for all."""
        return {event for event in self.accepted if not instances or self.instance_of[event] in instances}

    def fresh(self) -> str:
        return f"E{next(self._numbers):07d}"

    async def push(self, event: str, instance: str = "i", pad: int = 200, **more: Any) -> None:
        """One event until accepted; `more`: fields of its body."""
        self.pushed_at_s.setdefault(event, time.monotonic())
        body = orjson.dumps(self.make(event, instance, pad) | more)
        for attempt in itertools.count():
            worker = self.workers[attempt % len(self.workers)] if attempt else random.choice(self.workers)
            if 200 <= await self.try_once(worker, body, instance) < 300:
                self.accepted.setdefault(event, time.monotonic())
                self.instance_of[event] = instance
                return
            await anyio.sleep(min(0.5, 0.02 * 2**attempt) * (0.5 + random.random()))

    async def try_once(self, worker: Worker, body: bytes, instance: str = "i") -> int:
        status = 0
        url = f"{worker.url}/ingest/{self.name}/{instance}"
        try:
            async with self._session.post(url, data=body, timeout=aiohttp.ClientTimeout(8)) as answer:
                status = answer.status
                self.without_retry_after += status == 503 and "retry-after" not in answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        self.answers[status] = self.answers.get(status, 0) + 1
        assert status < 400 or status == 503, f"the door said {status}"
        return status

    async def push_many(self, count: int, instances: Sequence[str] = ("i",), *, at_once: int = 32, pad: int = 200) -> None:
        """So many events, as fast as they are accepted."""
        left = iter(range(count))

        async def pusher() -> None:
            for number in left:
                await self.push(self.fresh(), instances[number % len(instances)], pad)

        async with anyio.create_task_group() as pushers:
            for _ in range(at_once):
                pushers.start_soon(pusher)

    async def keep_pushing(self, per_s: float, instances: Sequence[str], stopped: anyio.Event) -> None:
        """Open loop until `stopped`: an event whenever one is due, however the others fare (at most 200 of them under way)."""
        under_way = anyio.CapacityLimiter(200)

        async def one(event: str, instance: str) -> None:
            async with under_way:
                await self.push(event, instance)

        async with anyio.create_task_group() as pushes:
            began_s = time.monotonic()
            for number in itertools.count():
                due_s = began_s + number / per_s
                if (wait_s := due_s - time.monotonic()) > 0:
                    with anyio.move_on_after(wait_s):
                        await stopped.wait()
                if stopped.is_set():
                    return
                event = self.fresh()
                self.pushed_at_s[event] = max(due_s, time.monotonic() - 1.0)
                pushes.start_soon(one, event, instances[number % len(instances)])


async def everything_arrives(rig: Rig, gateway: Gateway, hooks: Sequence[Hook], within_s: float) -> float:
    """Heals the endpoints and waits; what has not come by then is lost, and counted by name. Answers how long it took."""
    rig.sink.heal()

    def lost() -> dict[str, int]:
        missing = {hook.name: len(gateway.accepted_for(hook.instances) - rig.sink.got(hook.name)) for hook in hooks}
        return {name: count for name, count in missing.items() if count}

    try:
        return await until(lambda: not lost(), within_s, "everything accepted arrives")
    except AssertionError as exc:
        raise AssertionError(f"{exc}; lost of {len(gateway.accepted)}: {lost()}") from None


def generic_event(event: str, pad: int = 200) -> dict[str, Any]:
    chat = f"55119{sum(event.encode()) % 50:08d}@s.whatsapp.net"
    return {"type": "message", "message_ids": [event], "chat_id": chat, "sender_id": chat, "text": "x" * pad}


class Rig:
    """What a test starts. `async with Rig() as rig`: at the end all of it is gone."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wr-", ignore_cleanup_errors=True)))
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        self.sink = await self._stack.enter_async_context(Sink())
        self._workers: list[Worker] = []
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.CancelScope(shield=True):  # each step is bounded
            await self._tell()
            await self._stack.aclose()

    async def _tell(self) -> None:
        """What the workers were doing at the end; pytest shows it where a test failed."""
        for worker in self._workers:
            if worker.is_alive:
                print(orjson.dumps((await worker.get("/status"))[1]).decode())
            if worker.log.exists():
                print(*worker.lines()[-20:], sep="\n")

    def worker(self, toml: str, **settings: str) -> Worker:
        """Not started yet. Settings without `WORKER_`."""
        worker = Worker(self.directory / f"w{len(self._workers)}", toml, self.session, settings)
        self._workers.append(worker)
        self._stack.push_async_callback(worker.kill)
        return worker

    def gateway(self, *workers: Worker) -> Gateway:
        return Gateway(workers, self.session)

    async def redis(self, **settings: str) -> RealRedis:
        """A server of its own that fsyncs every write; started."""
        server = RealRedis(**{"appendfsync": "always", **settings})
        self._stack.callback(server.close)
        await to_thread.run_sync(server.start)
        return server


@asynccontextmanager
async def pushing(gateway: Gateway, per_s: float, instances: Sequence[str] = ("i",)) -> AsyncIterator[None]:
    """Load for the length of the block; at its end everything pushed has been accepted."""
    async with anyio.create_task_group() as group:
        stopped = anyio.Event()
        group.start_soon(gateway.keep_pushing, per_s, instances, stopped)
        yield
        stopped.set()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def children_of(pid: int) -> Iterator[int]:
    """Process ids of the direct children, by /proc; what ends while we look has none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, (task / "children").read_text().split())


def command_of(pid: int) -> str:
    """Empty once the process has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
