"""The guard at a webhook's registration: what its URL says, and what its name resolves to now. Best effort, to refuse early.

Decides nothing for good: the transport asks again with each address when it connects, so a name that changes its mind gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import anyio

from worker.adapters.http_urls import objection, parts_of
from worker.domain.destinations import Destinations

RESOLVE_WITHIN_S = 2.0
MAX_LOOKUPS = 4
"""At a time; beyond that nobody is asked, and the transport's own refusal has to do."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


class UrlGuard:
    """`objection` to a URL that somebody wants to register."""

    def __init__(self, destinations: Destinations, *, resolve: Resolve | None = None) -> None:
        self._destinations = destinations
        self._resolve = resolve or _resolve
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<UrlGuard {self._destinations}>"

    async def objection(self, url: str) -> str | None:
        """Why deliveries to this URL would be refused, for people; None where nothing speaks against it. Never raises for the URL."""
        why_not = objection(url, self._destinations)
        if why_not is not None:
            return why_not
        host, port = parts_of(url)
        refusals = [self._destinations.refusal(address, port) for address in await self._addresses(host, port)]
        return refusals[0] if refusals and all(refusals) else None

    async def _addresses(self, host: str, port: int) -> list[str]:
        if self._under_way >= MAX_LOOKUPS:
            return []
        self._under_way += 1
        found: list[str] = []
        try:
            with anyio.move_on_after(RESOLVE_WITHIN_S):
                found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            pass  # a name that does not resolve today is the owner's business
        finally:
            self._under_way -= 1
        return found


async def _resolve(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
