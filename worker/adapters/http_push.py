"""A gateway's side of ingest: posts bodies to an ingest address, as the demo and `simulate` do. Nothing is retried here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

PUSH_TIMEOUT_S = 5.0
"""What the less patient gateways wait."""


@asynccontextmanager
async def pushing(*, connections: int = 8, timeout_s: float = PUSH_TIMEOUT_S) -> AsyncIterator[HttpPush]:
    """A client with at most `connections` connections; closed at the end. `timeout_s` is that of one POST."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield HttpPush(session)


class Reply(NamedTuple):
    status: int
    body: bytes


class HttpPush:
    """One POST at a time per call; calls may run beside each other."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> int | None:
        """The answer's status; None when there was none (refused, broken, or nothing in time: whether it arrived is unknown)."""
        answer = await self.ask(url, body, headers)
        return None if answer is None else answer.status

    async def ask(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply | None:
        """Like `post`, with what was said."""
        try:
            asked = {"content-type": "application/json", **(headers or {})}
            async with self._session.post(url, data=body, headers=asked, allow_redirects=False) as answer:
                return Reply(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
