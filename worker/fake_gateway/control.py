"""What a person may ask of a fake gateway, over HTTP.

POST /_fake/trouble   {"match": "POST /api/sessions", "kind": "status", "status": 503, "times": 2}; DELETE clears all of them
POST /_fake/pair      {"instance": "default", "phone": "5511900000001"}
POST /_fake/push      {"instance": "default", "count": 10}, answers how often each status came back ("none": no answer)
POST /_fake/emit      {"instance": "default", "count": 10}, to whoever reads its stream; answers how many were sent, how many nobody read
POST /_fake/streams   {"instance": "default", "do": "close", "code": 1001}, or "drop", "silence"; answers how many read it
GET  /_fake/instances, GET /_fake/requests, GET /_fake/streams
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web
from pydantic import ValidationError

from worker.fake_gateway.dialect import Route, asked, said
from worker.fake_gateway.instances import Instances
from worker.fake_gateway.streams import Emitted, Readers
from worker.fake_gateway.troubles import Handler, Trouble, Troubles

CONTROL = "/_fake/"
MAX_EMITTED = 10_000
NO_ADDRESS = "instance: was told no address to push to; give the worker http.public_url and create it there, or start this with --push-url"


class Mistyped(Exception):
    """Raised when what a person asks for cannot be meant."""

    def __init__(self, fault: str, status: int) -> None:
        super().__init__(fault)
        self.fault, self.status = fault, status


class Fake(Protocol):
    """Of a fake gateway what a person may ask for; `server.FakeGateway`."""

    instances: Instances
    requests: Counter[str]
    streams: Readers

    def clear(self) -> None: ...
    def pair(self, name: str, phone: str = ...) -> None: ...
    async def push(self, name: str, count: int = 1) -> Counter[str]: ...
    def emit(self, name: str, count: int = 1) -> list[Emitted]: ...
    def close_streams(self, name: str, code: int = ..., text: str = ...) -> None: ...
    def drop_streams(self, name: str) -> None: ...
    def silence(self, name: str) -> None: ...


class Control:
    def __init__(self, fake: Fake, troubles: Troubles) -> None:
        self._fake = fake
        self._troubles = troubles

    def routes(self) -> Sequence[Route]:
        told = (
            Route("POST", f"{CONTROL}trouble", self._told_trouble),
            Route("DELETE", f"{CONTROL}trouble", self._told_clear),
            Route("POST", f"{CONTROL}pair", self._told_pair),
            Route("POST", f"{CONTROL}push", self._told_push),
            Route("POST", f"{CONTROL}emit", self._told_emit),
            Route("POST", f"{CONTROL}streams", self._told_streams),
            Route("GET", f"{CONTROL}instances", self._show_instances),
            Route("GET", f"{CONTROL}requests", self._show_requests),
            Route("GET", f"{CONTROL}streams", self._show_streams),
        )
        return [route._replace(handler=_with_faults(route.handler)) for route in told]

    async def _told_trouble(self, request: web.Request) -> web.Response:
        try:
            trouble = self._troubles.add(Trouble.model_validate(await asked(request)))
        except ValidationError as error:
            return said({"faults": [f"{'.'.join(str(at) for at in fault['loc'])}: {fault['msg']}" for fault in error.errors()]}, 400)
        return said(trouble.model_dump(mode="json"), 201)

    async def _told_clear(self, _request: web.Request) -> web.Response:
        self._fake.clear()
        return web.Response(status=204)

    async def _told_pair(self, request: web.Request) -> web.Response:
        name, body = await self._told_of(request, "phone")
        self._fake.pair(name, str(body.get("phone", "5511900000000")))
        return said({"instance": name, "state": self._fake.instances[name].state.value})

    async def _told_push(self, request: web.Request) -> web.Response:
        name, body = await self._told_of(request, "count")
        answers = await self._fake.push(name, _count(body))
        return said(dict(answers)) if answers else _refused(NO_ADDRESS, 409)

    async def _show_instances(self, _request: web.Request) -> web.Response:
        shown = [{"name": i.name, "state": i.state.value, "paired": i.phone is not None, "pushes": i.push_url is not None}
                 for i in self._fake.instances.values()]  # fmt: skip
        return said({"instances": shown})

    async def _show_requests(self, _request: web.Request) -> web.Response:
        return said({"requests": dict(self._fake.requests)})

    async def _told_emit(self, request: web.Request) -> web.Response:
        name, body = await self._told_of(request, "count")
        count = min(_count(body), MAX_EMITTED)
        try:
            sent = self._fake.emit(name, count)
        except KeyError:
            return _refused("this gateway has no stream", 404)
        return said({"sent": len(sent), "unread": sum(event.readers == 0 for event in sent)})

    async def _told_streams(self, request: web.Request) -> web.Response:
        name, body = await self._told_of(request, "do", "code")
        code = body.get("code", 1001)
        ways = {"close": lambda: self._fake.close_streams(name, code), "drop": lambda: self._fake.drop_streams(name),
                "silence": lambda: self._fake.silence(name)}  # fmt: skip
        way = ways.get(str(body.get("do")))
        if way is None or not isinstance(code, int) or not 1000 <= code < 5000:  # noqa: PLR2004 - RFC 6455, 7.4.2
            return _refused(f"do: one of {sorted(ways)}; code: 1000 to 4999", 400)
        readers = len(self._fake.streams.of(name))
        way()
        return said({"readers": readers})

    async def _show_streams(self, _request: web.Request) -> web.Response:
        return said({"readers": dict(Counter(reader.instance for reader in self._fake.streams if reader.is_heard))})

    async def _told_of(self, request: web.Request, *more: str) -> tuple[str, Mapping[str, Any]]:
        """Which instance, and all that was said. Raises `Mistyped` for a field beside `more`, and for an instance that nobody made."""
        body = await asked(request)
        for field in body:
            if field not in {"instance", *more}:
                raise Mistyped(f"{field}: allowed: {', '.join(('instance', *more))}", 400)
        name = str(body.get("instance"))
        if name not in self._fake.instances:
            raise Mistyped(f"instance: none of {sorted(self._fake.instances)}", 404)
        return name, body


def _with_faults(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Mistyped as mistyped:
            return _refused(mistyped.fault, mistyped.status)

    return answer


def _count(body: Mapping[str, Any]) -> int:
    count = body.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise Mistyped("count: allowed: a number from 1", 400)
    return count


def _refused(fault: str, status: int) -> web.Response:
    return said({"faults": [fault]}, status)
