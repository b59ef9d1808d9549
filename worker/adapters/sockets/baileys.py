"""baileys-acessuswpp's events, as server-sent ones: `GET /stream?iid=…`, with receipts beside it.

Its store is in memory. It keeps what was not acknowledged, however much, and 500 more that were. A stream begins with the instance's
newest 200, acknowledged or not, or with those after `Last-Event-ID` if that is among them. What is older and never acknowledged comes by
no stream: it is listed, page by page, and given first (`backfill.py`). Of an instance that it does not know the stream says nothing; the
list says 404.
Source: `src/server.ts`, `src/routes/instances.ts`, `src/broker/eventStore.ts` of February 2026.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import aiohttp
import anyio
from aiohttp import hdrs

from worker.adapters.brokers.answers import code_of, retry_after_s
from worker.adapters.brokers.client import BrokerClient, segment
from worker.adapters.clock import utc_now
from worker.adapters.sockets.backfill import Backfill, expect_known, too_long
from worker.adapters.sockets.client import LEAVE_SILENCE_S, LEAVE_WITHIN_S, Reaching, Session, StreamClient, arrived
from worker.adapters.sockets.reasons import Ending, of_broker_failure, of_status
from worker.adapters.sockets.sse import EventStream
from worker.domain.catalog import Instance
from worker.instances.broker import BrokerConfig, BrokerFailure, NoSuchInstance
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, Connection, ConnectionClosed, Frame

RECEIPTS_PER_CALL = 500
"""Its server takes bodies of 1 MB."""
_OK = 200
_MAX_GIVEN = 5_000
"""Ids remembered while the beginning of a stream may repeat what was listed."""
_PING = "ping"
_LEFT = Ending(CloseReason.LEFT, "was left")
_BROKEN = Ending(CloseReason.BROKEN, "broke off without a goodbye")
_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}


class BaileysConnector:
    gateway = "baileys"
    transport = "sse"
    wants_receipts = True
    allows_two_readers = True

    def __init__(self, config: BrokerConfig, reaching: Reaching) -> None:
        self._client = StreamClient(config, reaching)
        self._calls = BrokerClient(config, key_header="X-API-Key", needs_key=True, resolver=reaching.resolver, tls=reaching.tls)

    def __repr__(self) -> str:
        return f"<BaileysConnector {self._client.config.id} {len(self._client.open)} open>"

    async def connect(self, instance: Instance, *, after: str | None, timeout_s: float) -> Connection:
        """The stream first, then the first page of what is older: nothing can fall between the two."""
        path, url = self._path(instance), self._client.url("/stream", {"iid": instance.gateway_instance})
        headers = {**_HEADERS, "X-API-Key": self._client.config.api_key or "", **_resuming(after)}

        async def opening(session: Session) -> BaileysConnection:
            response = await session.get(url, headers=headers, allow_redirects=False)
            connection = BaileysConnection(self._client, self._calls, path, response)
            try:
                connection.expect_stream()
                await connection.look_back()
            except BaseException:
                connection.drop()
                raise
            return connection

        return await self._client.opened(timeout_s, opening)

    async def close(self) -> None:
        async with anyio.create_task_group() as closing:
            closing.start_soon(self._client.close)
            closing.start_soon(self._calls.close)

    def _path(self, instance: Instance) -> str:
        """Raises `ConnectionClosed` for a name that cannot stand in one."""
        try:
            return f"/instances/{segment(instance.gateway_instance)}"
        except NoSuchInstance as unknown:
            raise ConnectionClosed(CloseReason.UNKNOWN_INSTANCE, str(unknown)) from None


class BaileysConnection:
    """Frames listed before those streamed; what comes both ways is given once, as far as that is known."""

    __slots__ = ("_backfill", "_calls", "_client", "_ending", "_given", "_leave_by_s", "_path", "_ready", "_response", "_stream")

    def __init__(self, client: StreamClient, calls: BrokerClient, path: str, response: aiohttp.ClientResponse) -> None:
        self._client = client
        self._calls = calls
        self._path = path
        self._response = response
        self._stream = EventStream(MAX_FRAME_BYTES)
        self._backfill = Backfill(calls, path)
        self._ready: deque[Frame] = deque()
        self._given: set[str] = set()
        """Listed, and perhaps still to come by the stream; forgotten once that is silent."""
        self._leave_by_s: float | None = None
        self._ending: Ending | None = None
        client.open.add(self)

    def __repr__(self) -> str:
        state = "open" if self._ending is None else self._ending.reason
        return f"<BaileysConnection {self._client.broker} {state}>"

    def expect_stream(self) -> None:
        """Raises `ConnectionClosed` where the answer is none: a refusal, or the page that its server has for whatever else it is asked."""
        response = self._response
        is_plain = response.headers.get(hdrs.CONTENT_ENCODING, "identity") == "identity"
        if response.status != _OK or response.content_type != "text/event-stream" or not is_plain:
            ending = of_status(response.status, retry_after_s(response.headers.get(hdrs.RETRY_AFTER), utc_now()))
            raise ending.closed(self._client.broker)

    async def look_back(self) -> None:
        """One page of what was never acknowledged; waits until the caller's deadline."""
        for frame in await self._backfill.next_page():
            self._ready.append(frame)
            if frame.event_id is not None and len(self._given) < _MAX_GIVEN:
                self._given.add(frame.event_id)

    async def receive(self) -> Frame | None:
        if not self._ready:
            await self._more()
        return self._ready.popleft() if self._ready else None

    async def acknowledge(self, event_ids: Sequence[str]) -> int:
        known = 0
        for first in range(0, len(event_ids), RECEIPTS_PER_CALL):
            known += await self._acknowledge(event_ids[first : first + RECEIPTS_PER_CALL])
        return known

    async def ping(self) -> None:
        """It cannot be asked: it pings by itself every 15 s."""
        if self._ending is not None:
            raise self._ending.closed(self._client.broker)

    async def leave(self) -> None:
        """Half-closes: the server sends what it has written already, and ends.

        TLS has no half-close: there what has arrived is the last; what has not was never acknowledged, and comes to whoever reads next.
        """
        if self._ending is not None or self._leave_by_s is not None:
            return
        self._leave_by_s = anyio.current_time() + LEAVE_WITHIN_S
        connection = self._response.connection
        transport = None if connection is None else connection.transport
        if transport is not None and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        else:
            self._take(arrived(self._response.content))
            self._leave_by_s = anyio.current_time()
            self._response.close()

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._ended(_LEFT)
        self._ready.clear()

    async def _acknowledge(self, event_ids: Sequence[str]) -> int:
        """It lists as acknowledged what was not before, and as missing what it does not know."""
        try:
            answer = await self._calls.call(None).post(f"{self._path}/events/ack", {"ids": list(event_ids)})
            expect_known(answer, self._client.broker)
            if not isinstance(answer.mapping().get("acknowledged"), list):
                raise answer.garbage("does not say what it acknowledged")
        except BrokerFailure as failure:
            raise of_broker_failure(failure) from None
        missing = answer.mapping().get("missing")
        unknown = {one for one in missing if isinstance(one, str)} if isinstance(missing, list) else set()
        return len([one for one in event_ids if one not in unknown])

    async def _more(self) -> None:
        """Waits until something comes, not always a whole event. Raises `ConnectionClosed`."""
        if self._ending is not None:
            raise self._ending.closed(self._client.broker)
        if not self._backfill.is_done and self._leave_by_s is None:
            await self.look_back()
            return
        chunk = await self._next_chunk()
        if not chunk:
            goodbye = Ending(CloseReason.SERVER_LEFT, "ended the stream", self._stream.retry_s)
            raise self._ended(goodbye if self._leave_by_s is None else _LEFT)
        self._take(chunk)

    async def _next_chunk(self) -> bytes:
        """Empty at the end. Raises `ConnectionClosed` where that was no proper one."""
        content = self._response.content
        try:
            if self._leave_by_s is None:
                return await content.readany()
            if (patience_s := self._leave_by_s - anyio.current_time()) > 0:
                with anyio.move_on_after(min(patience_s, LEAVE_SILENCE_S)):
                    return await content.readany()
        except (aiohttp.ClientError, OSError):
            rest = b"" if self._ending is not None else arrived(content)
            if not rest:
                raise self._ended(_BROKEN if self._leave_by_s is None else _LEFT) from None
            return rest
        return b""

    def _take(self, chunk: bytes) -> None:
        for event in self._stream.feed(chunk):
            if event.name == _PING:
                self._given.clear()
            elif event.data is None:
                too_long(self._client.broker, event.id)
            elif event.id is not None and event.id in self._given:
                self._given.discard(event.id)
            else:
                self._ready.append(Frame(event.data, event.id))

    def _ended(self, ending: Ending) -> ConnectionClosed:
        """Gives the connection back, and answers what to raise; the first ending is the one that counts."""
        if self._ending is None:
            self._ending = ending
            self._client.open.discard(self)
            self._response.close()
        return self._ending.closed(self._client.broker)


def _resuming(after: str | None) -> Mapping[str, str]:
    """Nothing where the id cannot be one of its own."""
    known = code_of(after)
    return {} if known is None else {"Last-Event-ID": known}
