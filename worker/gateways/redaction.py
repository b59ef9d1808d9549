"""Overwriting the secrets that gateways put into their bodies, in place, before anything is stored. Pure.

Every value of a known secret field becomes `*` of the same length; nothing else changes, so the body stays the JSON it was and
every other byte stands where it stood. What stands inside an object or list under such a field is overwritten too; the
digits of a number before its exponent become `1`, or `0` after a leading `0` (a `*` would not be JSON, and it must stay a
number that a double can hold). Linear in a body that is JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

SECRET_FIELDS = frozenset(
    {
        "accesstoken",
        "apikey",
        "appsecret",
        "authorization",
        "authtoken",
        "clientsecret",
        "clienttoken",
        "hmackey",
        "instancetoken",
        "jwtkey",
        "refreshtoken",
        "token",
        "verifytoken",
        "webhooksecret",
        "xapikey",
    }
)
"""Names as compared: lower case, without `-` and `_`."""

_HINTS = (b"token", b"api", b"hmac", b"jwt", b"secret", b"authorization")
"""One of them stands in every secret name, unbroken; a body that holds none is not looked at any closer."""
_MAX_NAME_BYTES = 6 * 32
"""The longest secret name, every character written as an escape."""
_WRITTEN = b"|".join(b"[-_]*+".join(bytes([c]) for c in name.encode()) for name in sorted(SECRET_FIELDS))
_SECRET_KEY = re.compile(rb'"(?:%b)"\s*:' % _WRITTEN, re.IGNORECASE)
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]")
_ANY_KEY = re.compile(rb'("(?:[^"\\]++|\\.)*+")(\s*:)?', re.DOTALL)
_STRING_OR_NUMBER = rb'"((?:[^"\\]++|\\.)*+)"(\s*:)?|(-?[0-9][-+.eE0-9]*)|([\[{])'
_VALUE = re.compile(rb"\s*+(?:%b)" % _STRING_OR_NUMBER, re.DOTALL)
_WITHIN = re.compile(rb"%b|([\]}])" % _STRING_OR_NUMBER, re.DOTALL)
_DIGIT = re.compile(rb"[0-9]")


def redacted(body: bytes) -> bytes:
    """`body`, which must be JSON, with the values of its secret fields overwritten; the same object where there are none."""
    clean: bytearray | None = None
    for start, stop, replacement in overwrites(body):
        clean = bytearray(body) if clean is None else clean
        clean[start:stop] = replacement
    return body if clean is None else bytes(clean)


def overwrites(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What `redacted` writes, in order: (from, to, as many bytes)."""
    # A name written with escapes (`to\u006ben`) is found by walking over every string: exact, and ten times slower.
    if _ESCAPED_LETTER.search(body):
        ends = _escaped_key_ends(body)
    else:
        lower = body.lower()
        if not any(hint in lower for hint in _HINTS):
            return
        ends = _key_ends(body)
    finished = 0
    for end in ends:
        # A secret field inside a value that is overwritten already must not be walked through again for each of its levels.
        for start, stop, replacement in _secrets_after(body, end) if end >= finished else ():
            yield start, stop, replacement
            finished = stop


def is_secret(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") in SECRET_FIELDS


def _key_ends(body: bytes) -> Iterator[int]:
    """Where the values of secret keys begin.

    Only a string's opening quote can be followed by a name, a quote and a colon; a quote inside a string is escaped.
    """
    for match in _SECRET_KEY.finditer(body):
        if body[match.start() - 1 : match.start()] != b"\\":
            yield match.end()


def _escaped_key_ends(body: bytes) -> Iterator[int]:
    for match in _ANY_KEY.finditer(body):
        if match[2] is not None and len(match[1]) <= _MAX_NAME_BYTES and _names_secret(match[1]):
            yield match.end()


def _names_secret(quoted: bytes) -> bool:
    try:
        name: str = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return False
    return is_secret(name)


def _secrets_after(body: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """What to overwrite in the value that begins at `start`: (from, to, with)."""
    value = _VALUE.match(body, start)
    if value is None:  # true, false, null
        return
    if value[4] is None:
        yield _overwritten(value)
    else:
        yield from _all_within(body, value.start(4))


def _all_within(body: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Every string and number of the container at `start` that is no key."""
    depth = 0
    for match in _WITHIN.finditer(body, start):
        if match[4] is not None:
            depth += 1
        elif match[5] is not None:
            depth -= 1
            if depth == 0:
                # Nothing to overwrite, but said: the container ends here.
                yield match.end(), match.end(), b""
                return
        elif match[2] is None:
            yield _overwritten(match)


def _overwritten(match: re.Match[bytes]) -> tuple[int, int, bytes]:
    if match[1] is not None:
        return *match.span(1), b"*" * len(match[1])
    mantissa = re.split(rb"[eE]", match[3])[0]
    start = match.start(3)
    return start, start + len(mantissa), _DIGIT.sub(b"0" if mantissa.lstrip(b"-").startswith(b"0") else b"1", mantissa)
