"""Real bodies, spoilt: values of wrong types anywhere, damaged bytes, keys told twice, cut off, nested, as broken forms. Seeded.

In each of them secrets are planted under names that mean one, after most of the damage, so that they stand where a secret would.
`is_bared` says, by parsers that share nothing with the worker's, whether what was left of the damage put one elsewhere.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote_to_bytes

import orjson

from tests.unit.gateway_bodies import body_of, names_of
from worker.gateways import GATEWAYS
from worker.gateways.redaction import SECRET_FIELDS

SECRET = b"hush8f3a1c"
SECRET_NUMBER = b"8675309424242"
_ESCAPED = b"h\\u0075sh8f3a1c"
PLANTED = (SECRET, SECRET_NUMBER, _ESCAPED)
"""The ways a secret is written. None of them stands in any fixture."""

GENERIC = {"type": "message", "message_ids": ["A"], "chat_id": "1@c.us", "media": {"kind": "image", "size": 1}, "occurred_at": 1763797538}
SHAPES: Mapping[str, Sequence[Any]] = {
    **{gateway: [body_of(gateway, name) for name in names_of(gateway)] for gateway in GATEWAYS},
    "generic": [GENERIC, [GENERIC, GENERIC]],
}


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + b"1" + closing * levels


STRANGE = (
    *(b"null", b"true", b"false", b"0", b"-1", b"-0.0", b"1e308", b"1e-400", b"1e400", b"-9223372036854775809", b"18446744073709551616"),
    *(b"9" * 400, b"NaN", b"Infinity", b"1763797538123456789", b"1e17", b"4102444799.9996", b"0.1", b"253402300800"),
    *(b'""', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud83d"', b'"\\r\\nx: y"', b'"nan"', b'"inf"', b'"1_0"', b'"-1"'),
    *(b'"%b"' % (b"x" * 300), b'"%b"' % (b"9" * 400), b'"@s.whatsapp.net"', b'"@g.us"', b'"5511900000001:99999999@c.us"', b'"::@lid"'),
    *('"١٢٣٤٥٦٧٨"'.encode(), '"²²²²²²"'.encode(), '"\u2028\u2029\ufeff"'.encode(), b'"\xff"', b'"\xed\xa0\x80"', b'"\0"'),
    *(b'"2025-13-45T99:99:99Z"', b'"9999-12-31T23:59:59-23:59"', b'"0001-01-01T00:00:00+23:59"', b'"2025-11-22T07:45:38,5+00:00:01.5"'),
    *(b"[]", b"{}", b"[[]]", b"[{}]", b'{"":{}}', b"[null,1,[],{}]", b"[%b]" % b",".join([b'"a"'] * 300), b'{"a":1,"a":2}'),
    *(nested(200), nested(260), nested(900), nested(260, b'{"a":', b"}"), nested(5_000)),
)
"""JSON texts, some of which no parser takes."""
_FRAGMENTS = (
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\u00"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"1e999", b"-", b"\r\n", b" ", b"null"),
)
_FORM_FRAGMENTS = (b"%", b"&", b"=", b"%zz", b"%0", b"%00", b"%FF", b"+", b"&&", b";", b"\r\n--b", b"--", b'"', b"\0")
_KEY = re.compile(rb'"([A-Za-z_.]{1,30})"\s*:')
_OBJECT = re.compile(rb'\{(?=\s*")')
_HERE = "@@here@@"
_FORM = "application/x-www-form-urlencoded"
_PARTS = "multipart/form-data; boundary=b"
_OTHER_TYPES = (
    *(
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "multipart/form-data",
        "multipart/mixed; boundary=b",
    ),
    *(
        'multipart/form-data; boundary="b"',
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b\u00e9",
        "application/\ud800",
        "," * 300,
    ),
)


class Mutant(NamedTuple):
    body: bytes
    headers: dict[str, str]


def mutants(gateway: str, count: int, seed: int) -> Iterator[Mutant]:
    """So many, the same for the same seed."""
    chance = random.Random(f"{gateway} {seed}")
    written = [orjson.dumps(shape) for shape in SHAPES[gateway]]
    for number in range(count):
        body = _spoilt(chance, written)
        # `generic` takes no field that it does not know; a secret would have nearly every body refused.
        if gateway != "generic" or chance.random() < 0.3:
            body = _planted(chance, body)
        if number % 2_000 == 1_999:
            body = _swollen(chance, body)
        if gateway == "wuzapi" and chance.random() < 0.6:
            mutant = _as_form(chance, body)
        else:
            body = body[: chance.randrange(len(body) + 1)] if chance.random() < 0.04 else body
            mutant = Mutant(body, {"content-type": "application/json"})
        yield mutant._replace(headers={"content-type": chance.choice(_OTHER_TYPES)}) if chance.random() < 0.05 else mutant


def _spoilt(chance: random.Random, written: Sequence[bytes]) -> bytes:
    body = chance.choice(written)
    if chance.random() < 0.75:
        value = orjson.loads(body)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            value = _changed(chance, value)
        body = orjson.dumps(value).replace(b'"%b"' % _HERE.encode(), chance.choice(STRANGE))
    if chance.random() < 0.2:
        body = _told_twice(chance, body)
    if chance.random() < 0.3:
        body = _damaged(chance, body, _FRAGMENTS)
    if chance.random() < 0.01:
        levels = chance.choice((10, 240, 260, 1_100))
        body = b'{"data":' * levels + body + b"}" * levels
    return body


def _changed(chance: random.Random, value: Any) -> Any:
    """Another value, none, one more, or one from elsewhere, at a place anywhere."""
    root = place = [value]
    step: Any = 0
    while isinstance(place[step], dict | list) and place[step] and chance.random() < 0.85:
        place = place[step]
        step = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    kind = chance.randrange(7)
    if kind < 4:
        place[step] = _HERE
    elif kind == 4:
        del place[step]
    elif kind == 5:
        place[step] = chance.choice(([place[step]] * 3, {"data": place[step]}, str(place[step])))
    elif isinstance(place, dict):
        place[chance.choice(list(place))] = place[step]
    else:
        place.insert(step, place[step])
    return root[0] if root else None


def _told_twice(chance: random.Random, body: bytes) -> bytes:
    keys = list(_KEY.finditer(body))
    if not keys:
        return body
    key = chance.choice(keys)
    return b"%b%b%b,%b" % (body[: key.start()], key[0], chance.choice(STRANGE), body[key.start() :])


def _damaged(chance: random.Random, body: bytes, fragments: Sequence[bytes]) -> bytes:
    spoilt = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(spoilt) + 1)
        gone = chance.choice((0, 0, 1, 1, 3, 40))
        inside = spoilt[max(0, at - 20) : at + 20]
        spoilt[at : at + gone] = chance.choice((chance.choice(fragments), chance.randbytes(2), inside, b""))
    return bytes(spoilt)


def _planted(chance: random.Random, body: bytes) -> bytes:
    places = [found.end() for found in _OBJECT.finditer(body)]
    for at in sorted(chance.sample(places, min(len(places), chance.choice((1, 1, 2, 4)))), reverse=True):
        body = b"%b%b:%b,%b" % (body[:at], _name(chance), _hidden(chance), body[at:])
    return body


_NAMES = sorted(SECRET_FIELDS)
_BETWEEN_WORDS = re.compile(r"(?<=.)(?=token|key|secret|api)")
_HIDDEN = (
    *(b'"%b"' % SECRET, b'"a\\"%b\\\\"' % SECRET, b'"Bearer %b\\u00e9"' % SECRET, b'"%b"' % _ESCAPED, SECRET_NUMBER),
    *(b'["%b",[%b]]' % (SECRET, SECRET_NUMBER), b'{"a":{"token":"%b","b":["%b"]},"c":null}' % (SECRET, SECRET)),
)


def _hidden(chance: random.Random) -> bytes:
    return chance.choice(_HIDDEN)


def _name(chance: random.Random) -> bytes:
    """A name that means a secret, in one of the ways to write it."""
    name = chance.choice(_NAMES)
    kind, at = chance.randrange(6), chance.randrange(1, len(name))
    if kind == 0:
        name = name.upper()
    elif kind == 1:
        name = _BETWEEN_WORDS.sub(chance.choice("-_"), name)
    elif kind == 2:
        name = f"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"
    return f'"{name}"{chance.choice(("", "", " "))}'.encode()


def _swollen(chance: random.Random, body: bytes) -> bytes:
    """Of a megabyte or so: an inlined video, or ten thousand of something."""
    found = chance.choice(list(_OBJECT.finditer(body)) or [None])
    at = 0 if found is None else found.end()
    much = chance.choice(
        (
            b'"base64":"%b",' % (b"QUJD" * 400_000),
            b'"text":"%b",' % (b'\\"' * 400_000),
            b'"list":[%b],' % b",".join([b'{"token":"%b"}' % SECRET] * 10_000),
            b"".join(b'"k%d":%d,' % (number, number) for number in range(20_000)),
        )
    )
    return body[:at] + much + body[at:]


def _as_form(chance: random.Random, body: bytes) -> Mutant:
    """As wuzapi sends it; damaged as a form, it gets its secret as a field of the form, and last."""
    is_damaged = chance.random() < 0.4
    if chance.random() < 0.25:
        form = b'--b\r\nContent-Disposition: form-data; name="jsonData"\r\n\r\n%b\r\n--b--\r\n' % body
        form = _damaged(chance, form, _FORM_FRAGMENTS) if is_damaged else form
        part = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n%b\r\n' % SECRET
        return Mutant(part + form, {"content-type": _PARTS})
    escaped = (quote, quote_plus, _all_escaped, _barely_escaped)[chance.randrange(4)](body)
    form = b"userID=7&jsonData=" + escaped.encode("latin-1")
    form = _damaged(chance, form, _FORM_FRAGMENTS) if is_damaged else form
    form = b"token=%b&%b" % (SECRET, form) if chance.random() < 0.5 else b"%b&t%%6Fken=%b" % (form, SECRET)
    return Mutant(form, {} if chance.random() < 0.2 else {"content-type": _FORM})


def _all_escaped(body: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in body[:20_000])


def _barely_escaped(body: bytes) -> str:
    return body.decode("latin-1").replace("&", "%26").replace("+", "%2B")


# ─── what a secret is, said again and otherwise ───


class _Pairs(list[tuple[str, Any]]):
    """An object with every pair that was told, also those whose key came twice."""


def is_bared(mutant: Mutant) -> bool:
    """Whether a planted secret stands in it, as far as it can be read, outside of any field whose name means a secret."""
    if "json" in mutant.headers.get("content-type", "") or mutant.body.lstrip()[:1] in (b"{", b"["):
        return _shows(mutant.body, unread=False)
    for name, value in parse_qsl(mutant.body.decode("latin-1"), keep_blank_values=True, encoding="latin-1"):
        if not _means_secret(name) and _shows(value.encode("latin-1"), unread=tells(value.encode("latin-1"))):
            return True
    return False


def tells(text: bytes) -> bool:
    """Whether a planted secret stands in it, written with escapes of a form or without."""
    return any(secret in text or (b"%" in text and secret in unquote_to_bytes(text)) for secret in PLANTED)


def _shows(text: bytes, *, unread: bool) -> bool:
    """Whether JSON shows a secret; `unread` where it is none."""
    try:
        return _holds(json.loads(text, object_pairs_hook=_Pairs))
    except (ValueError, RecursionError):
        return unread


def _holds(value: Any) -> bool:
    if isinstance(value, _Pairs):
        return any(_holds(name) or (not _means_secret(name) and _holds(inner)) for name, inner in value)
    if isinstance(value, list):
        return any(map(_holds, value))
    return any(secret.decode() in str(value) for secret in PLANTED)


def _means_secret(name: str) -> bool:
    return re.sub("[-_]", "", name).lower() in SECRET_FIELDS
