"""WAHA's websocket: `GET /ws?session=…&events=*`, one event as JSON in each text frame, the same that a webhook gets.

The key goes in the query (`x-api-key`): its source looks nowhere else. It keeps nothing for whoever does not read, wants no receipts,
and takes any number of readers. A bad key is told after the handshake, by closing with 1008; of a session that it does not know it
says nothing.
Source: docs (how-to/websocket), `src/api/websocket.gateway.core.ts`, `src/core/auth/WebSocketAuth.ts`, `WebsocketHeartbeatJob.ts` of 2026.
"""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import anyio
from aiohttp import WebSocketError, WSMsgType
from aiohttp.streams import EofStream

from worker.adapters.sockets.client import CLOSE_WITHIN_S, LEAVE_SILENCE_S, LEAVE_WITHIN_S, Message, Reaching, Session, Socket, StreamClient
from worker.adapters.sockets.reasons import Ending, of_close_frame
from worker.domain.catalog import Instance
from worker.instances.broker import BrokerConfig
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, Connection, ConnectionClosed, Frame

SIGNS_A_SECOND = 1_000
"""Pings and pongs; a gateway sends a few a minute. Who sends more without end would cost all others their turns."""
_GOODBYE, _NOT_LIKE_THIS = (1000).to_bytes(2), (1008).to_bytes(2)
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})
_LEFT = Ending(CloseReason.LEFT, "was left")
_FLOODS = Ending(CloseReason.PROTOCOL, f"sent more than {SIGNS_A_SECOND} pings or pongs in a second")
_BROKEN = Ending(CloseReason.BROKEN, "broke off without a goodbye")


class WahaConnector:
    gateway = "waha"
    transport = "websocket"
    wants_receipts = False
    allows_two_readers = True

    def __init__(self, config: BrokerConfig, reaching: Reaching) -> None:
        self._client = StreamClient(config, reaching)

    def __repr__(self) -> str:
        return f"<WahaConnector {self._client.config.id} {len(self._client.open)} open>"

    async def connect(self, instance: Instance, *, after: str | None, timeout_s: float) -> Connection:  # noqa: ARG002 - it resumes by nothing
        query = {"session": instance.gateway_instance, "events": "*"}
        if self._client.config.api_key:
            query["x-api-key"] = self._client.config.api_key
        url = self._client.url("/ws", query)

        async def opening(session: Session) -> Socket:
            socket = await session.ws_connect(
                url, autoclose=False, autoping=False, compress=0, max_msg_size=MAX_FRAME_BYTES + 1, decode_text=False
            )
            assert isinstance(socket, Socket), "the session was told its class"
            return socket

        return WahaConnection(self._client, await self._client.opened(timeout_s, opening))

    async def close(self) -> None:
        await self._client.close()


class WahaConnection:
    __slots__ = ("_client", "_ending", "_leave_by_s", "_signs", "_signs_since_s", "_socket")

    def __init__(self, client: StreamClient, socket: Socket) -> None:
        self._client = client
        self._socket = socket
        self._leave_by_s: float | None = None
        self._ending: Ending | None = None
        self._signs, self._signs_since_s = 0, 0.0
        client.open.add(self)

    def __repr__(self) -> str:
        state = "open" if self._ending is None else self._ending.reason
        return f"<WahaConnection {self._client.broker} {state}>"

    async def receive(self) -> Frame | None:
        message = await self._next()
        if message.type in _DATA:
            return Frame(message.data, None)
        if message.type is WSMsgType.CLOSE:
            raise await self._end(of_close_frame(message.data, message.extra or ""), _GOODBYE)
        if self._are_too_many_signs():
            raise await self._end(_FLOODS, _NOT_LIKE_THIS)
        if message.type is WSMsgType.PING and self._leave_by_s is None:
            await self._send(message.data, WSMsgType.PONG)
        return None

    async def acknowledge(self, event_ids: Sequence[str]) -> int:  # noqa: ARG002 - it wants none
        return 0

    async def ping(self) -> None:
        if self._ending is not None:
            raise self._ending.closed(self._client.broker)
        if self._leave_by_s is None and not await self._send(b"", WSMsgType.PING):
            raise _BROKEN.closed(self._client.broker)

    async def leave(self) -> None:
        if self._ending is None and self._leave_by_s is None:
            self._leave_by_s = anyio.current_time() + LEAVE_WITHIN_S
            await self._send(_GOODBYE, WSMsgType.CLOSE)

    async def close(self) -> None:
        with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await self._end(_LEFT, _GOODBYE)

    def _are_too_many_signs(self) -> bool:
        """One more is here."""
        now_s = anyio.current_time()
        if now_s - self._signs_since_s >= 1:
            self._signs, self._signs_since_s = 0, now_s
        self._signs += 1
        return self._signs > SIGNS_A_SECOND

    async def _next(self) -> Message:
        """The next message. Raises `ConnectionClosed` where there is none any more."""
        try:
            if self._ending is None and (message := await self._waited_for()) is not None and self._ending is None:
                return message
        except WebSocketError as fault:
            ending = Ending(CloseReason.PROTOCOL, f"sent what a websocket does not allow ({fault.code})")
            raise await self._end(ending, int(fault.code).to_bytes(2)) from None
        except (EofStream, aiohttp.ClientError, OSError):
            pass
        raise await self._end(_BROKEN, None)

    async def _waited_for(self) -> Message | None:
        """None where we left and nothing more has come in time."""
        if self._leave_by_s is None:
            return await self._socket.next_message()
        if (patience_s := self._leave_by_s - anyio.current_time()) > 0:
            with anyio.move_on_after(min(patience_s, LEAVE_SILENCE_S)):
                return await self._socket.next_message()
        return None

    async def _send(self, data: bytes, kind: WSMsgType) -> bool:
        """Written at once, unless the peer has not read for long."""
        try:
            with anyio.move_on_after(CLOSE_WITHIN_S):
                await self._socket.send_frame(data, kind)
                return True
        except (aiohttp.ClientError, OSError):
            pass
        return False

    async def _end(self, ending: Ending, goodbye: bytes | None) -> ConnectionClosed:
        """Gives the connection back, and answers what to raise; the first ending is the one that counts, and leaving counts before all."""
        if self._ending is None:
            has_left, self._ending = self._leave_by_s is not None, ending if self._leave_by_s is None else _LEFT
            self._client.open.discard(self)
            try:
                if goodbye is not None and not has_left:
                    await self._send(goodbye, WSMsgType.CLOSE)
            finally:
                self._socket.drop()
        return self._ending.closed(self._client.broker)
