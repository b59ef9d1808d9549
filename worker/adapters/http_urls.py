"""URLs as the transport reads them: one parser for the warning, the refusal and the call, so that no two of them can disagree.

Resolves nothing: what a name leads to is asked of `Destinations` again, with each address, when a socket is about to be made.
"""

from __future__ import annotations

from yarl import URL

from worker.adapters.http_failures import ForbiddenDestination
from worker.domain.destinations import Destinations

MAX_URLS = 20_000


class Urls:
    """Each webhook's URL is looked at once."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._readable: dict[str, URL] = {}

    def __repr__(self) -> str:
        return f"<Urls {len(self._readable)} known>"

    def parsed(self, url: str) -> URL:
        """Raises `ForbiddenDestination` for what `objection` objects to."""
        parsed = self._readable.get(url)
        return self._read(url) if parsed is None else parsed

    def _read(self, url: str) -> URL:
        why_not = objection(url, self._destinations)
        if why_not is not None:
            raise ForbiddenDestination(why_not)
        if len(self._readable) >= MAX_URLS:
            self._readable.clear()
        parsed = self._readable[url] = URL(url)
        return parsed


def parts_of(url: str) -> tuple[str, int]:
    """Host and port of a URL to which there is no objection."""
    parsed = URL(url)
    assert parsed.raw_host is not None
    assert parsed.port is not None
    return parsed.raw_host, parsed.port


def objection(url: str, destinations: Destinations) -> str | None:
    """Why deliveries to this URL will fail, for people, without the URL itself; None where nothing can be said in advance."""
    try:
        parsed = URL(url)
    except (ValueError, IndexError):  # the second where brackets stand before an @ and nothing behind it
        parsed = URL()
    if parsed.scheme not in {"http", "https"} or not parsed.raw_host or not parsed.port:
        return "its url is not one that can be posted to"
    return destinations.objection(parsed.raw_host, parsed.port)
