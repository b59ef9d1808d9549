"""Our own envelope: one or a list, only `type` required, every fault named."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import event_of, events_of
from worker.domain import record
from worker.domain.errors import MalformedEvent
from worker.gateways import DEFAULT_SECRETS, GATEWAYS, generic
from worker.gateways.port import Push


def test_a_type_is_enough() -> None:
    event = event_of("generic", {"type": "system"})
    assert (event.type, event.gateway_instance, event.remembered) == ("system", "default", False)


def test_every_field_of_the_envelope_that_is_the_senders_is_taken() -> None:
    event = event_of(
        "generic",
        {
            "type": "message",
            "subtype": "text",
            "gateway_instance": "line-2",
            "chat_id": "120363000000000001@g.us",
            "sender_id": "5511900000001@c.us",
            "sender_aliases": ["1:2@lid"],
            "message_ids": ["A"],
            "text": "hi",
            "media": {"kind": "image", "size": 3, "inline": True},
            "occurred_at": "2026-11-22T04:45:38.12-03:00",
        },
    )
    assert (event.subtype, event.gateway_instance, event.chat_id, event.is_group) == ("text", "line-2", "120363000000000001@g.us", True)
    assert (event.sender_id, event.sender_aliases) == ("5511900000001@s.whatsapp.net", ("1@lid",))
    assert event.media is not None
    assert (event.media.size, event.media.inline) == (3, True)
    assert event.occurred_at == "2026-11-22T07:45:38.120Z"


def test_an_envelope_of_ours_may_be_passed_on_as_it_came() -> None:
    first = event_of("generic", {"type": "connection", "connection": {"state": "open"}, "event_key": "k"})
    passed_on = record.normalized_body(record.decode(record.encode(first)))
    again = event_of("generic", passed_on)
    assert (again.type, again.connection, again.raw) == (first.type, first.connection, passed_on)


def test_a_list_is_several_events_each_alone_in_its_raw() -> None:
    events = events_of("generic", [{"type": "message", "text": "1"}, {"type": "receipt", "status": "read"}])
    assert [event.raw for event in events] == [b'{"type":"message","text":"1"}', b'{"type":"receipt","status":"read"}']
    assert events[1].status_rank == 3


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({}, "type"),
        ({"type": "nonsense"}, "type"),
        ({"type": 7}, "type"),
        ({"type": "message", "colour": "red"}, "colour"),
        ({"type": "message", "chat_id": 7}, "chat_id"),
        ({"type": "message", "chat_id": ""}, "chat_id"),
        ({"type": "message", "from_me": "yes"}, "from_me"),
        ({"type": "message", "message_ids": "A"}, "message_ids"),
        ({"type": "message", "message_ids": [""]}, "message_ids"),
        ({"type": "message", "message_ids": ["A"] * 2000}, "message_ids"),
        ({"type": "message", "subtype": "a\nb"}, "subtype"),
        ({"type": "message", "media": {"kind": "image", "size": -1}}, "media"),
        ({"type": "message", "media": {"colour": "red"}}, "media"),
        ({"type": "connection", "connection": {}}, "connection"),
        ({"type": "message", "occurred_at": []}, "occurred_at"),
        ({"type": "receipt", "status": 3}, "status"),
        ("text", "body"),
        (None, "body"),
    ],
)
def test_a_fault_is_refused_with_its_field(item: Any, field: str) -> None:
    with pytest.raises(MalformedEvent) as alone:
        generic.decode(Push(body=orjson.dumps(item)))
    assert alone.value.field == field
    with pytest.raises(MalformedEvent) as second:
        generic.decode(Push(body=orjson.dumps([{"type": "system"}, item])))
    assert second.value.field == ("[1]" if field == "body" else f"[1].{field}")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" + b'{"type":"system"},' * 5000 + b'{"type":"system"}]'])
def test_a_body_without_events_or_with_too_many_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedEvent) as refused:
        generic.decode(Push(body=body))
    assert refused.value.field == "body"


@pytest.mark.parametrize("absurd", [-1, 0, 1e18, 9e99, "yesterday", "2026-11-22T07:45:38", "9" * 41, 10**18])
def test_an_absurd_time_is_no_time(absurd: Any) -> None:
    assert event_of("generic", {"type": "message", "occurred_at": absurd}).occurred_at is None


@pytest.mark.parametrize(
    ("moment", "ms"),
    [
        (1763797538, "000"),
        ("1763797538", "000"),
        ("2025-11-22T07:45:38Z", "000"),
        (1763797538.12, "120"),
        (1763797538120, "120"),
        (1763797538120999, "121"),
        (1763797538120000000, "120"),
        ("2025-11-22T04:45:38.1209-03:00", "121"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(moment: Any, ms: str) -> None:
    assert event_of("generic", {"type": "message", "occurred_at": moment}).occurred_at == f"2025-11-22T07:45:38.{ms}Z"


def test_the_signature_is_sha256_of_the_raw_body() -> None:
    sent = "sha256=" + hmac.new(b"s", b"{}", hashlib.sha256).hexdigest()
    assert generic.verify(Push(headers={"x-signature": sent}, body=b"{}"), ["s"])
    assert not generic.verify(Push(headers={"x-signature": sent}, body=b"{ }"), ["s"])


def test_every_gateway_refuses_the_secrets_that_anybody_knows() -> None:
    assert DEFAULT_SECRETS.keys() == GATEWAYS.keys()
    assert all("secret" in known for known in DEFAULT_SECRETS.values())


def test_an_event_of_several_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(MalformedEvent) as refused:
        generic.decode(Push(body=b'[{"type":"system"},{"type":"system","raw":' + b"[" * 300 + b"]" * 300 + b"}]"))
    assert refused.value.field == "[1]"


def test_a_type_that_is_nested_as_deep_as_a_parser_goes_is_refused_like_any_other() -> None:
    with pytest.raises(MalformedEvent) as refused:
        generic.decode(Push(body=b'{"type":' + b"[" * 1000 + b"]" * 1000 + b"}"))
    assert refused.value.field == "type"
