"""Forms give up their fields; secrets in them are overwritten where they stand, and nothing else changes."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from urllib.parse import parse_qs, quote_plus, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.errors import MalformedEvent
from worker.gateways.forms import URLENCODED, Form, form_of
from worker.gateways.redaction import redacted

MULTIPART = "multipart/form-data; boundary=sample-boundary"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return b'--sample-boundary\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more.encode(), value)


def form(body: bytes) -> Form:
    return form_of(body, URLENCODED)


@pytest.mark.parametrize(
    ("body", "clean"),
    [
        (b"token=abc&x=abc", b"token=***&x=abc"),
        (b"x=1&Access-Token=a%2Bc", b"x=1&Access-Token=*****"),
        (b"t%6Fken=abc", b"t%6Fken=***"),
        (b"jsonData=%7B%22token%22%3A%22a%2Bb+c%22%2C%22x%22%3A1%7D", b"jsonData=%7B%22token%22%3A%22*%2A***%22%2C%22x%22%3A1%7D"),
        (b'jsonData={"token":"abc"}', b'jsonData={"token":"***"}'),
        (b"jsonData=%7B%22%74oken%22:-%31%32.5e3%7D&token=", b"jsonData=%7B%22%74oken%22:-%31%31.1e3%7D&token="),
        (b"a=%7B%22token%22%3A%22%C3%A9%22%7D", b"a=%7B%22token%22%3A%22%2A%2A%22%7D"),
        (b'jsonData={"x":"100%","token":"abc"}', b'jsonData={"x":"100%","token":"***"}'),
        (b"token=1&token=2", b"token=*&token=*"),
    ],
)
def test_a_secret_is_overwritten_in_the_form_as_it_is_written(body: bytes, clean: bytes) -> None:
    assert form(body).redacted().body == clean


@pytest.mark.parametrize("body", [b"x=token", b"tokens=abc", b"a=%7B%22x%22%3A%22token%22%7D", b"a={token:abc", b"just some text", b"&&=&"])
def test_what_only_looks_like_a_secret_in_a_form_stays(body: bytes) -> None:
    assert form(body).redacted().body is body


def test_the_fields_of_a_form_are_decoded() -> None:
    read = form(b"a=1+2%21&b&a=3&=x&c=%zz%4")
    assert read.values() == {"a": b"1 2!", "b": b"", "": b"x", "c": b"%zz%4"}
    assert read.value("nobody") is None
    assert read.content_type == URLENCODED


def test_a_file_in_a_multipart_form_is_no_field_and_keeps_its_bytes() -> None:
    picture = part("file", b'{"token":"abc"}\r\n--another\x00', '; filename="a.jpg"')
    body = part("token", b"abc") + picture + part("jsonData", b'{"token":"abc","x":1}') + part("e", b"") + b"--sample-boundary--\r\n"
    read = form_of(body, MULTIPART).redacted()
    assert read.body == body.replace(b"\r\n\r\nabc", b"\r\n\r\n***").replace(
        b'\r\n\r\n{"token":"abc","x":1}', b'\r\n\r\n{"token":"***","x":1}'
    )
    assert read.values() == {"token": b"***", "jsonData": b'{"token":"***","x":1}', "e": b""}
    assert read.content_type == MULTIPART


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", URLENCODED),
        (b"&" * 64, URLENCODED),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/form-data"),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=c"),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b\x7f"),
        (b"--b\r\n\r\nx", "multipart/form-data; boundary=b"),
        (b"--b\r\nno end of its head", "multipart/form-data; boundary=b"),
        (b"--b\r\n\r\nx\r\n" * 65 + b"--b--", "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_no_form_or_too_large_a_one_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        form_of(body, content_type)
    assert refused.value.field == "body"


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=3), st.booleans())
def test_the_overwritten_form_says_the_same_but_for_its_secrets(secret: str, others: dict[str, object], plus: bool) -> None:
    posted = json.dumps({**others, "token": secret, "y": [secret]}, ensure_ascii=False)
    pairs = {"jsonData": posted, "token": secret, "z": "1"}
    body = (
        urlencode(pairs)
        if plus
        else "&".join(f"{k}={v.replace('%', '%25').replace('&', '%26').replace('+', '%2B')}" for k, v in pairs.items())
    ).encode("utf-8", "surrogatepass")
    clean = form(body).redacted()
    assert len(clean.body) == len(body)
    seen = json.loads((clean.value("jsonData") or b"").decode())
    assert set(seen["token"]) <= {"*"}
    assert {**seen, "token": secret} == {**others, "token": secret, "y": [secret]}
    assert set(clean.value("token") or b"") <= {ord("*")}
    assert parse_qs(clean.body.decode())["z"] == ["1"]


@given(secret=st.text('ab"\\%2+\u00e9'), other=st.text('a%"2 '), chance=st.randoms(use_true_random=False), is_broken=st.booleans())
def test_whatever_is_escaped_the_json_inside_is_overwritten_as_json_is(
    secret: str, other: str, chance: random.Random, is_broken: bool
) -> None:
    posted = json.dumps({"x": other, "token": [secret, -12.5, {"y": secret}], "z": {"apikey": secret}}, ensure_ascii=False).encode()
    escaped = b"".join(b"%%%02x" % byte if byte in b"%&+ " or chance.random() < 0.4 else bytes([byte]) for byte in posted)
    # A percent sign that escapes nothing, as no encoder leaves it behind.
    body = form(b"jsonData=" + (escaped.replace(b"%25", b"%", 1) if is_broken else escaped) + b"&q=%")
    plain, clean = body.value("jsonData") or b"", body.redacted()
    try:
        json.loads(plain)
    except ValueError:
        assert clean is body
    else:
        assert clean.value("jsonData") == redacted(plain)
        assert len(clean.body) == len(body.body)


@pytest.mark.parametrize(
    "body",
    [
        b"jsonData=" + quote_plus('{"a":"' + "+/==" * 300_000 + '","token":"abc"}').encode(),
        b"jsonData=" + quote_plus("[" + '{"token":"a"},' * 30_000 + "1]").encode(),
        b"a=" + b"%" * 2_000_000,
        b"jsonData=%7B" + b"%22token%22%3A" * 100_000,
    ],
    ids=["an inlined video", "many secrets", "percent signs", "no JSON"],
)
def test_a_form_of_megabytes_takes_no_more_than_its_length(body: bytes) -> None:
    started = time.perf_counter()
    assert len(form(body).redacted().body) == len(body)
    assert time.perf_counter() - started < 5


def test_escapes_are_undone_wherever_they_stand_in_a_long_value() -> None:
    for before in range(6):
        written = b"a" * before + b"%41%%4%zz" * 20_000
        assert form(b"x=" + written).value("x") == unquote_to_bytes(written)


def test_a_form_of_nothing_but_escapes_takes_memory_by_its_length() -> None:
    body = b"jsonData=%7b%22token%22%3a%22" + b"%41" * 500_000 + b"%22%7d"
    tracemalloc.start()
    clean = form(body).redacted()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clean.value("jsonData") == b'{"token":"' + b"*" * 500_000 + b'"}'
    assert peak < 30 * len(body)
