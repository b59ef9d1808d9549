"""The ingest paths over HTTP: reads a body within its bounds, asks the handler, writes the answer. Decides nothing else.

Bodies under way have one budget of bytes and one deadline each, so that neither many large senders nor one slow one can hold
the memory of the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio
from aiohttp import web

from worker.ingest import reply
from worker.ingest.door import Refusal
from worker.ingest.reply import Reply

PATH = "/ingest/{gateway}/{instance_id}"
PATH_BY_EVENT = "/ingest/{gateway:evolution}/{instance_id}/{event}"
"""Evolution's `webhookByEvents` appends the event's name, which the body tells too; a 404 it would never send again."""
BODY_ARRIVES_S = 10.0
"""`ingest_body`: from the head of a request to the last byte of its body."""
BODIES_BYTES = 128 << 20


class Pushes(Protocol):
    """Who answers: `Ingest`, or the `Entrance` that stands before it."""

    async def accept(self, gateway: str, instance_id: str, headers: Mapping[str, str], body: bytes) -> Reply: ...

    async def challenge(self, gateway: str, instance_id: str, query: Mapping[str, str]) -> Reply | None: ...

    def finished(self, gateway: str, answer: Reply) -> Reply:
        """Counts an answer that was given without `accept`."""
        ...


@dataclass(slots=True)
class _Bodies:
    """Bytes promised to bodies that are being read or handled."""

    limit_bytes: int
    held_bytes: int = 0


def ingest_routes(ingest: Pushes, *, max_body_bytes: int, bodies_bytes: int = BODIES_BYTES) -> list[web.RouteDef]:
    """POST for every gateway, GET for Meta's challenge. The application's `client_max_size` must be `max_body_bytes`."""
    bodies = _Bodies(max(bodies_bytes, max_body_bytes))

    async def push(request: web.Request) -> web.Response:
        gateway, instance_id = request.match_info["gateway"], request.match_info["instance_id"]
        announced = request.content_length
        if announced is not None and announced > max_body_bytes:
            return _response(ingest.finished("unknown", _too_large(max_body_bytes)), close=True)
        promised = max_body_bytes if announced is None else announced
        if bodies.held_bytes + promised > bodies.limit_bytes:
            return _response(ingest.finished("unknown", reply.refused(Refusal.JOURNAL_UNAVAILABLE)), close=True)
        bodies.held_bytes += promised
        try:
            body = await _body(request, max_body_bytes)
            if isinstance(body, Reply):
                return _response(ingest.finished("unknown", body), close=True)
            headers = {name.lower(): value for name, value in request.headers.items()}
            return _response(await ingest.accept(gateway, instance_id, headers, body))
        finally:
            bodies.held_bytes -= promised

    async def challenge(request: web.Request) -> web.Response:
        answer = await ingest.challenge(request.match_info["gateway"], request.match_info["instance_id"], request.query)
        if answer is None:
            raise web.HTTPMethodNotAllowed("GET", ["POST"])
        return _response(answer)

    return [web.post(PATH, push), web.post(PATH_BY_EVENT, push), web.get(PATH, challenge, allow_head=False)]


async def _body(request: web.Request, max_body_bytes: int) -> bytes | Reply:
    try:
        with anyio.fail_after(BODY_ARRIVES_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _too_large(max_body_bytes)
    except TimeoutError:
        return reply.too_slow()
    except (web.RequestPayloadError, ConnectionError):
        return reply.malformed("body", "was cut off or its encoding is broken")


def _too_large(max_body_bytes: int) -> Reply:
    return reply.too_large(f"at most {max_body_bytes} bytes; send smaller bodies, or raise WORKER_HTTP__MAX_BODY_BYTES")


def _response(answer: Reply, *, close: bool = False) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, content_type=answer.content_type, headers=answer.headers)
    if close or "Connection" in answer.headers:
        response.force_close()
    return response
