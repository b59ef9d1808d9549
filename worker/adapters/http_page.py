"""One page, read once: what a worker shows of itself, what a host tells its tasks. Nothing is retried, followed or remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

MAX_PAGE_BYTES = 16 << 20


class NoPage(Exception):
    """Raised when there was no whole answer; says why."""


class Page(NamedTuple):
    status: int
    body: bytes


async def read_page(url: str, *, within_s: float, headers: Mapping[str, str] | None = None, max_bytes: int = MAX_PAGE_BYTES) -> Page:
    """Asks for it on a connection of its own, `within_s` for everything. Raises `NoPage`; a redirect is an answer like any other."""
    timeout = aiohttp.ClientTimeout(total=within_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > max_bytes:
                    raise NoPage(f"the answer is larger than {max_bytes} bytes")
            return Page(answer.status, bytes(body))
    except TimeoutError as exc:
        raise NoPage(f"no answer within {within_s:g} s") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise NoPage(str(exc) or type(exc).__name__) from exc
