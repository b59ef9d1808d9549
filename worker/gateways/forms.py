"""Bodies that are forms, urlencoded or multipart: their fields, and their secrets overwritten where they stand. Pure.

A secret may be a field of the form, or a field of the JSON inside one. Both keep their length as written: what was written as
`%XX` stays three bytes. Linear in the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from worker.domain.errors import MalformedEvent
from worker.gateways.redaction import is_secret, overwrites

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MAX_FIELDS = 64

_FREQUENT = tuple((b"%%%02X" % code, bytes([code])) for code in b'",:/+={}[]@\\')
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_BOUNDARY = re.compile(r"""boundary=(?:"([^"\\]{1,70})"|([^\s";,]{1,70}))""", re.IGNORECASE)
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,256}")
_PART_NAME = re.compile(rb'[\s;]name="([^"\r\n]*)"', re.IGNORECASE)
_PART_IS_FILE = re.compile(rb"[\s;]filename\*?=", re.IGNORECASE)
_MAX_PART_HEAD_BYTES = 1024
_PIECE_BYTES = 64 << 10


class Field(NamedTuple):
    """Where a value stands in the body."""

    name: str
    start: int
    stop: int
    is_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """`content_type` as it must be named so that the body can be read again."""

    body: bytes = field(repr=False)
    content_type: str
    fields: tuple[Field, ...] = field(repr=False)
    is_urlencoded: bool

    def value(self, name: str) -> bytes | None:
        """The first value of that name, its encoding undone; a file is none."""
        for known in self.fields:
            if known.name == name and not known.is_file:
                return self._plain(known)
        return None

    def values(self) -> dict[str, bytes]:
        """All that are no files; of a name the first."""
        return {known.name: self._plain(known) for known in reversed(self.fields) if not known.is_file}

    def redacted(self) -> Form:
        """The same form with its secrets overwritten; every field stands where it stood."""
        clean: bytearray | None = None
        for start, stop, replacement in self._overwrites():
            clean = bytearray(self.body) if clean is None else clean
            clean[start:stop] = replacement
        return self if clean is None else replace(self, body=bytes(clean))

    def _plain(self, known: Field) -> bytes:
        written = self.body[known.start : known.stop]
        return _decoded(written) if self.is_urlencoded else written

    def _overwrites(self) -> Iterator[tuple[int, int, bytes]]:
        for known in self.fields:
            if known.is_file:
                continue
            if is_secret(known.name):
                yield known.start, known.stop, b"*" * (known.stop - known.start)
                continue
            plain = self._plain(known)
            if not _is_json(plain):
                continue
            inside = overwrites(plain)
            if self.is_urlencoded:
                inside = _as_written(self.body[known.start : known.stop], plain, inside)
            yield from ((known.start + start, known.start + stop, replacement) for start, stop, replacement in inside)


def form_of(body: bytes, content_type: str) -> Form:
    """The form that `body` is. Raises `MalformedEvent` where it is none, or has more than `MAX_FIELDS` fields."""
    if content_type.strip().lower().startswith(MULTIPART):
        return _multipart(body, content_type.strip())
    if not body:
        raise MalformedEvent("body", "empty")
    if body.count(b"&") >= MAX_FIELDS:
        raise MalformedEvent("body", f"a form of more than {MAX_FIELDS} fields")
    fields: list[Field] = []
    start = 0
    for pair in body.split(b"&"):
        name, separator, _ = pair.partition(b"=")
        fields.append(Field(_decoded(name).decode(errors="replace"), start + len(name) + len(separator), start + len(pair)))
        start += len(pair) + 1
    return Form(body=body, content_type=URLENCODED, fields=tuple(fields), is_urlencoded=True)


def _multipart(body: bytes, content_type: str) -> Form:
    named = _BOUNDARY.search(content_type)
    if named is None or not _PRINTABLE.fullmatch(content_type):
        raise MalformedEvent("body", "a multipart form without a boundary")
    delimiter = b"--" + (named[1] or named[2]).encode()
    if not body.startswith(delimiter):
        raise MalformedEvent("body", "a multipart form that does not begin with its boundary")
    fields = tuple(_parts(body, delimiter))
    return Form(body=body, content_type=content_type, fields=fields, is_urlencoded=False)


def _parts(body: bytes, delimiter: bytes) -> Iterator[Field]:
    at = len(delimiter)
    for _ in range(MAX_FIELDS):
        if body.startswith(b"--", at):
            return
        start = body.find(b"\r\n\r\n", at, at + _MAX_PART_HEAD_BYTES) + 4
        stop = body.find(b"\r\n" + delimiter, start - 2)
        if start < at or stop < 0:
            raise MalformedEvent("body", "a multipart form that is cut off")
        head = body[at:start]
        name = _PART_NAME.search(head)
        yield Field(name[1].decode(errors="replace") if name else "", min(start, stop), stop, _PART_IS_FILE.search(head) is not None)
        at = stop + 2 + len(delimiter)
    raise MalformedEvent("body", f"a form of more than {MAX_FIELDS} fields")


def _decoded(written: bytes) -> bytes:
    plain = written.replace(b"+", b" ")
    if b"%" not in plain:
        return plain
    # A megabyte of JSON is hundreds of thousands of escapes, nearly all of them of these few. None of them is a hexadecimal
    # digit or `%`, so what they leave behind cannot be taken for an escape.
    for escape, character in _FREQUENT:
        plain = plain.replace(escape, character)
    return b"".join(unquote_to_bytes(piece) for piece in _pieces(plain))


def _pieces(written: bytes) -> Iterator[bytes]:
    """`written` in pieces that cut no escape: undoing one escape takes two hundred bytes, and megabytes may be nothing else."""
    at = 0
    while at < len(written):
        stop = at + _PIECE_BYTES
        if (escape := written.find(b"%", stop - 2, stop)) >= 0 and stop < len(written):
            stop = escape
        yield written[at:stop]
        at = stop


def _is_json(plain: bytes) -> bool:
    if plain.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        orjson.loads(plain)
    except orjson.JSONDecodeError:
        return False
    return True


def _as_written(written: bytes, plain: bytes, inside: Iterable[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """Overwrites of the decoded value, in order, moved to where those bytes stand in `written`, each byte as wide as it was."""
    at = done = 0
    # A `%` that escapes nothing stands for itself; only where there is none of these may they simply be counted.
    walk = _place if len(written) - len(plain) == 2 * written.count(b"%") else _place_by_escapes
    for start, stop, replacement in inside:
        begin = walk(written, at, start - done)
        at, done = walk(written, begin, stop - start), stop
        rewritten = bytearray()
        told = 0
        for nth, escape in enumerate(_ESCAPE.finditer(written, begin, at)):
            place = escape.start() - begin - 2 * nth
            rewritten += b"%b%%%02X" % (replacement[told:place], replacement[place])
            told = place + 1
        yield begin, at, bytes(rewritten + replacement[told:])


def _place(written: bytes, at: int, decoded_bytes: int) -> int:
    """Where so many decoded bytes end that begin at `at`: each `%` counted moves it by two, and may bring more into reach."""
    upto = at + decoded_bytes
    counted = at
    while escapes := written.count(b"%", counted, upto):
        counted, upto = upto, upto + 2 * escapes
    return upto


def _place_by_escapes(written: bytes, at: int, decoded_bytes: int) -> int:
    upto = at + decoded_bytes
    for escape in _ESCAPE.finditer(written, at):
        if escape.start() >= upto:
            break
        upto += 2
    return upto
