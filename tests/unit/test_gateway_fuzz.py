"""Whatever a gateway sends, a body becomes events or is refused by name; nothing else is raised."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway_bodies import body_of, events_of
from tests.unit.mutations import SHAPES
from worker.domain import record
from worker.domain.errors import MalformedEvent
from worker.gateways import GATEWAYS
from worker.gateways.forms import MULTIPART, URLENCODED

deep: Any = 1
for _ in range(200):
    deep = [deep]
STRANGE = [
    None,
    True,
    0,
    -1,
    2**64 - 1,
    -(2**63),
    1e308,
    "",
    " ",
    "x" * 300,
    "9" * 400,
    "\0",
    "\r\nx: y",
    "nan",
    "inf",
    "1_0",
    [],
    {},
    [[]],
    [{}],
    {"": {}},
    deep,
]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for step, inner in steps for below in paths_of(inner, (*path, step)))]


def replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    body = copy.deepcopy(body)
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return body


def assert_kept_or_refused(gateway: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    try:
        events = events_of(gateway, body, headers=headers)
    except MalformedEvent:
        return
    assert events
    for event in events:
        opened = record.decode(record.encode(event))
        assert orjson.loads(record.normalized_body(opened))["event_key"] == event.event_key
        assert len(event.subtype or "") <= 64
        assert (event.subtype or "").isprintable()


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_wrong_value_at_any_place_of_a_real_shape_breaks_nothing(gateway: str) -> None:
    for shape in SHAPES[gateway]:
        for path in paths_of(shape):
            for value in STRANGE:
                assert_kept_or_refused(gateway, orjson.dumps(replaced(shape, path, value)))


@pytest.mark.parametrize("gateway", GATEWAYS)
@given(data=st.data())
def test_a_body_with_damaged_bytes_breaks_nothing(gateway: str, data: st.DataObject) -> None:
    body = bytearray(orjson.dumps(data.draw(st.sampled_from(SHAPES[gateway]))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_kept_or_refused(gateway, bytes(body))


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"a":1e400}',
        b'{"event":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"event":' * 1000 + b"1" + b"}" * 1000,
        b"1" * 5000,
    ],
)
def test_what_no_parser_takes_is_refused(gateway: str, body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        events_of(gateway, body)


FORM = urlencode({"instanceName": "s", "jsonData": orjson.dumps(body_of("wuzapi", "message.media")).decode(), "token": "t"}).encode()
PARTS = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, value)
    for name, value in ((b"jsonData", orjson.dumps(body_of("wuzapi", "receipt.read"))), (b"token", b"t"), (b"file", b"a.jpg"))
)
FORMS = [(FORM, {"content-type": URLENCODED}), (FORM, {}), (PARTS + b"--b--\r\n", {"content-type": f"{MULTIPART}; boundary=b"})]


@given(shape=st.sampled_from(FORMS), data=st.data())
def test_a_form_with_damaged_bytes_breaks_nothing(shape: tuple[bytes, dict[str, str]], data: st.DataObject) -> None:
    written, headers = shape
    body = bytearray(written)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.sampled_from([b"%", b"&", b"=", b"\r\n--b"]))
    assert_kept_or_refused("wuzapi", bytes(body), headers)
