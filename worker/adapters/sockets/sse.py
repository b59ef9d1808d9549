"""An event stream, read piece by piece: `text/event-stream` as the HTML standard has it (9.2.6), with a limit on everything. Pure.

Does not decode the data: it stays the bytes that were sent, its lines joined by a line feed.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_MAX_FIELD_BYTES = 1_024
"""Of what is neither data nor comment; a longer line counts as not sent."""
_MAX_RETRY_DIGITS = 9


class StreamEvent(NamedTuple):
    """One event. `data` None: it was longer than allowed, and is gone. `id`: the last one given, by this event or an earlier one."""

    name: str
    data: bytes | None
    id: str | None


class EventStream:
    """Feed it what arrives; it answers the events that are complete. What is not complete at the end of a stream is no event."""

    __slots__ = ("_data", "_id", "_is_first_line", "_is_too_long", "_line", "_line_is_cut", "_max_bytes", "_name", "_skips_lf", "retry_s")

    def __init__(self, max_event_bytes: int) -> None:
        self.retry_s: float | None = None
        """How long the server asks to wait before the next connection, where it did."""
        self._max_bytes = max_event_bytes
        self._is_first_line = True
        self._skips_lf = False
        self._line = bytearray()
        """What of the present line is here."""
        self._line_is_cut = False
        self._name = ""
        self._data = bytearray()
        """Of the present event, a line feed after each line."""
        self._is_too_long = False
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """The events that end in this chunk, in their order. However a stream is split into chunks, its events are the same."""
        if self._skips_lf and chunk:
            self._skips_lf = False
            chunk = chunk.removeprefix(b"\n")
        found: list[StreamEvent] = []
        for piece in chunk.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            self._continue_line(text)
            if len(text) < len(piece):
                self._end_line(found)
        self._skips_lf = self._skips_lf or chunk.endswith(b"\r")
        return found

    def _continue_line(self, text: bytes) -> None:
        """What is beyond the limit goes; which field it was stays known."""
        room = self._max_bytes + _MAX_FIELD_BYTES - len(self._line)
        if len(text) > room:
            self._line_is_cut = True
            del self._line[_MAX_FIELD_BYTES:]
            text = text[: max(0, _MAX_FIELD_BYTES - len(self._line))]
        if not self._line_is_cut or len(self._line) < _MAX_FIELD_BYTES:
            self._line += text

    def _end_line(self, found: list[StreamEvent]) -> None:
        line, is_cut = bytes(self._line), self._line_is_cut
        self._line, self._line_is_cut = bytearray(), False
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(found)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value, is_cut=is_cut)
        elif name and len(line) <= _MAX_FIELD_BYTES and not is_cut:
            self._set_field(name, value)

    def _add_data(self, value: bytes, *, is_cut: bool) -> None:
        if is_cut or len(self._data) + len(value) > self._max_bytes:
            self._is_too_long = True
            self._data = bytearray()
        if not self._is_too_long:
            self._data += value
            self._data += b"\n"

    def _set_field(self, name: bytes, value: bytes) -> None:
        if name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace") or None
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self.retry_s = int(value) / 1000

    def _dispatch(self, found: list[StreamEvent]) -> None:
        """An event without data is none, and leaves only its id behind."""
        if self._is_too_long:
            found.append(StreamEvent(self._name or "message", None, self._id))
        elif self._data:
            found.append(StreamEvent(self._name or "message", bytes(self._data[:-1]), self._id))
        self._name, self._is_too_long = "", False
        if self._data:
            self._data = bytearray()
