"""What baileys-acessuswpp holds for us and no stream would bring: its events that nobody has acknowledged, page by page, oldest first.

`GET /instances/{id}/events?limit&after` → `{"events": […], "nextCursor"}`. A cursor that it does not know begins anew, which is harmless:
what was acknowledged meanwhile is not listed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from worker.adapters.brokers.answers import Answer, AnswerTooLong
from worker.adapters.brokers.client import BrokerClient
from worker.adapters.sockets.reasons import Ending, of_broker_failure
from worker.instances.broker import BrokerFailure
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, Frame

_PAGE_SIZES = (200, 20, 1)
"""Events a page; the next where a page was longer than an answer may be (8 MiB), and the one before after each page that was not."""
MAX_PAGES = 2_000
"""Of one connection. What is beyond them comes with the next one."""
log = structlog.get_logger()


class Backfill:
    """The pages of one instance, once through."""

    __slots__ = ("_client", "_cursor", "_pages", "_path", "_step", "is_done")

    def __init__(self, client: BrokerClient, path: str) -> None:
        """`path`: of the instance."""
        self.is_done = False
        self._client = client
        self._path = path
        self._cursor: str | None = None
        self._step = 0
        self._pages = 0

    async def next_page(self, timeout_s: float | None = None) -> list[Frame]:
        """Empty when there is nothing more. Cancelled or failed, it asks for the same page the next time. Raises `ConnectionClosed`."""
        while not self.is_done:
            try:
                answer = await self._client.call(timeout_s).get(f"{self._path}/events", self._query())
                return self._turned(answer)
            except AnswerTooLong:
                self._take_smaller_pages()
            except BrokerFailure as failure:
                raise of_broker_failure(failure) from None
        return []

    def _query(self) -> Mapping[str, str]:
        query = {"limit": str(_PAGE_SIZES[self._step])}
        return query if self._cursor is None else {**query, "after": self._cursor}

    def _turned(self, answer: Answer) -> list[Frame]:
        expect_known(answer, self._client.broker)
        events = answer.mapping().get("events")
        if not isinstance(events, list):
            raise answer.garbage("has no list of events")
        told = [event for event in events if isinstance(event, dict) and isinstance(event.get("id"), str)]
        self._pages += 1
        self.is_done = not told or len(events) < _PAGE_SIZES[self._step] or self._pages >= MAX_PAGES
        if told:
            self._cursor = told[-1]["id"]
        self._step = max(0, self._step - 1)
        return [frame for event in told if (frame := self._frame(event)) is not None]

    def _frame(self, event: Mapping[str, Any]) -> Frame | None:
        """The event as the stream writes it. One that is too long stays with the broker, unacknowledged."""
        body, event_id = orjson.dumps(event), event["id"]
        if len(body) > MAX_FRAME_BYTES:
            too_long(self._client.broker, event_id)
            return None
        return Frame(body, event_id)

    def _take_smaller_pages(self) -> None:
        """Where one event alone is longer than any answer we take, nobody gets past it: the stream has to do."""
        self._step += 1
        if self._step == len(_PAGE_SIZES):
            self.is_done = True
            log.warning(
                "stream_backlog_unreadable", broker=self._client.broker, next_step="acknowledge by hand what the broker lists first"
            )


def expect_known(answer: Answer, broker: str) -> None:
    """Raises `ConnectionClosed` where it has no such instance."""
    if answer.status == 404 and answer.broker_code() == "instance_not_found":  # noqa: PLR2004
        raise Ending(CloseReason.UNKNOWN_INSTANCE, "has no such instance").closed(broker)


def too_long(broker: str, event_id: str | None) -> None:
    """Says what is left out: one event, which else would end every stream at the same place."""
    log.warning("stream_event_too_long", broker=broker, event_id=event_id, max_bytes=MAX_FRAME_BYTES)
