"""What a fake gateway needs to know of one gateway's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from aiohttp import web

from worker.fake_gateway.instances import Instances
from worker.fake_gateway.streams import Readers, Stream
from worker.fake_gateway.troubles import Handler

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
"""One white dot: a picture, if not of much."""


class Known(NamedTuple):
    """What a dialect is made with. `is_older`: as the versions before it, where they differ."""

    instances: Instances
    readers: Readers
    api_key: str
    is_older: bool = False


class Route(NamedTuple):
    method: str
    path: str
    handler: Handler


class Dialect(Protocol):
    """One gateway's REST side over `Known`; and its stream, where it has one."""

    @property
    def stream(self) -> Stream | None: ...

    def routes(self) -> Sequence[Route]: ...

    def guard(self, request: web.Request) -> web.Response | None:
        """Its refusal, where the request's key is not good for its path."""
        ...

    def error(self, status: int, request: web.Request) -> web.Response:
        """How it refuses with this status when nothing more is to be said; also for a path it does not know (404)."""
        ...


def said(value: Any, status: int = 200) -> web.Response:  # noqa: ANN401 - JSON
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")


async def asked(request: web.Request) -> Mapping[str, Any]:
    """The body, an object; empty where it is none."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def within(source: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The object at `path`, or an empty one."""
    found: Any = source
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
