"""One fake gateway on a socket: its dialect, its troubles, its events, its streams, and what a test may ask of it.

What a person may ask of it, over HTTP, is in `control.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, NamedTuple

import anyio
from aiohttp import web

from worker.adapters.clock import utc_now
from worker.adapters.http_push import HttpPush, pushing
from worker.fake_gateway.baileys import Baileys
from worker.fake_gateway.control import CONTROL, Control
from worker.fake_gateway.dialect import Dialect, Known
from worker.fake_gateway.evolution import Evolution
from worker.fake_gateway.instances import Instances, State
from worker.fake_gateway.streams import Emitted, Readers, Stream
from worker.fake_gateway.traffic import Push, Sender, Traffic
from worker.fake_gateway.troubles import Handler, Kind, Trouble, Troubles
from worker.fake_gateway.waha import Waha
from worker.fake_gateway.wuzapi import Wuzapi

HOST = "127.0.0.1"
API_KEY = "fake-gateway-key"
SHUTDOWN_S = 0.5
MAX_LOG = 10_000
MAX_PUSHES = 100_000
BACKLOG = 1_024
"""Thousands of sockets may come at once."""
_DIALECTS: Mapping[str, Callable[[Known], Dialect]] = {"baileys": Baileys, "evolution": Evolution, "waha": Waha, "wuzapi": Wuzapi}
GATEWAYS = tuple(_DIALECTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to pretend. `push_url` and `push_secret` are for gateways that push all instances to one place; `port` 0: any free one."""

    gateway: str
    api_key: str = field(default=API_KEY, repr=False)
    port: int = 0
    push_url: str | None = field(default=None, repr=False)
    push_secret: str | None = field(default=None, repr=False)
    is_older: bool = False
    """As the versions of 2024 and 2025, where newer ones differ."""
    seed: int = 1
    ping_s: float | None = None
    """How often it pings those who read a stream; None: as often as the real one."""
    tls: SSLContext | None = field(default=None, repr=False)
    """Then it speaks TLS, and is to be called `localhost`."""


class Request(NamedTuple):
    method: str
    path: str
    at_s: float
    """On the loop's clock."""


class FakeGateway:
    """Made by `fake_gateway`. In the process that runs it, a test reads and tells it everything without HTTP."""

    def __init__(self, plan: Plan, push: HttpPush) -> None:
        self.plan = plan
        self.instances = Instances()
        self.requests: Counter[str] = Counter()
        """How often each `METHOD /path` was asked, refusals among them."""
        self.log: deque[Request] = deque(maxlen=MAX_LOG)
        self.url = ""
        self.streams = Readers()
        """Who reads now, and what trouble they get: `of(name)`, `is_exclusive`."""
        self._dialect = _DIALECTS[plan.gateway](Known(self.instances, self.streams, plan.api_key, plan.is_older))
        self._troubles = Troubles(self._dialect.error)
        self._push = push
        self._port = plan.port
        self._pinging: asyncio.TimerHandle | None = None
        self._traffic = Traffic(plan.gateway, plan.seed)
        self.runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=SHUTDOWN_S, handle_signals=False)

    def __repr__(self) -> str:
        return f"<FakeGateway {self.plan.gateway} {len(self.instances)} instances>"

    @property
    def gateway(self) -> str:
        return self.plan.gateway

    @property
    def stream(self) -> Stream | None:
        """Its gateway's own, where there is one: what it keeps."""
        return self._dialect.stream

    @property
    def api_key(self) -> str:
        return self.plan.api_key

    def trouble(self, match: str, kind: Kind | str, **details: Any) -> Trouble:  # noqa: ANN401 - the fields of `Trouble`
        """Misbehaves from now on; see `Trouble`. Whether it did is in the `seen` of what this answers."""
        return self._troubles.add(Trouble(match=match, kind=Kind(kind), **details))

    def clear(self) -> None:
        """No troubles any more."""
        self._troubles.clear()

    def pair(self, name: str, phone: str = "5511900000000") -> None:
        """Somebody scans the code of `name`. Raises `KeyError`."""
        self.instances[name].pair(phone)

    def lose(self, name: str) -> None:
        """Its connection to WhatsApp breaks; the phone stays paired. Raises `KeyError`."""
        self.instances[name].enter(State.LOST)

    async def push(self, name: str, count: int = 1) -> Counter[str]:
        """Pushes made-up events of `name` where it was told to push, signed. Answers how often each status came back; `none`: no answer."""
        url = self.instances[name].push_url or self.plan.push_url
        answers: Counter[str] = Counter()
        if url is None:
            return answers
        for _ in range(min(count, MAX_PUSHES)):
            made = self.next_push(name)
            answers[str(await self._push.post(url, made.body, made.headers) or "none")] += 1
        return answers

    def next_push(self, name: str) -> Push:
        """What it would push next, without pushing it."""
        sender = Sender(gateway_instance=name, secret=self.instances[name].push_secret or self.plan.push_secret)
        return self._traffic.next_push(sender, utc_now().timestamp())

    def emit(self, name: str, count: int = 1) -> list[Emitted]:
        """Made-up events of `name`, each sent at once to whoever reads. Raises `KeyError`, also for a gateway without a stream."""
        stream, sender = self._dialect.stream, Sender(gateway_instance=self.instances[name].name)
        if stream is None:
            raise KeyError(self.gateway)
        now_s = utc_now().timestamp()
        return [stream.emit(name, self._traffic.next_push(sender, now_s).body) for _ in range(count)]

    def readers(self, name: str) -> int:
        """How many would hear of an event of `name` now."""
        return sum(reader.is_heard for reader in self.streams.of(name))

    def close_streams(self, name: str, code: int = 1001, text: str = "") -> None:
        """Says goodbye to all who read `name`; code and text where its stream has them."""
        for reader in self.streams.of(name):
            reader.close(code, text)

    def drop_streams(self, name: str) -> None:
        """Resets the connections of all who read `name`."""
        for reader in self.streams.of(name):
            reader.drop()

    def silence(self, name: str) -> None:
        """Whoever reads `name` hears nothing more, not even a ping, and is not told. New connections are as ever."""
        for reader in self.streams.of(name):
            reader.silence()

    async def refuse(self) -> None:
        """Connections are refused from now on; those there are stay."""
        for site in tuple(self.runner.sites):
            await site.stop()

    async def accept(self) -> None:
        """Connections are taken, at the same address as before, if there was one."""
        site = web.TCPSite(self.runner, HOST, self._port, ssl_context=self.plan.tls, reuse_address=True, backlog=BACKLOG)
        await site.start()
        self._port = self.runner.addresses[0][1]
        self.url = f"http://{HOST}:{self._port}" if self.plan.tls is None else f"https://localhost:{self._port}"

    def keep_pinging(self) -> None:
        """From now on, until `let_go`."""
        stream = self._dialect.stream
        if stream is not None and not self._troubles.closing.is_set():
            self._pinging = asyncio.get_running_loop().call_later(self.plan.ping_s or stream.ping_s, self._ping)

    def _ping(self) -> None:
        self.streams.ping()
        self.keep_pinging()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._overhear])
        for control in Control(self, self._troubles).routes():
            app.router.add_route(control.method, control.path, control.handler)
        for route in self._dialect.routes():
            app.router.add_route(route.method, route.path, route.handler)
        return app

    def let_go(self) -> None:
        """Whatever hangs, ends; whoever reads is told."""
        self._troubles.closing.set()
        if self._pinging is not None:
            self._pinging.cancel()
        self.streams.close()

    @web.middleware
    async def _overhear(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        self.requests[f"{request.method} {request.path}"] += 1
        self.log.append(Request(request.method, request.path, anyio.current_time()))
        return await self._troubles.meddle(request, lambda request: self._answer(request, handler))

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = self._dialect.guard(request)
        if refused is not None:
            return refused
        try:
            return await handler(request)
        except web.HTTPException as unknown:
            return self._dialect.error(unknown.status, request)


@asynccontextmanager
async def fake_gateway(plan: Plan) -> AsyncIterator[FakeGateway]:
    """Serves on loopback until the end of the block; `url` says where. Raises `OSError` (port taken), `KeyError` (gateway unknown)."""
    async with pushing() as push:
        fake = FakeGateway(plan, push)
        await fake.runner.setup()
        try:
            await fake.accept()
            fake.keep_pinging()
            yield fake
        finally:
            fake.let_go()
            with anyio.move_on_after(2 * SHUTDOWN_S, shield=True):
                await fake.runner.cleanup()
