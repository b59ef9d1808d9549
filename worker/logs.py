"""How the worker speaks: JSON lines where nobody looks, readable ones on a terminal, never waiting for whoever reads them.

A record is rendered where it is made and handed to a thread that writes; the queue between is bounded, what does not fit is counted
and the count is told. Messages are constant, everything that varies is a field. The drain report is the one line that is never left out.
Owns stderr once `set_up` has run, the footer of a terminal included, so that a live line and the log never overwrite each other.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

QUEUE_LINES = 10_000
QUEUE_BYTES = 8 << 20
LINE_BYTES = 64 << 10
FLUSH_DEADLINE_S = 2.0
_WRITABLE_WAIT_MS = 1_000
_ERASE_LINE = "\r\x1b[2K"
_UP = "\x1b[1A"


def set_up(lines: Lines, *, level: str = "INFO", console: bool | None = None) -> None:
    """Sends structlog and the standard library's logging through `lines`. `console` None: readable iff `lines` is a terminal."""
    readable = lines.is_terminal if console is None else console
    shared: list[Processor] = [
        Seldom(),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(readable=readable)],
    )
    handler = _ToLines(lines)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # module loggers are made before this runs
    )


SELDOM = frozenset(
    {
        "api_store_unavailable", "checkpoint_not_saved", "heartbeat_not_sent", "housekeeping_interrupted", "journal_not_read",
        "leases_not_reached", "leases_not_renewed", "retry_queue_not_read", "webhook_states_not_reached",
    }
)  # fmt: skip
"""What loops say for as long as the store is away: several times a second, and all of them the same."""
SELDOM_EVERY_S = 10.0


class Seldom:
    """Lets each of `SELDOM` through at most every 10 s, with the number of those left out in between. A structlog processor."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        said = str(fields.get("event"))
        if said not in SELDOM:
            return fields
        now_s = self._clock()
        if now_s < self._next_s.get(said, 0.0):
            self._left_out[said] = self._left_out.get(said, 0) + 1
            raise structlog.DropEvent
        self._next_s[said] = now_s + SELDOM_EVERY_S
        if left_out := self._left_out.pop(said, 0):
            fields["left_out"] = left_out
        return fields


def _rendering(*, readable: bool) -> list[Processor]:
    if readable:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, pad_event_to=48)]
    # No locals in tracebacks: they hold payloads and secrets.
    return [
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.EventRenamer("message"),
        _as_json,
    ]


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def emit_report(lines: Lines, report: Mapping[str, object], *, in_words: str) -> bool:
    """Writes the drain report as one JSON line, also on a terminal, after all that was logged before it; there `in_words` comes first.

    Never left out by a full queue. Waits up to `FLUSH_DEADLINE_S`; False when the reader did not take it by then.
    """
    lines.footer("")
    if lines.is_terminal:
        lines.put(in_words, must=True)
    lines.put(orjson.dumps({"message": "drain report", **report}, default=str, option=orjson.OPT_NON_STR_KEYS).decode(), must=True)
    return lines.flush()


class _ToLines(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record))
        except Exception:  # noqa: BLE001 - a record that cannot be rendered must not end what logged it
            self._lines.put(f'{{"level": "error", "message": "unreadable log record", "logger": "{record.name}"}}')


class Lines:
    """A descriptor that takes lines without making anybody wait. `start` begins its thread; `close` ends it, bounded.

    On a terminal the footer (one or more lines) always stands below the last line.
    """

    def __init__(self, fd: int) -> None:
        self.is_terminal = os.isatty(fd)
        self.dropped = 0
        """Lines that did not fit, or that nobody could take any more."""
        self._fd = fd
        self._queue: deque[str] = deque()
        self._bytes = 0
        self._footer = ""
        self._shown = ""
        self._writing = False
        self._closed = False
        self._told = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, name="log lines", daemon=True)

    def __repr__(self) -> str:
        return f"<Lines fd={self._fd} queued={len(self._queue)} dropped={self.dropped}>"

    def start(self) -> None:
        self._thread.start()

    def put(self, line: str, *, must: bool = False) -> None:
        """Hands one line over, cut at 64 KiB; from any thread. Drops and counts it when the queue is full, unless it `must` go."""
        text = line if must or len(line) <= LINE_BYTES else f"{line[:LINE_BYTES]}…"
        with self._changed:
            full = len(self._queue) >= QUEUE_LINES or self._bytes + len(text) > QUEUE_BYTES
            if self._closed or (full and not must):
                self.dropped += 1
                return
            self._queue.append(text)
            self._bytes += len(text)
            self._changed.notify_all()

    def footer(self, text: str) -> None:
        """Shows `text` below the last line from now on; empty removes it. Nothing where there is no terminal."""
        with self._changed:
            if self.is_terminal and not self._closed:
                self._footer = text
                self._changed.notify_all()

    def flush(self, deadline_s: float = FLUSH_DEADLINE_S) -> bool:
        """Waits until all that was put has been written; False when that takes longer. Blocks: for the end of the process."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._writing and not self._has_work(), deadline_s)

    def close(self) -> None:
        """Flushes within the deadline, then takes no more. Idempotent."""
        self.footer("")
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def statistics(self) -> dict[str, int]:
        return {"queued": len(self._queue), "dropped": self.dropped}

    def _has_work(self) -> bool:
        return bool(self._queue) or self._footer != self._shown

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._has_work())
                if self._closed:
                    return
                self._writing = True
                lines, footer, dropped = list(self._queue), self._footer, self.dropped - self._told
                self._queue.clear()
                self._bytes = 0
                self._told = self.dropped
            if dropped:
                lines.append(f'{{"level": "warning", "message": "log lines were dropped", "dropped": {dropped}}}')
            written = self._write("".join([_erasing(self._shown), *(f"{line}\n" for line in lines), footer]))
            with self._changed:
                self._shown = footer
                self.dropped += 0 if written else len(lines)

    def _write(self, text: str) -> bool:
        left = memoryview(text.encode(errors="replace"))
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # somebody made the terminal non-blocking: wait here, in this thread
                select.select([], [self._fd], [], _WRITABLE_WAIT_MS / 1_000)
            except OSError:  # the reader has gone
                return False
        return True


def _erasing(footer: str) -> str:
    """What makes a footer disappear. Pure."""
    return f"{_ERASE_LINE}{(_UP + _ERASE_LINE) * footer.count(chr(10))}" if footer else ""


def stderr_lines() -> Lines:
    """The process's own: stderr, started."""
    sys.stderr.flush()
    lines = Lines(2)
    lines.start()
    return lines
