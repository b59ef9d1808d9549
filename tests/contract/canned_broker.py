"""A broker that says what it is told to, word for word, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import orjson
from aiohttp import web

from tests.contract.serving import serving
from worker.adapters.brokers import open_broker
from worker.instances.broker import Broker, BrokerConfig, Push

PUSH = Push(url="https://worker.example.com/ingest/x/y", secret="a-signing-secret-of-32-characters")
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A picture of one dot, in base64."""


class Asked(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Canned:
    """Says what it was given, by method and path with query, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        self._answers = answers
        self.asked: list[Asked] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(Asked(request.method, request.path_qs, dict(request.headers), orjson.loads(body) if body else None))
        status, text = self._answers.get(f"{request.method} {request.path_qs}", (404, "404 page not found\n"))
        return web.Response(status=status, text=text, content_type="application/json", headers={"Set-Cookie": "session=1; Path=/"})


@asynccontextmanager
async def saying(gateway: str, answers: Mapping[str, tuple[int, str]], path: str = "/") -> AsyncIterator[tuple[Broker, Canned]]:
    canned = Canned(answers)
    async with serving(canned.answer) as url:
        broker = open_broker(BrokerConfig(id="main", gateway=gateway, url=url + path, api_key="the-key"))
        try:
            yield broker, canned
        finally:
            with anyio.move_on_after(5, shield=True):
                await broker.close()
