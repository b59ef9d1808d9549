"""The receivers: webhooks of every temper behind one port, and what each of them got.

The path says who and how: `/<webhook>/<mode>`. Modes: `ok`, `close` (no keep-alive), `hang` (never answers), `drip` (headers, then
a byte now and then), a status such as `500`, `slow-<ms>`, `fail-<ms>`, `moody-<percent>` (so many of its requests are answered 500, drawn
by `seed`, webhook, delivery and attempt). `heal()` makes all of them `ok`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import orjson
from aiohttp import web

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Arrival(NamedTuple):
    """A delivery that was answered 2xx: when (on the monotonic clock), as which attempt, under which fencing token."""

    at_s: float
    attempt: int
    token: int


class Sink:
    """`arrivals[webhook][event id]`: each time it was answered 2xx. `asked`: requests begun, whatever became of them."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.arrivals: dict[str, dict[str, list[Arrival]]] = defaultdict(lambda: defaultdict(list))
        self.asked: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.hung_for_s: dict[str, list[float]] = defaultdict(list)
        """How long a request of a hanging webhook was kept, from its last byte to the connection's end."""
        self.forged = 0
        self.is_healed = False
        self.seed = 0
        self.identify: Callable[[dict[str, Any]], str] = lambda event: str(event["message_ids"][0])
        """How an event is told from others, by its normalized body."""
        self._runner = web.ServerRunner(
            web.Server(self._answer, handler_cancellation=True, access_log=None, keepalive_timeout=600), shutdown_timeout=0.1
        )
        self._address = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, 0, backlog=4096)
        await site.start()
        self._address = f"http://{self._host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.move_on_after(5, shield=True):
            await self._runner.cleanup()

    def url(self, webhook: str, mode: str = "ok") -> str:
        return f"{self._address}/{webhook}/{mode}"

    def heal(self) -> None:
        """Every request that comes from now on is answered 200."""
        self.is_healed = True

    def got(self, webhook: str) -> set[str]:
        return set(self.arrivals[webhook])

    def repeated(self, webhook: str) -> dict[str, list[Arrival]]:
        """The events that arrived more than once."""
        return {event: arrived for event, arrived in self.arrivals[webhook].items() if len(arrived) > 1}

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        _, webhook, mode = request.path.split("/")
        self.asked[webhook] += 1
        self.in_flight[webhook] += 1
        try:
            body = await request.read()
            self.forged += not is_signed(request, body)
            return await self._behave(request, webhook, "ok" if self.is_healed else mode, body)
        finally:
            self.in_flight[webhook] -= 1

    async def _behave(self, request: web.BaseRequest, webhook: str, mode: str, body: bytes) -> web.StreamResponse:
        if mode == "hang":
            began_s = time.monotonic()
            try:
                await anyio.sleep_forever()
            finally:
                self.hung_for_s[webhook].append(time.monotonic() - began_s)
        if mode.isdecimal():
            return web.Response(status=int(mode))
        pace, _, ms = mode.partition("-")
        if pace == "moody":
            pace, ms = "fail" if self._is_in_a_mood(request, webhook, int(ms)) else "ok", ""
        await anyio.sleep(int(ms or 0) / 1000)
        if pace == "fail":
            return web.Response(status=500)
        event = self.identify(orjson.loads(body))
        attempt, token = (int(request.headers[name]) for name in ("x-delivery-attempt", "x-fencing-token"))
        self.arrivals[webhook][event].append(Arrival(time.monotonic(), attempt, token))
        if mode == "drip":
            return await _dripping(request)
        answer = web.Response()
        if mode == "close":
            answer.force_close()
        return answer

    def _is_in_a_mood(self, request: web.BaseRequest, webhook: str, percent: int) -> bool:
        drawn = f"{self.seed} {webhook} {request.headers['webhook-id']} {request.headers['x-delivery-attempt']}"
        return zlib.crc32(drawn.encode()) % 100 < percent


async def _dripping(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "10000"})
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await anyio.sleep(0.5)


def is_signed(request: web.BaseRequest, body: bytes) -> bool:
    """By Standard Webhooks, written from its text: HMAC-SHA256 over `id.timestamp.body`."""
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    return wanted in headers["webhook-signature"].split()
