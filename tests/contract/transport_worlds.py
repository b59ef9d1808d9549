"""The worlds of the transport's suite: the same endpoints behind real sockets and as scripts of the twin."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Protocol

import anyio
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.contract import hostile_endpoint as hostile
from worker.adapters.http import AiohttpTransport, tls_context
from worker.adapters.memory_transport import Answers, Fails, Hangs, MemoryTransport
from worker.domain.destinations import Destinations
from worker.event_integration.transport import Cause, Stage, Transport

ON_LOOPBACK = Destinations(allowed_private=(ip_network("127.0.0.0/8"), ip_network("::1/128")))


class World(Protocol):
    """A transport, and endpoints for it to meet."""

    @property
    def transport(self) -> Transport: ...

    async def url(self, behaviour: str) -> str: ...

    def received(self, url: str) -> int: ...


class NamesOfTests(AbstractResolver):
    """Knows two names of loopback, one whose name server is silent, and no other."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        if host == "silent.test":
            await anyio.sleep_forever()
        if host not in {"localhost", "alias.test"}:
            raise OSError(None, "Domain name not found")
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST),
        ]

    async def close(self) -> None: ...


class Sockets:
    """The real transport among hostile endpoints on loopback."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.transport = AiohttpTransport(ON_LOOPBACK, resolver=NamesOfTests(), tls=tls_context(str(hostile.CERTIFICATE)))
        self._stack = stack
        self._endpoints: dict[str, hostile.Endpoint] = {}

    async def url(self, behaviour: str) -> str:
        match behaviour:
            case "name that does not exist":
                return "http://nobody.test/hook"
            case "name server that is silent":
                return "http://silent.test/hook"
            case "refused":
                return f"http://127.0.0.1:{hostile.refused_port()}/hook"
            case "backlog that is full":
                return f"http://127.0.0.1:{self._stack.enter_context(hostile.full_backlog())}/hook"
            case "hello that is not answered":
                return f"https://127.0.0.1:{self._stack.enter_context(hostile.deaf())}/hook"
            case "body that is not read":
                return f"http://127.0.0.1:{self._stack.enter_context(hostile.deaf())}/hook"
        return await self.meets(_BEHAVIOURS[behaviour])

    async def meets(self, behaviour: hostile.Behaviour, *, tls: bool = False) -> str:
        made = await self._stack.enter_async_context(hostile.endpoint(behaviour, tls=tls))
        url = f"http{'s' if tls else ''}://127.0.0.1:{made.port}/hook"
        self._endpoints[url] = made
        return url

    def endpoint(self, url: str) -> hostile.Endpoint:
        return self._endpoints[url]

    def received(self, url: str) -> int:
        return len(self._endpoints[url].heard)


_BEHAVIOURS: dict[str, hostile.Behaviour] = {
    "200": hostile.answering(hostile.OK),
    "204": hostile.answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "301": hostile.answering(b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"),
    "429": hostile.answering(b"HTTP/1.1 429 Slow Down\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n"),
    "500": hostile.answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"),
    "reset in the header": hostile.answering_once(b"HTTP/1.1 200 OK\r\nContent-", reset=True),
    "request that is not answered": hostile.hanging,
}


class Script:
    """The twin with the same endpoints as scripts."""

    def __init__(self) -> None:
        self.transport = MemoryTransport()

    async def url(self, behaviour: str) -> str:
        url = f"http://{behaviour.replace(' ', '-')}.test/hook"
        if behaviour in _STEPS:
            self.transport.script(url, _STEPS[behaviour])
        return url

    def received(self, url: str) -> int:
        return len(self.transport.received(url))


_STEPS: dict[str, Answers | Fails | Hangs] = {
    "200": Answers(),
    "204": Answers(status=204),
    "301": Answers(status=301),
    "429": Answers(status=429, retry_after="17"),
    "500": Answers(status=500),
    "refused": Fails(stage=Stage.CONNECT, cause=Cause.REFUSED),
    "reset in the header": Fails(stage=Stage.FIRST_BYTE, cause=Cause.RESET),
    "name server that is silent": Hangs(stage=Stage.DNS),
    "backlog that is full": Hangs(stage=Stage.CONNECT),
    "hello that is not answered": Hangs(stage=Stage.TLS),
    "body that is not read": Hangs(stage=Stage.SEND),
    "request that is not answered": Hangs(stage=Stage.FIRST_BYTE),
}
