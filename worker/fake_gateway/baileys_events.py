"""baileys-acessuswpp's events: kept in memory, streamed as they come, listed while nobody has acknowledged them.

Source: `src/broker/eventStore.ts`, `src/server.ts`, `src/routes/instances.ts` of February 2026.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from worker.fake_gateway.dialect import Known, Route, asked, said
from worker.fake_gateway.instances import now_ms
from worker.fake_gateway.streams import EVERYBODY, Emitted, Reader, port_of

KEPT_ACKNOWLEDGED = 500
BACKLOG = 200
MAX_LISTED = 200
Record = dict[str, Any]


class BaileysStream:
    """The store, and the three routes to it."""

    ping_s = 15.0

    def __init__(self, known: Known) -> None:
        self._known = known
        self._sequence = 0
        self._kept: dict[str, Record] = {}
        """By id, in the order of their numbers."""
        self._acknowledged: deque[str] = deque()
        self.receipts: Counter[int] = Counter()
        """How many came, repeated ones among them, by the port that they came to."""

    def __len__(self) -> int:
        return len(self._kept)

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/stream", self._serve),
            Route("GET", "/instances/{name}/events", self._list),
            Route("POST", "/instances/{name}/events/ack", self._acknowledge),
        )

    def unacknowledged(self, instance: str) -> list[str]:
        """Ids, oldest first."""
        return [record["id"] for record in self._of(instance) if not record["acknowledged"]]

    def forget(self) -> None:
        """As after a restart: nothing is known any more, and the numbers begin anew."""
        self._kept.clear()
        self._acknowledged.clear()
        self._sequence = 0

    def emit(self, instance: str, body: bytes) -> Emitted:
        """From what it would push: the same event as its store has it."""
        pushed = orjson.loads(body)
        self._sequence += 1
        event_id = str(uuid4())
        record = {
            "id": event_id,
            "sequence": self._sequence,
            "instanceId": instance,
            "direction": "system" if pushed["event"].startswith("WHATSAPP_") else "inbound",
            "type": pushed["event"],
            "payload": pushed["payload"],
            "createdAt": now_ms(),
            "acknowledged": False,
            "delivery": {"state": "pending", "attempts": 0, "lastAttemptAt": None},
        }
        self._kept[event_id] = record
        told = orjson.dumps(record)
        return Emitted(instance, event_id, told, self._known.readers.tell(instance, event_id, told))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """The newest it knows, or those after the one named; then whatever comes. Of an unknown instance nothing does."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        assert request.transport is not None, "it has just answered"
        reader = SseReader(request.query.get("iid", "").strip() or EVERYBODY, request.transport)
        self._replay(reader, request.headers.get("Last-Event-ID"))
        reader.write_text(": stream ready\n\n")
        self._known.readers.add(reader)
        try:
            await reader.gone.wait()
        finally:
            self._known.readers.discard(reader)
            reader.hang_up()
        return response

    def _replay(self, reader: SseReader, after: str | None) -> None:
        recent = list(islice(self._of(reader.instance, newest_first=True), BACKLOG))
        cutoff = next((record["sequence"] for record in recent if record["id"] == after), 0)
        for record in reversed(recent):
            if record["sequence"] > cutoff:
                reader.tell(record["id"], orjson.dumps(record))

    async def _list(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "")
        size = max(1, min(int(limit), MAX_LISTED)) if limit.isdigit() else 50
        after = self._kept.get(request.query.get("after", ""), {"sequence": 0})["sequence"]
        waiting = (r for r in self._of(request.match_info["name"]) if not r["acknowledged"] and r["sequence"] > after)
        events = list(islice(waiting, size))
        return said({"events": events, "nextCursor": events[-1]["id"] if events else None})

    async def _acknowledge(self, request: web.Request) -> web.Response:
        ids = (await asked(request)).get("ids")
        named = [str(one) for one in ids if str(one)] if isinstance(ids, list) else []
        if not named:
            return said({"error": "ids_required"}, 400)
        self.receipts[port_of(request.transport)] += len(named)
        missing = [one for one in named if one not in self._kept]
        fresh = [one for one in dict.fromkeys(named) if one in self._kept and not self._kept[one]["acknowledged"]]
        for one in fresh:
            self._kept[one]["acknowledged"] = True
            self._acknowledged.append(one)
        while len(self._acknowledged) > KEPT_ACKNOWLEDGED:
            del self._kept[self._acknowledged.popleft()]
        return said({"acknowledged": fresh, "missing": missing})

    def _of(self, instance: str, *, newest_first: bool = False) -> Iterable[Record]:
        kept = reversed(self._kept.values()) if newest_first else self._kept.values()
        return (record for record in kept if instance in {EVERYBODY, record["instanceId"]})


class SseReader(Reader):
    """Writes chunks of a chunked body."""

    def tell(self, event_id: str, body: bytes) -> None:
        """In three pieces, as it writes them."""
        self.write(_chunk(f"id: {event_id}\n".encode()) + _chunk(b"event: broker:event\n") + _chunk(b"data: " + body + b"\n\n"))

    def ping(self) -> None:
        self.write_text(f"event: ping\ndata: {now_ms()}\n\n")

    def goodbye(self, code: int, text: str) -> bytes:  # noqa: ARG002 - it has no words for it
        return b"0\r\n\r\n"

    def write_text(self, text: str) -> None:
        self.write(_chunk(text.encode()))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
