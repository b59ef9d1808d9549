"""Meta's Cloud API: every kind of change, several events and several numbers in one body, the signature, the challenge."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, events_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import cloud_api
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
VALUE = ("entry", 0, "changes", 0, "value")

EXPECTED: dict[str, dict[str, Any]] = {
    "message.text": {"type": "message", "subtype": None, "chat_id": ANA, "sender_id": ANA, "text": "Is it still open?", "push_name": "Ana"}
    | {"chat_aliases": ("BR.1300000000000001",), "message_ids": ("wamid.INVENTED01==",), "occurred_at": "2025-11-22T07:45:38.000Z"},
    "message.image": {"type": "message", "text": "the menu", "ref_message_id": "wamid.INVENTED00=="},
    "message.reaction": {"type": "message", "subtype": "reaction", "text": "\U0001f44d", "ref_message_id": "wamid.INVENTED90=="},
    "message.waiting": {"type": "message", "subtype": "waiting", "text": None},
    "status.sent": {"type": "receipt", "subtype": "sent", "status_rank": 1, "from_me": True, "chat_id": ANA, "sender_id": ANA},
    "status.delivered": {"type": "receipt", "subtype": "delivered", "status_rank": 2},
    "status.read": {"type": "receipt", "subtype": "read", "status_rank": 3, "message_ids": ("wamid.INVENTED90==",)},
    "status.failed": {"type": "receipt", "subtype": "failed", "status": "failed", "status_rank": -1},
    "errors": {"type": "system", "subtype": "error", "text": "Rate limit hit", "remembered": False},
    "echo": {"type": "message", "from_me": True, "chat_id": ANA, "sender_id": "551140000001@s.whatsapp.net", "text": "Yes, until ten"},
    "history": {"type": "history", "subtype": "history", "replay": True},
    "calls": {"type": "call", "subtype": "connect", "chat_id": ANA, "remembered": True},
    "account_update": {"type": "connection", "subtype": "logged_out", "occurred_at": "2025-11-22T07:45:38.000Z"},
    "template": {"type": "system", "subtype": "message_template_status_update", "remembered": True},
}


@pytest.mark.parametrize("name", [name for name in names_of("cloud-api") if name != "several"])
def test_each_kind_of_change_is_read(name: str) -> None:
    body = body_of("cloud-api", name)
    event = event_of("cloud-api", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.raw == orjson.dumps(body)


def test_several_events_of_several_numbers_come_apart_each_in_an_envelope_of_its_own() -> None:
    events = events_of("cloud-api", body_of("cloud-api", "several"))
    assert [(event.type, event.message_ids, event.gateway_instance) for event in events] == [
        ("message", ("wamid.INVENTED01==",), "200000000000001"),
        ("message", ("wamid.INVENTED05==",), "200000000000001"),
        ("receipt", ("wamid.INVENTED90==",), "200000000000001"),
        ("message", ("wamid.INVENTED06==",), "200000000000002"),
    ]
    assert [event_of("cloud-api", event.raw).message_ids for event in events] == [event.message_ids for event in events]
    assert [event_of("cloud-api", event.raw).push_name for event in events] == [event.push_name for event in events]
    first = orjson.loads(events[0].raw)
    assert first == body_of("cloud-api", "message.text")


@pytest.mark.parametrize("item", [None, [], "text", 7])
def test_one_item_that_cannot_be_read_is_kept_beside_the_others(item: Any) -> None:
    body = body_of("cloud-api", "message.text")
    body["entry"][0]["changes"][0]["value"]["messages"].append(item)
    good, bad = events_of("cloud-api", body)
    assert good.message_ids == ("wamid.INVENTED01==",)
    assert (bad.type, bad.subtype, bad.gateway_instance) == ("unknown", "undecodable", "200000000000001")
    assert orjson.loads(bad.raw)["entry"][0]["changes"][0]["value"]["messages"] == [item]


@pytest.mark.parametrize("path", [("entry", 0), ("entry", 0, "changes"), ("entry", 0, "changes", 0), VALUE])
def test_a_part_of_the_wrong_kind_is_kept_as_undecodable(path: tuple[str | int, ...]) -> None:
    body = changed(body_of("cloud-api", "message.text"), *path, to="text")
    event = event_of("cloud-api", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", orjson.dumps(body))


def test_a_field_nobody_knows_is_kept_under_its_name() -> None:
    event = event_of("cloud-api", changed(body_of("cloud-api", "template"), "entry", 0, "changes", 0, "field", to="brand_new"))
    assert (event.type, event.subtype) == ("unknown", "brand_new")


def test_a_list_nobody_knows_stands_beside_the_messages() -> None:
    body = changed(body_of("cloud-api", "message.text"), *VALUE, "surprises", to=[{"id": "1"}])
    assert [(event.type, event.subtype) for event in events_of("cloud-api", body)] == [("message", None), ("unknown", "surprises")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "entry"),
        (b'{"entry":{}}', "entry"),
        (b'{"entry":[]}', "entry"),
        (b'{"entry":[{"changes":[]}]}', "entry"),
    ],
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        cloud_api.decode(Push(body=body))
    assert refused.value.field == field


def test_more_events_than_a_body_may_hold_are_kept_whole() -> None:
    body = changed(body_of("cloud-api", "message.text"), *VALUE, "messages", to=[{"id": str(i)} for i in range(cloud_api.MAX_EVENTS + 1)])
    event = event_of("cloud-api", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", orjson.dumps(body))


def test_an_item_too_deep_to_be_written_again_keeps_the_body_whole() -> None:
    body = b'{"entry":[{"changes":[{"field":"messages","value":{"messages":[{"id":"1"},' + b"[" * 300 + b"]" * 300 + b"]}}]}]}"
    event = event_of("cloud-api", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", body)


@pytest.mark.parametrize(
    "value",
    [
        {"contacts": [{"wa_id": "1", "profile": {"name": "x" * 500_000}}], "metadata": {"phone_number_id": "9"}},
        {"contacts": [{"wa_id": "1"}] * 20_000, "metadata": {"phone_number_id": "9"}},
        {"padding": "x" * 500_000, "metadata": {"phone_number_id": "9"}},
    ],
    ids=["a large contact", "many contacts", "a large field"],
)
def test_a_thousand_events_never_cost_a_thousand_bodies(value: dict[str, Any]) -> None:
    messages = [{"id": str(i), "from": "1"} for i in range(1000)]
    body = {"object": "o", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value | {"messages": messages}}]}]}
    events = events_of("cloud-api", body)
    assert len(events) == 1000
    assert {event.gateway_instance for event in events} == {"9"}
    assert sum(len(event.raw) for event in events) < 1000 * 8192


def test_the_signature_is_sha256_of_the_raw_body_with_any_secret() -> None:
    sent = "sha256=" + hmac.new(b"app", b"{}", hashlib.sha256).hexdigest()
    assert cloud_api.verify(Push(headers={"x-hub-signature-256": sent}, body=b"{}"), ["old", "app"])
    assert cloud_api.verify(Push(headers={"x-hub-signature-256": sent.upper()}, body=b"{}"), ["app"])


@pytest.mark.parametrize("sent", ["", "sha256=", "sha256=00", "sha1=" + "0" * 40, "é"])
def test_a_bad_signature_is_refused(sent: str) -> None:
    assert not cloud_api.verify(Push(headers={"x-hub-signature-256": sent}, body=b"{}"), ["app"])


def query(mode: str = "subscribe", token: str = "t", answer: str = "1158201444") -> dict[str, str]:
    return {"hub.mode": mode, "hub.verify_token": token, "hub.challenge": answer}


def test_the_challenge_is_answered_to_who_knows_the_token() -> None:
    assert cloud_api.challenge(query(), "t") == "1158201444"


@pytest.mark.parametrize(
    "asked", [query(token="x"), query(token=""), query(mode="unsubscribe"), query(answer=""), query(answer="1" * 300), {}]
)
def test_no_other_challenge_is_answered(asked: dict[str, str]) -> None:
    assert cloud_api.challenge(asked, "t") is None


def test_an_empty_token_answers_nobody() -> None:
    assert cloud_api.challenge(query(token=""), "") is None


def test_a_calls_status_is_a_call() -> None:
    status = {"id": "wacid.A", "status": "RINGING", "timestamp": "1763797538", "recipient_id": "5511900000001", "type": "call"}
    body = changed(changed(body_of("cloud-api", "calls"), *VALUE, "calls", to=[]), *VALUE, "statuses", to=[status])
    event = event_of("cloud-api", body)
    assert (event.type, event.subtype, event.status, event.chat_id) == ("call", "ringing", None, ANA)


def test_a_contact_too_deep_to_be_written_again_is_left_out() -> None:
    deep = b"[" * 300 + b"]" * 300
    value = b'{"contacts":[{"wa_id":"1","x":' + deep + b'}],"messages":[{"id":"1","from":"1"},{"id":"2","from":"1"}]}'
    events = events_of("cloud-api", b'{"entry":[{"changes":[{"field":"messages","value":' + value + b"}]}]}")
    assert [event.message_ids for event in events] == [("1",), ("2",)]
    assert all(b"contacts" not in event.raw for event in events)
