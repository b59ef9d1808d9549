"""WAHA's websocket as `src/api/websocket.gateway.core.ts` and `WebsocketHeartbeatJob.ts` of 2026 have it: what nobody reads is lost."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase

import orjson
from aiohttp import WSMsgType, web

from worker.fake_gateway.dialect import Known
from worker.fake_gateway.streams import EVERYBODY, Emitted, Reader

_UNAUTHORIZED = 1008
_SHORT, _MEDIUM = 126, 1 << 16


class WahaStream:
    """The route `/ws`, and what is sent there."""

    ping_s = 60.0

    def __init__(self, known: Known) -> None:
        self._known = known

    def emit(self, instance: str, body: bytes) -> Emitted:
        event_id = str(orjson.loads(body)["id"])
        return Emitted(instance, event_id, body, self._known.readers.tell(instance, event_id, body))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A bad key is told after the handshake; an unknown session is read like any other."""
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, timeout=1.0)
        await socket.prepare(request)
        key = next((value for name, value in request.query.items() if name.lower() == "x-api-key"), None)
        if key != self._known.api_key:
            await socket.close(code=_UNAUTHORIZED, message=b"Unauthorized")
            return socket
        assert request.transport is not None, "it has just answered"
        reader = WahaReader(request.query.get("session") or EVERYBODY, request.transport, _asked_events(request))
        self._known.readers.add(reader)
        try:
            async for message in socket:
                reader.hear(message.type, message.data)
        finally:
            self._known.readers.discard(reader)
            reader.close(1000)
            reader.hang_up()
        return socket


class WahaReader(Reader):
    def __init__(self, instance: str, transport: asyncio.Transport, events: tuple[str, ...]) -> None:
        super().__init__(instance, transport)
        self._events = events
        self._is_alive = True

    def wants(self, event: bytes) -> bool:
        if "*" in self._events:
            return True
        name = orjson.loads(event)["event"]
        return any(fnmatchcase(name, asked) for asked in self._events)

    def hear(self, kind: WSMsgType, data: bytes) -> None:
        if kind is WSMsgType.PONG:
            self._is_alive = True
        elif kind is WSMsgType.PING and self.is_heard:
            self.write(frame(WSMsgType.PONG, data))

    def tell(self, event_id: str, body: bytes) -> None:  # noqa: ARG002 - it stands in the body
        self.write(frame(WSMsgType.TEXT, body))

    def ping(self) -> None:
        """Who has not answered the last one is thrown out."""
        if not self._is_alive:
            self.drop()
            return
        self._is_alive = False
        self.write(frame(WSMsgType.PING, b""))

    def goodbye(self, code: int, text: str) -> bytes:
        return frame(WSMsgType.CLOSE, code.to_bytes(2) + text.encode())


def frame(kind: WSMsgType, payload: bytes) -> bytes:
    """One whole frame, not masked, as a server sends it (RFC 6455, 5.2)."""
    return bytes((0x80 | kind,)) + _length(len(payload)) + payload


def _length(size: int) -> bytes:
    if size < _SHORT:
        return bytes((size,))
    return b"\x7e" + size.to_bytes(2) if size < _MEDIUM else b"\x7f" + size.to_bytes(8)


def _asked_events(request: web.Request) -> tuple[str, ...]:
    asked = request.query.getall("events", ["*"])
    return tuple(name for several in asked for name in several.split(","))
