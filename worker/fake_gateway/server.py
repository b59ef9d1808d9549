"""One fake gateway on a socket: its dialect, its troubles, its events, and what a test or a person may ask of it.

POST /_fake/trouble   {"match": "POST /api/sessions", "kind": "status", "status": 503, "times": 2}; DELETE clears all of them
POST /_fake/pair      {"instance": "default", "phone": "5511900000001"}
POST /_fake/push      {"instance": "default", "count": 10}, answers how often each status came back
GET  /_fake/instances, GET /_fake/requests
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
from aiohttp import web
from pydantic import ValidationError

from worker.adapters.clock import utc_now
from worker.adapters.http_push import HttpPush, pushing
from worker.fake_gateway.baileys import Baileys
from worker.fake_gateway.dialect import Dialect, Known, asked, said
from worker.fake_gateway.evolution import Evolution
from worker.fake_gateway.instances import Instances, State
from worker.fake_gateway.traffic import Push, Sender, Traffic
from worker.fake_gateway.troubles import Handler, Kind, Trouble, Troubles
from worker.fake_gateway.waha import Waha
from worker.fake_gateway.wuzapi import Wuzapi

HOST = "127.0.0.1"
API_KEY = "fake-gateway-key"
SHUTDOWN_S = 0.5
MAX_LOG = 10_000
MAX_PUSHES = 100_000
_CONTROL = "/_fake/"
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
        self._dialect = _DIALECTS[plan.gateway](Known(self.instances, plan.api_key, plan.is_older))
        self._troubles = Troubles(self._dialect.error)
        self._push = push
        self._traffic = Traffic(plan.gateway, plan.seed)

    def __repr__(self) -> str:
        return f"<FakeGateway {self.plan.gateway} {len(self.instances)} instances>"

    @property
    def gateway(self) -> str:
        return self.plan.gateway

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

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._overhear])
        app.router.add_post("/_fake/trouble", self._told_trouble)
        app.router.add_delete("/_fake/trouble", self._told_clear)
        app.router.add_post("/_fake/pair", self._told_pair)
        app.router.add_post("/_fake/push", self._told_push)
        app.router.add_get("/_fake/instances", self._show_instances)
        app.router.add_get("/_fake/requests", self._show_requests)
        for route in self._dialect.routes():
            app.router.add_route(route.method, route.path, route.handler)
        return app

    def let_go(self) -> None:
        """Whatever hangs, ends."""
        self._troubles.closing.set()

    @web.middleware
    async def _overhear(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_CONTROL):
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

    async def _told_trouble(self, request: web.Request) -> web.Response:
        try:
            trouble = self._troubles.add(Trouble.model_validate(await asked(request)))
        except ValidationError as error:
            return said({"faults": [f"{'.'.join(str(at) for at in fault['loc'])}: {fault['msg']}" for fault in error.errors()]}, 400)
        return said(trouble.model_dump(mode="json"), 201)

    async def _told_clear(self, _request: web.Request) -> web.Response:
        self.clear()
        return web.Response(status=204)

    async def _told_pair(self, request: web.Request) -> web.Response:
        body = await asked(request)
        name = str(body.get("instance"))
        if name not in self.instances:
            return said({"faults": [f"instance: none of {sorted(self.instances)}"]}, 404)
        self.pair(name, str(body.get("phone", "5511900000000")))
        return web.Response(status=204)

    async def _told_push(self, request: web.Request) -> web.Response:
        body = await asked(request)
        name, count = str(body.get("instance")), body.get("count", 1)
        if name not in self.instances or not isinstance(count, int):
            return said({"faults": [f"instance: none of {sorted(self.instances)}, or count: no number"]}, 404)
        return said(dict(await self.push(name, count)))

    async def _show_instances(self, _request: web.Request) -> web.Response:
        shown = [{"name": i.name, "state": i.state.value, "paired": i.phone is not None, "pushes": i.push_url is not None}
                 for i in self.instances.values()]  # fmt: skip
        return said({"instances": shown})

    async def _show_requests(self, _request: web.Request) -> web.Response:
        return said({"requests": dict(self.requests)})


@asynccontextmanager
async def fake_gateway(plan: Plan) -> AsyncIterator[FakeGateway]:
    """Serves on loopback until the end of the block; `url` says where. Raises `OSError` (port taken), `KeyError` (gateway unknown)."""
    async with pushing() as push:
        fake = FakeGateway(plan, push)
        runner = web.AppRunner(fake.application(), access_log=None, shutdown_timeout=SHUTDOWN_S, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, plan.port)
            await site.start()
            fake.url = f"http://{HOST}:{runner.addresses[0][1]}"
            yield fake
        finally:
            fake.let_go()
            with anyio.move_on_after(2 * SHUTDOWN_S, shield=True):
                await runner.cleanup()
