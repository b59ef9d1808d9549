"""Which events are the same one. A duplicate costs a webhook call, a false match costs an event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway_bodies import body_of, changed, event_of, events_of
from worker.gateways.identity import canonical_id, fresh_key, phone_first

MESSAGE = body_of("waha", "message")
ACK = body_of("waha", "message.ack")
TEXT = body_of("cloud-api", "message.text")
READ = body_of("cloud-api", "status.read")
VALUE = ("entry", 0, "changes", 0, "value")
OURS = {"type": "message", "message_ids": ["A"], "chat_id": "5511900000001", "sender_id": "5511900000001", "text": "hi"}

DIFFERENT: dict[str, tuple[str, Any, Any]] = {
    "one id in two chats": ("waha", MESSAGE, changed(MESSAGE, "payload", "id", to="false_5511900000003@c.us_3EB0INVENTED01")),
    "one id from us and from them": ("waha", MESSAGE, changed(MESSAGE, "payload", "fromMe", to=True)),
    "a message and its edit": ("waha", MESSAGE, changed(MESSAGE, "event", to="message.edited")),
    "a placeholder and the message after it": ("waha", body_of("waha", "message.waiting"), MESSAGE),
    "a message whose text differs": ("waha", MESSAGE, changed(MESSAGE, "payload", "body", to="Is it still open")),
    "a reaction and the reaction taken back": (
        "waha",
        body_of("waha", "message.reaction"),
        changed(body_of("waha", "message.reaction"), "payload", "reaction", "text", to=""),
    ),
    "delivered and read": ("waha", changed(ACK, "payload", "ack", to=2), ACK),
    "read by two participants": (
        "waha",
        changed(ACK, "payload", "participant", to="100000000000002@lid"),
        changed(ACK, "payload", "participant", to="100000000000003@lid"),
    ),
    "a message and its receipt": ("waha", body_of("waha", "message.media"), ACK),
    "two presences without a time": (
        "waha",
        {k: v for k, v in body_of("waha", "presence.update").items() if k != "timestamp"},
        {k: v for k, v in body_of("waha", "presence.update").items() if k != "timestamp"},
    ),
    "typing now and typing a second later": (
        "waha",
        body_of("waha", "presence.update"),
        changed(body_of("waha", "presence.update"), "timestamp", to=1763797540000),
    ),
    "two messages with empty ids": (
        "waha",
        changed(changed(MESSAGE, "payload", "id", to=""), "payload", "body", to="one"),
        changed(changed(MESSAGE, "payload", "id", to=""), "payload", "body", to="two"),
    ),
    "two empty payloads": ("waha", {"event": "message.any", "payload": {}}, {"event": "message.any", "payload": {}}),
    "a call and its end in one second": (
        "waha",
        body_of("waha", "call.received"),
        changed(body_of("waha", "call.received"), "event", to="call.rejected"),
    ),
    "sent and delivered": ("cloud-api", body_of("cloud-api", "status.sent"), body_of("cloud-api", "status.delivered")),
    "read by two people": ("cloud-api", READ, changed(READ, *VALUE, "statuses", 0, "recipient_id", to="5511900000002")),
    "undecryptable and then decrypted": ("cloud-api", body_of("cloud-api", "message.waiting"), TEXT),
    "two errors without a time": ("cloud-api", body_of("cloud-api", "errors"), body_of("cloud-api", "errors")),
    "lists of ids that join to the same text": ("generic", OURS | {"message_ids": ["A", "B"]}, OURS | {"message_ids": ["A,B"]}),
    "no chat and an empty subtype's neighbour": ("generic", {"type": "system", "event_key": "1"}, {"type": "system", "event_key": "11"}),
    "a key of ours and a message id of the same text": ("generic", OURS | {"event_key": "A"}, OURS),
}

SAME: dict[str, tuple[str, Any, Any]] = {
    "message and message.any": ("waha", MESSAGE, body_of("waha", "message.any")),
    "two webhook URLs, so two evt_ ids": ("waha", MESSAGE, changed(MESSAGE, "id", to="evt_01another00000000000000000")),
    "another emission time": ("waha", MESSAGE, changed(MESSAGE, "timestamp", to=1763797599000)),
    "a message whose delivery state went on": (
        "waha",
        MESSAGE,
        changed(changed(MESSAGE, "payload", "ack", to=2), "payload", "ackName", to="DEVICE"),
    ),
    "the number of an ack and its name": ("waha", ACK, changed(ACK, "payload", "ack", to=None)),
    "a device suffix": (
        "waha",
        changed(ACK, "payload", "participant", to="5511900000001@c.us"),
        changed(ACK, "payload", "participant", to="5511900000001:12@s.whatsapp.net"),
    ),
    "spaces and the order of keys": ("cloud-api", orjson.dumps(TEXT, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2), TEXT),
    "a status that comes again with a price": ("cloud-api", READ, changed(READ, *VALUE, "statuses", 0, "pricing", to={"billable": True})),
    "a status told at another time": ("cloud-api", READ, changed(READ, *VALUE, "statuses", 0, "timestamp", to="1763797999")),
    "the order of a receipt's ids": (
        "generic",
        {"type": "receipt", "status": "read", "message_ids": ["A", "B"]},
        {"type": "receipt", "status": "read", "message_ids": ["B", "A"]},
    ),
    "a number and its address": ("generic", OURS, OURS | {"chat_id": "+5511900000001", "sender_id": "5511900000001:3@c.us"}),
    "a key of the sender's": ("generic", {"type": "system", "event_key": "k"}, {"type": "system", "event_key": "k", "text": "again"}),
}


@pytest.mark.parametrize(("gateway", "one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_look_alikes_are_different_events(gateway: str, one: Any, other: Any) -> None:
    assert event_of(gateway, one).event_key != event_of(gateway, other).event_key


@pytest.mark.parametrize(("gateway", "one", "other"), SAME.values(), ids=SAME)
def test_one_event_told_in_two_ways_is_one_event(gateway: str, one: Any, other: Any) -> None:
    first, second = event_of(gateway, one), event_of(gateway, other)
    assert first.raw != second.raw
    assert first.event_key == second.event_key
    assert first.remembered
    assert second.remembered


def test_the_same_body_at_two_instances_or_tenants_is_two_events() -> None:
    keys = {
        event_of("generic", OURS | {"event_key": "mine"}, instance_id=instance, tenant_id=tenant).event_key
        for instance, tenant in (("a", "t"), ("b", "t"), ("a", "u"), ("at", ""), ("", "at"))
    }
    assert len(keys) == 5


def test_a_senders_key_never_stands_alone() -> None:
    key = event_of("generic", OURS | {"event_key": "f" * 64}).event_key
    assert key != "f" * 64
    assert len(key) == 64


def test_an_event_in_a_body_of_several_is_the_one_that_comes_alone() -> None:
    several = events_of("cloud-api", body_of("cloud-api", "several"))
    alone = [event_of("cloud-api", body_of("cloud-api", name)) for name in ("message.text", "status.read")]
    assert {event.event_key for event in alone} <= {event.event_key for event in several}


def test_what_has_no_identity_is_not_remembered_and_has_a_ulid() -> None:
    event = event_of("waha", {"event": "message.any", "session": "default", "payload": {}})
    assert not event.remembered
    assert event.event_key.startswith("ulid:")
    assert len(event.event_key) == 31


def test_ulids_sort_by_time_and_hold_all_entropy() -> None:
    assert fresh_key(0, bytes(10)) == "ulid:" + "0" * 26
    assert fresh_key(2**48 - 1, b"\xff" * 10) == "ulid:7" + "Z" * 25
    assert fresh_key(1_000, b"\xff" * 10) < fresh_key(1_001, bytes(10))


@pytest.mark.parametrize(
    ("sent", "canonical"),
    [
        ("5511900000001@c.us", "5511900000001@s.whatsapp.net"),
        ("5511900000001:12@s.whatsapp.net", "5511900000001@s.whatsapp.net"),
        ("5511900000001", "5511900000001@s.whatsapp.net"),
        ("+5511900000001", "5511900000001@s.whatsapp.net"),
        ("100000000000001:3@lid", "100000000000001@lid"),
        ("120363000000000001@g.us", "120363000000000001@g.us"),
        ("5511900000001-1600000000@g.us", "5511900000001-1600000000@g.us"),
        ("status@broadcast", "status@broadcast"),
        ("120363000000000002@newsletter", "120363000000000002@newsletter"),
        ("BR.1300000000000001", "BR.1300000000000001"),
        ("٥٥١١٩٠٠٠", "٥٥١١٩٠٠٠"),
    ],
)
def test_ids_are_canonical(sent: str, canonical: str) -> None:
    assert canonical_id(sent) == canonical


@given(st.text(max_size=40))
def test_what_is_canonical_stays_so(text: str) -> None:
    assert canonical_id(canonical_id(text)) == canonical_id(text)


def test_the_phone_form_comes_first_and_the_lid_is_an_alias() -> None:
    assert phone_first("1@lid", "5511900000001:2@s.whatsapp.net", "5511900000001@c.us") == ("5511900000001@s.whatsapp.net", ("1@lid",))
    assert phone_first(None, "") == (None, ())
