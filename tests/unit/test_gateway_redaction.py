"""Secrets in bodies are overwritten in place; nothing else changes, and it takes linear time."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway_bodies import body_of, events_of, names_of
from worker.domain import record
from worker.gateways import GATEWAYS
from worker.gateways.redaction import SECRET_FIELDS, redacted


@pytest.mark.parametrize(
    ("body", "clean"),
    [
        (b'{"apikey":"abc","x":"abc"}', b'{"apikey":"***","x":"abc"}'),
        (b'{ "Token" \n:\t "a\\"b\\\\" }', b'{ "Token" \n:\t "******" }'),
        (b'{"access_token":"a","Client-Token":"bc","X-Api-Key":"d"}', b'{"access_token":"*","Client-Token":"**","X-Api-Key":"*"}'),
        (b'{"a":{"b":[{"authorization":"Bearer x"}]}}', b'{"a":{"b":[{"authorization":"********"}]}}'),
        (b'{"to\\u006ben":"abc"}', b'{"to\\u006ben":"***"}'),
        (b'{"token":-12.5e3,"y":1}', b'{"token":-11.1e3,"y":1}'),
        (b'{"token":{"token":"ab","n":7,"l":["c",true]},"y":"z"}', b'{"token":{"token":"**","n":1,"l":["*",true]},"y":"z"}'),
        (b'{"token":[0.012e309,9e0307,0]}', b'{"token":[0.000e309,1e0307,0]}'),
        (b'{"token":null,"apikey":""}', b'{"token":null,"apikey":""}'),
        (b'{"token":"\xc3\xa9"}', b'{"token":"**"}'),
    ],
)
def test_a_secrets_value_is_overwritten_with_as_many_bytes(body: bytes, clean: bytes) -> None:
    assert redacted(body) == clean


@pytest.mark.parametrize(
    "body",
    [
        b'{"mytoken":"abc","tokens":"abc","tok":"abc"}',
        b'{"text":"token"}',
        b'["token","abc"]',
        b'{"text":"say \\"token\\": \\"abc\\""}',
        b'{"say \\"token":"abc"}',
        b'{"text":"\\u0041","say \\"token":"abc"}',
        b'{"x":"\\\\","y":"token"}',
        b'"token"',
    ],
)
def test_what_only_looks_like_a_secret_stays(body: bytes) -> None:
    assert redacted(body) is body


@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_every_name_is_found_in_any_case(name: str) -> None:
    assert redacted(b'{"%b":"abc"}' % name.upper().encode()) == b'{"%b":"***"}' % name.upper().encode()


names = st.sampled_from([*SECRET_FIELDS, "Access_Token", "x-api-key", "text", "to ken", 'a"token', "a\\"]) | st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(names, children, max_size=4),
    max_leaves=12,
)


def hidden(value: Any, *, secret: bool = False) -> Any:
    """What a reader may still see: the oracle, on parsed values instead of bytes."""
    if isinstance(value, dict):
        return {k: hidden(v, secret=secret or re.sub("[-_]", "", k).lower() in SECRET_FIELDS) for k, v in value.items()}
    if isinstance(value, list):
        return [hidden(v, secret=secret) for v in value]
    if secret and not isinstance(value, bool) and value is not None:
        return "hidden"
    return value


@given(values, st.booleans())
def test_exactly_the_secrets_are_hidden_whatever_the_shape(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    clean = redacted(body)
    assert len(clean) == len(body)
    seen = json.loads(clean.decode("utf-8", "surrogatepass"))
    wanted = hidden(value)
    assert _agree(value, wanted, seen)


def _agree(original: Any, wanted: Any, seen: Any) -> bool:
    """Hidden values no longer stand there; all others are what they were."""
    if isinstance(wanted, dict):
        return isinstance(seen, dict) and wanted.keys() == seen.keys() and all(_agree(original[k], wanted[k], seen[k]) for k in wanted)
    if isinstance(wanted, list):
        return isinstance(seen, list) and len(wanted) == len(seen) and all(map(_agree, original, wanted, seen))
    if wanted == "hidden" and original != "hidden":
        return set(seen) <= {"*"} if isinstance(seen, str) else "e" in repr(seen) or set(repr(seen)) <= set("-10.")
    return bool(wanted == seen)


@pytest.mark.parametrize(
    "body",
    [
        b'{"token":' * 500 + b"1" + b"}" * 500,
        b'{"x":"' + b'\\"' * 1_000_000 + b'","to\\u006ben":"abc"}',
        b'{"x":"' + b"QUJD" * 400_000 + b'","token":"abc"}',
        b"[" + b'{"token":"a"},' * 100_000 + b"1]",
        b'{"a' + b"_" * 2_000_000 + b'":1}',
    ],
    ids=["nested secrets", "escaped quotes", "inlined video", "many secrets", "a long name"],
)
def test_a_hostile_body_of_megabytes_takes_no_more_than_its_length(body: bytes) -> None:
    started = time.perf_counter()
    assert len(redacted(body)) == len(body)
    assert time.perf_counter() - started < 5


def test_what_is_no_json_after_all_breaks_nothing() -> None:
    assert redacted(b'{"\\u0041\\ud800":1,"token":[1') == b'{"\\u0041\\ud800":1,"token":[1'


def with_secrets(value: Any, secret: str) -> Any:
    """`value` with the secret in every object of it, under one name or another."""
    if isinstance(value, dict):
        return {**{k: with_secrets(v, secret) for k, v in value.items()}, "apikey": secret, "Client-Token": [secret]}
    return [with_secrets(v, secret) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("gateway", "name"), [(gateway, name) for gateway in GATEWAYS for name in names_of(gateway)])
def test_no_secret_of_a_body_stays_in_what_is_kept(gateway: str, name: str) -> None:
    body = with_secrets(body_of(gateway, name), "s3cret-of-theirs")
    for event in events_of(gateway, body):
        assert b"apikey" in event.raw
        assert b"s3cret-of-theirs" not in record.encode(event)
