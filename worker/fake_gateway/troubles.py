"""How a fake gateway misbehaves when it is told to: which requests, how, how often.

    POST /_fake/trouble {"match": "POST /api/sessions", "kind": "status", "status": 503, "times": 2}

`match` is a method and a path, `*` stands for anything. The first trouble told that fits has its way, until its `times` are used up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase

import anyio
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

LONGEST_HANG_S = 600.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ErrorMaker = Callable[[int, web.Request], web.Response]


class Kind(StrEnum):
    STATUS = "status"
    """Refuses with a status, in the gateway's own words (or with `body`)."""
    HANG = "hang"
    """Takes the request and says nothing."""
    RESET = "reset"
    """Resets the connection, nothing done."""
    GARBAGE = "garbage"
    """Says 200 and something that is not its language, nothing done."""
    SLOW = "slow"
    """Does it after `seconds`."""
    LOSE_ANSWER = "lose_answer"
    """Does it, then resets the connection."""
    CUT = "cut"
    """Does it, and breaks off in the middle of the answer."""
    ENDLESS = "endless"
    """Says 200 and never stops talking."""


class Trouble(BaseModel):
    """`times` None: until it is cleared."""

    model_config = ConfigDict(extra="forbid")

    match: str = "*"
    kind: Kind
    status: int = Field(503, ge=200, le=599)
    times: int | None = Field(1, ge=1)
    seconds: float = Field(1.0, ge=0, le=LONGEST_HANG_S)
    headers: dict[str, str] = {}
    body: str | None = None
    seen: int = 0
    """How often it has had its way."""

    def fits(self, request: web.Request) -> bool:
        return (self.times is None or self.seen < self.times) and fnmatchcase(f"{request.method} {request.path}", self.match)


class Troubles:
    """All troubles of one fake gateway. `closing` ends whatever hangs."""

    def __init__(self, error: ErrorMaker) -> None:
        self._error = error
        self._told: list[Trouble] = []
        self.closing = anyio.Event()

    def add(self, trouble: Trouble) -> Trouble:
        self._told.append(trouble)
        return trouble

    def clear(self) -> None:
        self._told.clear()

    async def meddle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The request, with the trouble that it meets; without one just `handler`."""
        trouble = next((t for t in self._told if t.fits(request)), None)
        if trouble is None:
            return await handler(request)
        trouble.seen += 1
        return await _WAYS[trouble.kind](self, trouble, request, handler)

    async def _status(self, trouble: Trouble, request: web.Request, _handler: Handler) -> web.StreamResponse:
        if trouble.body is not None:
            return web.Response(status=trouble.status, text=trouble.body, headers=trouble.headers)
        refused = self._error(trouble.status, request)
        refused.headers.update(trouble.headers)
        return refused

    async def _hang(self, _trouble: Trouble, request: web.Request, _handler: Handler) -> web.StreamResponse:
        await self._wait(LONGEST_HANG_S)
        return reset(request)

    async def _reset(self, _trouble: Trouble, request: web.Request, _handler: Handler) -> web.StreamResponse:
        return reset(request)

    async def _garbage(self, trouble: Trouble, _request: web.Request, _handler: Handler) -> web.StreamResponse:
        text = "<html><body>It works!</body></html>" if trouble.body is None else trouble.body
        return web.Response(text=text, content_type="text/html")

    async def _slow(self, trouble: Trouble, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self._wait(trouble.seconds)
        return await handler(request)

    async def _lose_answer(self, _trouble: Trouble, request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return reset(request)

    async def _cut(self, _trouble: Trouble, request: web.Request, handler: Handler) -> web.StreamResponse:
        whole = await handler(request)
        body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b"{}"
        half = web.StreamResponse(status=whole.status, headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await half.prepare(request)
        await half.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()  # politely: what was written is to arrive
        return half

    async def _endless(self, _trouble: Trouble, request: web.Request, _handler: Handler) -> web.StreamResponse:
        talk = web.StreamResponse(headers={"Content-Type": "application/json"})
        await talk.prepare(request)
        try:
            while not self.closing.is_set():
                await talk.write(b" " * 65_536)
        except OSError:
            pass  # nobody listens any more
        return talk

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.closing.wait()


_WAYS: Mapping[Kind, Callable[[Troubles, Trouble, web.Request, Handler], Awaitable[web.StreamResponse]]] = {
    Kind.STATUS: Troubles._status,  # noqa: SLF001 - its own
    Kind.HANG: Troubles._hang,  # noqa: SLF001
    Kind.RESET: Troubles._reset,  # noqa: SLF001
    Kind.GARBAGE: Troubles._garbage,  # noqa: SLF001
    Kind.SLOW: Troubles._slow,  # noqa: SLF001
    Kind.LOSE_ANSWER: Troubles._lose_answer,  # noqa: SLF001
    Kind.CUT: Troubles._cut,  # noqa: SLF001
    Kind.ENDLESS: Troubles._endless,  # noqa: SLF001
}


def reset(request: web.Request) -> web.Response:
    """Ends the connection with a reset; the response that it answers goes nowhere."""
    if request.transport is not None:
        abort(request.transport)
    return web.Response(status=500)


def abort(transport: asyncio.Transport) -> None:
    """Resets a connection."""
    made = None if transport.is_closing() else transport.get_extra_info("socket")
    if made is not None and made.fileno() >= 0:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
