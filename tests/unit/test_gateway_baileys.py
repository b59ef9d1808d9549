"""baileys-acessuswpp: every kind of event it sends, its signature, its traps."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, events_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import baileys, baileys_raw
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
RUI = "5511900000002@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
AT = "2025-11-22T07:45:38.000Z"
SENT_AT = "2025-11-22T07:45:39.000Z"
FIRST = "3EB0INVENTED01"

EXPECTED: dict[str, dict[str, Any]] = {
    "message-inbound.text": {"type": "message", "subtype": None, "chat_id": ANA, "sender_id": ANA, "from_me": False, "push_name": "Ana"}
    | {"message_ids": (FIRST,), "text": "Is it still open?", "occurred_at": AT, "media": None},
    "message-inbound.group-image": {"type": "message", "chat_id": GROUP, "is_group": True, "sender_id": RUI, "text": "The menu"},
    "message-inbound.vote": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0POLL", "text": "Now"},
    "message-inbound.other-shape": {"type": "message", "chat_id": ANA, "sender_id": ANA, "message_ids": ("3EB0INVENTED04",), "text": "Hi!"}
    | {"push_name": "Ana", "occurred_at": AT},
    "message-outbound": {"type": "message", "from_me": True, "chat_id": ANA, "sender_id": None, "push_name": None},
    "stored.message-inbound": {"type": "message", "message_ids": (FIRST,), "occurred_at": AT},
    "stored.message-inbound.no-id": {"type": "message", "message_ids": (), "text": "Hm", "remembered": True},
    "poll-choice": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0POLL", "sender_id": ANA, "occurred_at": AT},
    "stored.message-status": {
        "type": "receipt",
        "subtype": "delivered",
        "status_rank": 2,
        "chat_id": ANA,
        "sender_id": ANA,
        "from_me": True,
    },
    "stored.webhook-delivery": {"type": "system", "subtype": "webhook_delivery", "remembered": True, "occurred_at": SENT_AT},
    "upsert.text": {"type": "message", "subtype": None, "message_ids": (FIRST,), "text": "Is it still open?", "occurred_at": AT},
    "upsert.edited": {"type": "message", "subtype": "edited", "ref_message_id": FIRST, "text": "Is it open?"},
    "upsert.revoked": {"type": "message", "subtype": "revoked", "ref_message_id": FIRST, "message_ids": ("3EB0INVENTED07",)},
    "upsert.reaction": {"type": "message", "subtype": "reaction", "ref_message_id": "3EB0INVENTED05", "text": "\U0001f44d"},
    "upsert.waiting": {"type": "message", "subtype": "waiting", "message_ids": ("3EB0INVENTED09",), "text": None},
    "upsert.group-add": {"type": "group", "subtype": "participant_add", "chat_id": GROUP, "sender_id": RUI, "remembered": True},
    "upsert.missed-call": {"type": "call", "subtype": "missed_voice", "chat_id": ANA, "remembered": True},
    "upsert.from-phone": {
        "type": "message",
        "from_me": True,
        "chat_id": ANA,
        "chat_aliases": (ANA_LID,),
        "replay": True,
        "push_name": None,
    },
    "update.read": {"type": "receipt", "subtype": "read", "status_rank": 3, "chat_id": ANA, "sender_id": ANA, "occurred_at": SENT_AT},
    "update.group-delivered": {"type": "receipt", "subtype": "delivered", "chat_id": GROUP, "sender_id": None, "is_group": True},
    "update.edited": {"type": "message", "subtype": "edited", "ref_message_id": FIRST, "text": "Is it open now?", "from_me": False},
    "update.revoked": {"type": "message", "subtype": "revoked", "ref_message_id": FIRST},
    "update.vote": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0INVENTED15"},
    "update.starred": {"type": "message", "subtype": "update", "ref_message_id": "3EB0INVENTED05"},
    "instance.open": {"type": "connection", "subtype": "open", "occurred_at": AT, "remembered": True},
    "instance.logged-out": {"type": "connection", "subtype": "logged_out", "remembered": True},
    "instance.qr": {"type": "qr", "subtype": "scan_qr_code", "remembered": True},
}
SEVERAL = {"upsert.several", "update.several"}


@pytest.mark.parametrize("name", sorted(set(names_of("baileys")) - SEVERAL))
def test_each_kind_of_event_is_read(name: str) -> None:
    body = body_of("baileys", name)
    event = event_of("baileys", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.gateway_instance == "sales"
    assert event.raw == orjson.dumps(body)


def test_media_is_announced_alike_in_both_of_its_shapes() -> None:
    [told, other] = [event_of("baileys", body_of("baileys", f"message-inbound.{name}")).media for name in ("group-image", "other-shape")]
    assert told is not None
    assert other is not None
    assert (told.kind, told.mimetype, told.size) == ("image", "image/jpeg", 48213)
    assert (other.kind, other.mimetype) == ("image", "image/jpeg")


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_a_body_of_several_becomes_as_many_each_in_an_envelope_of_its_own(name: str) -> None:
    events = events_of("baileys", body_of("baileys", name))
    assert [event.gateway_instance for event in events] == ["sales", "sales"]
    assert len({event.event_key for event in events}) == 2
    for event in events:
        again = event_of("baileys", event.raw)
        assert (again.event_key, again.message_ids, again.raw) == (event.event_key, event.message_ids, event.raw)


def test_a_messages_author_in_a_group_has_a_phone_and_a_lid() -> None:
    second = events_of("baileys", body_of("baileys", "upsert.several"))[1]
    assert (second.chat_id, second.sender_id, second.sender_aliases) == (GROUP, RUI, ("100000000000002@lid",))


def test_an_element_that_is_no_object_is_kept_beside_the_others() -> None:
    body = body_of("baileys", "upsert.several")
    body["payload"]["raw"]["messages"].append("what is this")
    events = events_of("baileys", body)
    assert [(event.type, event.subtype) for event in events] == [("message", None), ("message", None), ("unknown", "undecodable")]


@pytest.mark.parametrize(
    "messages",
    [[], None, "text", [{"key": {}}] * (baileys_raw.MAX_EVENTS + 1)],
    ids=["none", "no list", "a text", "too many"],
)
def test_a_raw_body_that_cannot_be_taken_apart_is_kept_whole(messages: Any) -> None:
    body = changed(body_of("baileys", "upsert.text"), "payload", "raw", "messages", to=messages)
    event = event_of("baileys", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", orjson.dumps(body))


def test_a_raw_body_too_deep_to_be_written_again_is_kept_whole() -> None:
    deep = b'{"event":"WHATSAPP_MESSAGES_UPSERT","payload":{"raw":{"messages":[1,' + b"[" * 260 + b"]" * 260 + b"]}}}"
    event = event_of("baileys", deep)
    assert (event.subtype, event.raw) == ("undecodable", deep)


@pytest.mark.parametrize(
    ("told", "status"),
    [(0, "failed"), (1, "pending"), (2, "sent"), (5, "played"), ("SERVER_ACK", "sent"), ("READ", "read"), (9, "status_9")],
)
def test_a_status_by_number_or_by_name(told: Any, status: str) -> None:
    body = changed(body_of("baileys", "update.read"), "payload", "raw", "updates", 0, "update", "status", to=told)
    event = event_of("baileys", body)
    assert (event.type, event.subtype, event.status) == ("receipt", status, status)


@pytest.mark.parametrize(
    ("state", "detail", "expected"),
    [
        ("connecting", None, "connecting"),
        ("qr_timeout", None, "failed"),
        ("close", {"statusCode": 428}, "closed"),
        ("close", {"statusCode": 401}, "logged_out"),
        ("close", {"isLoggedOut": True}, "logged_out"),
        ("close", {"statusCode": 440}, "replaced"),
        ("new word", None, "connecting"),
    ],
)
def test_the_instances_state_is_a_state_of_the_connection(state: str, detail: Any, expected: str) -> None:
    body = changed(
        changed(body_of("baileys", "instance.open"), "instance", "connectionState", to=state),
        "instance",
        "connectionStateDetail",
        to=detail,
    )
    connection = event_of("baileys", body).connection
    assert connection is not None
    assert connection.state == expected


@pytest.mark.parametrize("payload", [None, [], "text", 7, {}])
def test_a_payload_of_the_wrong_kind_is_kept_as_undecodable(payload: Any) -> None:
    event = event_of("baileys", {"event": "MESSAGE_INBOUND", "instanceId": "sales", "payload": payload})
    assert (event.type, event.subtype) == ("unknown", "undecodable")


def test_an_unknown_event_is_kept_under_its_own_name() -> None:
    event = event_of("baileys", {"event": "BRAND_NEW\r\nx: y", "payload": {"a": 1}})
    assert (event.type, event.subtype) == ("unknown", "BRAND_NEW__x__y")


@pytest.mark.parametrize(
    ("body", "field"), [(b"", "body"), (b"[]", "body"), (b"a=1", "body"), (b"{}", "event"), (b'{"event":{}}', "event")]
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        baileys.decode(Push(body=body))
    assert refused.value.field == field


def signed(body: bytes, secret: str, header: str = "x-signature") -> Push:
    return Push(headers={header: hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}, body=body)


def test_a_signature_by_any_of_the_secrets_is_good() -> None:
    assert baileys.verify(signed(b"{}", "new"), ["old", "new"])
    assert baileys.verify(signed(b"{}", "old"), ["old", "new"])


@pytest.mark.parametrize(
    "push",
    [
        signed(b"{}", "wrong"),
        Push(body=b"{}"),
        Push(headers={"x-api-key": "s"}, body=b"{}"),
        Push(headers=signed(b"{ }", "s").headers, body=b"{}"),
    ],
    ids=["another secret", "none", "the key alone", "another body"],
)
def test_a_bad_signature_is_refused(push: Push) -> None:
    assert not baileys.verify(push, ["s"])


def test_the_key_that_stands_in_its_source_is_refused() -> None:
    assert any(len(published) == 64 for published in baileys.PUBLISHED_SECRETS)


def test_a_message_that_says_nothing_we_can_show_is_known_by_all_of_it() -> None:
    body = changed(
        body_of("baileys", "upsert.text"), "payload", "raw", "messages", 0, "message", to={"locationMessage": {"degreesLatitude": 1}}
    )
    other = changed(body, "payload", "raw", "messages", 0, "message", "locationMessage", "degreesLatitude", to=2)
    assert event_of("baileys", body).text is None
    assert event_of("baileys", body).event_key == event_of("baileys", body).event_key != event_of("baileys", other).event_key


@pytest.mark.parametrize("name", ["upsert.text", "update.read"])
def test_a_raw_item_without_an_id_is_known_by_the_time_it_was_told(name: str) -> None:
    list_name = "messages" if name == "upsert.text" else "updates"
    body = changed(body_of("baileys", name), "payload", "raw", list_name, 0, "key", "id", to="")
    event = event_of("baileys", body)
    assert (event.message_ids, event.remembered) == ((), True)
    assert event.event_key != event_of("baileys", changed(body, "timestamp", to=1763797600)).event_key
    assert not event_of("baileys", changed(body, "timestamp", to=None)).remembered


def test_a_status_of_no_message_is_known_by_the_stores_id() -> None:
    body = changed(body_of("baileys", "stored.message-status"), "payload", "messageId", to=None)
    event = event_of("baileys", body)
    assert (event.type, event.message_ids, event.remembered) == ("receipt", (), True)
    assert event.event_key != event_of("baileys", changed(body, "id", to="00000000-0000-4000-8000-000000000098")).event_key


def test_an_id_that_the_store_did_not_number_is_not_taken_for_the_stores() -> None:
    body = {"id": "1", "type": "NEW", "instanceId": "sales", "payload": {"a": 1}}
    assert not event_of("baileys", body).remembered
    assert event_of("baileys", {**body, "sequence": 1}).remembered


def test_a_pairing_code_is_asked_for() -> None:
    event = event_of("baileys", changed(body_of("baileys", "instance.qr"), "type", to="pairing"))
    assert (event.type, event.subtype) == ("qr", "pairing")
