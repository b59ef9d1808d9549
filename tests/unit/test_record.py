"""The durable form of an event: nothing is lost on the way in and out, and damage is noticed."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain import record
from worker.domain.errors import CorruptRecord
from worker.domain.event import Connection, Event, EventType, Media
from worker.domain.ids import EventKey, InstanceId, TenantId

CONTRACT_FIELDS = """
schema event_key gateway transport tenant_id instance_id gateway_instance type subtype chat_id chat_aliases sender_id
sender_aliases from_me is_group message_ids ref_message_id status status_rank text media push_name connection occurred_at received_at replay
raw raw_content_type
""".split()  # noqa: SIM905 (a list of words reads better)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | texts
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts, lambda c: st.lists(c) | st.dictionaries(texts, c), max_leaves=8
)
events = st.builds(
    Event,
    event_key=texts.map(EventKey),
    gateway=texts,
    transport=texts,
    tenant_id=texts.map(TenantId),
    instance_id=texts.map(InstanceId),
    gateway_instance=texts,
    type=st.sampled_from(EventType),
    subtype=maybe,
    chat_id=maybe,
    chat_aliases=st.lists(texts, max_size=2).map(tuple),
    from_me=st.booleans(),
    message_ids=st.lists(texts, max_size=3).map(tuple),
    status_rank=st.none() | st.integers(-1, 4),
    text=maybe,
    media=st.none() | st.builds(Media, kind=texts, size=st.none() | st.integers(0, 2**53)),
    connection=st.none() | st.builds(Connection, state=texts, reason=maybe),
    received_at=texts,
    raw=json_values.map(orjson.dumps),
    remembered=st.booleans(),
)


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "event_key": EventKey("k"),
        "gateway": "waha",
        "transport": "webhook",
        "tenant_id": TenantId("acme"),
        "instance_id": InstanceId("acme-sales"),
        "gateway_instance": "default",
        "type": EventType.MESSAGE,
        "received_at": "2026-11-22T07:45:38.300Z",
        "raw": b'{"a": 1.0}',
    }
    return Event(**fields | changes)


@given(events)
def test_what_goes_in_comes_out(event: Event) -> None:
    opened = record.decode(record.encode(event))
    for name in (
        "event_key",
        "tenant_id",
        "instance_id",
        "gateway",
        "type",
        "subtype",
        "chat_id",
        "received_at",
        "raw_content_type",
        "remembered",
    ):
        assert getattr(opened, name) == getattr(event, name)
    assert tuple(opened.chat_aliases) == event.chat_aliases
    assert record.raw_body(opened) == (event.raw, "application/json")
    body = orjson.loads(record.normalized_body(opened))
    assert list(body) == CONTRACT_FIELDS
    assert body["raw"] == orjson.loads(event.raw)
    assert body["text"] == event.text
    assert body["message_ids"] == list(event.message_ids)


def test_the_gateways_bytes_are_embedded_as_they_came() -> None:
    raw = b' {"n": 1.00, "big": 123456789012345678901234567890, "n": 2, "\\u0061": "\\/"}\n'
    opened = record.decode(record.encode(event(raw=raw)))
    assert b'"raw":' + raw + b',"raw_content_type":"application/json"}' in record.normalized_body(opened)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain; charset=utf-8", "application/jsonx", ""])
def test_what_is_not_json_is_embedded_as_base64(content_type: str) -> None:
    opened = record.decode(record.encode(event(raw=b"a=\xff&b=1", raw_content_type=content_type)))
    body = orjson.loads(record.normalized_body(opened))
    assert base64.b64decode(body["raw"]) == b"a=\xff&b=1"
    assert body["raw_content_type"] == content_type
    assert record.raw_body(opened) == (b"a=\xff&b=1", content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "text/json"]
)
def test_json_is_known_by_its_type_whatever_its_parameters(content_type: str) -> None:
    opened = record.decode(record.encode(event(raw_content_type=content_type)))
    assert orjson.loads(record.normalized_body(opened))["raw"] == {"a": 1.0}


def test_a_record_knows_its_length_and_hides_its_payload() -> None:
    data = record.encode(event(text="private", chat_id="5511900000001@s.whatsapp.net"))
    opened = record.decode(data)
    assert len(opened) == len(data)
    assert repr(opened) == f"<Record k message {len(data)} B>"


@given(st.data())
def test_a_header_cut_short_is_corrupt(data: st.DataObject) -> None:
    whole = record.encode(event())
    length = len(whole) - len(event().raw)
    with pytest.raises(CorruptRecord):
        record.decode(whole[: data.draw(st.integers(0, length - 1))])


@given(st.binary(max_size=200))
def test_foreign_bytes_are_corrupt_and_nothing_else(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        record.decode(data)


@pytest.mark.parametrize("header", [b"[]", b"1", b"{}", b'{"event_key":"k"}', b"{", b"\xff"])
def test_a_header_that_is_no_envelope_is_corrupt(header: bytes) -> None:
    good = record.encode(event())
    with pytest.raises(CorruptRecord, match="cannot be read"):
        record.decode(good[:1] + len(header).to_bytes(4, "big") + good[5:8] + header + b"application/json{}")


def test_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(CorruptRecord, match="version 2"):
        record.decode(b"\x02" + record.encode(event())[1:])


@given(events)
def test_the_beginning_of_a_record_tells_what_it_is_about(event: Event) -> None:
    data = record.encode(event)
    expected = record.Heading(event.instance_id, event.type, event.subtype, event.received_at)
    assert record.heading(data) == expected
    assert record.heading(data.removesuffix(event.raw)) == expected


@given(st.binary(max_size=60))
def test_a_beginning_that_is_none_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        record.heading(data)
