"""The demo's receivers: `/demo/sink/{fast,slow,failing}`. They count what comes and keep nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from aiohttp import web

SLOW_ANSWER_S = 3.0
_CHUNK_BYTES = 65_536
_FAILS_OF_THREE = 2
_FAILING_ATTEMPTS = frozenset("1234")


class DemoSink:
    """Three receivers with one temper each. Memory: a few integers."""

    def __init__(self) -> None:
        self._received = {"fast": 0, "slow": 0, "failing": 0}
        self._answered = {"fast": 0, "slow": 0, "failing": 0}

    def statistics(self) -> dict[str, dict[str, int]]:
        """`received` attempts and those `answered` with 2xx, per receiver."""
        return {name: {"received": self._received[name], "answered": self._answered[name]} for name in self._received}

    async def fast(self, request: web.Request) -> web.Response:
        return await self._answer("fast", request)

    async def slow(self, request: web.Request) -> web.Response:
        """Answers after 3 s: slow, but within its deadline."""
        await anyio.sleep(SLOW_ANSWER_S)  # noqa: TID251 - being slow is its job
        return await self._answer("slow", request)

    async def failing(self, request: web.Request) -> web.Response:
        """500 two times of three, but never to a fifth attempt: a demo that runs for days collects no dead letters."""
        attempt = request.headers.get("x-delivery-attempt", "1")
        fails = self._received["failing"] % 3 < _FAILS_OF_THREE and attempt in _FAILING_ATTEMPTS
        return await self._answer("failing", request, status=500 if fails else 200)

    async def _answer(self, name: str, request: web.Request, *, status: int = 200) -> web.Response:
        self._received[name] += 1
        async for _chunk in request.content.iter_chunked(_CHUNK_BYTES):  # read and forgotten
            pass
        self._answered[name] += status < 300  # noqa: PLR2004 - 2xx
        return web.Response(status=status)


def demo_sink_routes(sink: DemoSink) -> list[web.AbstractRouteDef]:
    handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        "fast": sink.fast,
        "slow": sink.slow,
        "failing": sink.failing,
    }
    return [web.post(f"/demo/sink/{name}", handler) for name, handler in handlers.items()]
