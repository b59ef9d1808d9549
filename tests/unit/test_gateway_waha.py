"""WAHA: every kind of event it documents, its signature, its traps."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import waha
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
SHOP = "5511900000009@s.whatsapp.net"

EXPECTED: dict[str, dict[str, Any]] = {
    "message": {
        "type": "message",
        "subtype": None,
        "chat_id": ANA,
        "sender_id": ANA,
        "chat_aliases": ("100000000000001@lid",),
        "from_me": False,
    }
    | {"message_ids": ("3EB0INVENTED01",), "text": "Is it still open?", "push_name": "Ana", "occurred_at": "2025-11-22T07:45:38.000Z"},
    "message.any": {"type": "message", "subtype": None, "message_ids": ("3EB0INVENTED01",)},
    "message.group": {
        "type": "message",
        "chat_id": GROUP,
        "is_group": True,
        "sender_id": "5511900000002@s.whatsapp.net",
        "push_name": "Rui",
    }
    | {"sender_aliases": ("100000000000002@lid",), "message_ids": ("3EB0INVENTED02",)},
    "message.media": {"type": "message", "from_me": True, "chat_id": ANA, "sender_id": SHOP, "text": "The menu", "push_name": None},
    "message.edited": {"type": "message", "subtype": "edited", "ref_message_id": "3EB0INVENTED01", "text": "Is it open?"},
    "message.revoked": {"type": "message", "subtype": "revoked", "ref_message_id": "3EB0INVENTED01", "message_ids": ("3EB0INVENTED05",)},
    "message.reaction": {"type": "message", "subtype": "reaction", "ref_message_id": "3EB0INVENTED03", "text": "\U0001f44d"},
    "message.waiting": {"type": "message", "subtype": "waiting", "message_ids": ("3EB0INVENTED01",), "text": None},
    "message.ack": {
        "type": "receipt",
        "subtype": "read",
        "status": "read",
        "status_rank": 3,
        "chat_id": ANA,
        "sender_id": ANA,
        "from_me": True,
    },
    "session.status.open": {"type": "connection", "subtype": "open"},
    "session.status.qr": {"type": "qr", "subtype": "scan_qr_code"},
    "state.change": {"type": "connection", "subtype": "logged_out"},
    "presence.update": {
        "type": "presence",
        "subtype": "typing",
        "chat_id": ANA,
        "sender_id": ANA,
        "occurred_at": "2025-11-22T07:45:39.000Z",
    },
    "group.v2.participants": {"type": "group", "subtype": "participants", "chat_id": GROUP, "is_group": True},
    "call.received": {"type": "call", "subtype": "received", "sender_id": ANA, "remembered": True},
    "poll.vote": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0POLL", "occurred_at": "2025-11-22T07:45:38.000Z"},
    "engine.event.history": {"type": "history", "subtype": "messaging-history.set", "replay": True},
    "chat.archive": {"type": "system", "subtype": "chat_archive", "chat_id": ANA},
}


@pytest.mark.parametrize("name", names_of("waha"))
def test_each_kind_of_event_is_read(name: str) -> None:
    body = body_of("waha", name)
    event = event_of("waha", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.gateway_instance == "sales"
    assert event.raw == orjson.dumps(body)


def test_media_is_announced() -> None:
    media = event_of("waha", body_of("waha", "message.media")).media
    assert media is not None
    assert (media.kind, media.mimetype, media.filename, media.url) == (
        "document",
        "application/pdf",
        "menu.pdf",
        "https://files.invalid/menu.pdf",
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("WORKING", "open"),
        ("STARTING", "connecting"),
        ("STOPPED", "closed"),
        ("FAILED", "failed"),
        ("SCAN_QR_CODE", "qr"),
        ("NEW_WORD", "connecting"),
    ],
)
def test_a_sessions_status_is_a_state_of_the_connection(status: str, state: str) -> None:
    connection = event_of("waha", {"event": "session.status", "session": "s", "payload": {"status": status}}).connection
    assert connection is not None
    assert (connection.state, connection.reason_code) == (state, status)


@pytest.mark.parametrize(
    ("ack", "name", "status", "rank"),
    [
        (-1, "ERROR", "failed", -1),
        (0, "PENDING", "pending", None),
        (1, "SERVER", "sent", 1),
        (2, "DEVICE", "delivered", 2),
        (4, None, "played", 4),
        (None, "READ", "read", 3),
        (9, "NEW WORD", "new_word", None),
        (True, None, None, None),
    ],
)
def test_an_acks_status_and_rank(ack: Any, name: str | None, status: str | None, rank: int | None) -> None:
    event = event_of("waha", {"event": "message.ack", "payload": {"id": "true_1@c.us_A", "ack": ack, "ackName": name}})
    assert (event.type, event.subtype, event.status, event.status_rank) == ("receipt", status, status, rank)


@pytest.mark.parametrize("payload", [None, [], "text", 7])
def test_a_payload_of_the_wrong_kind_is_kept_as_undecodable(payload: Any) -> None:
    body = {"event": "message", "session": "s", "payload": payload}
    event = event_of("waha", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", orjson.dumps(body))


def test_an_unknown_event_is_kept_under_its_own_name_fit_for_a_header() -> None:
    event = event_of("waha", {"event": "brand.new\r\nx: y", "payload": {"a": 1}})
    assert (event.type, event.subtype) == ("unknown", "brand.new__x__y")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b"a=1&b=2", "body"),
        (b'"\xff"', "body"),
        (b"{}", "event"),
        (b'{"event":""}', "event"),
        (b'{"event":{}}', "event"),
        (b"[" * 3000 + b"]" * 3000, "body"),
    ],
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        waha.decode(Push(body=body))
    assert refused.value.field == field


def test_an_id_that_is_too_long_to_be_one_identifies_nothing() -> None:
    event = event_of("waha", changed(body_of("waha", "message"), "payload", "id", to="x" * 300))
    assert event.message_ids == ()
    assert event.remembered


def test_a_secret_in_the_body_is_overwritten_in_what_is_kept() -> None:
    raw = event_of("waha", b'{"event":"message.any","payload":{"token":"s3cret","id":"A"}}').raw
    assert raw == b'{"event":"message.any","payload":{"token":"******","id":"A"}}'


def signed(body: bytes, secret: str, **headers: str) -> Push:
    return Push(headers={"x-webhook-hmac": hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()} | headers, body=body)


def test_a_signature_by_any_of_the_secrets_is_good() -> None:
    assert waha.verify(signed(b"{}", "new"), ["old", "new"])
    assert waha.verify(signed(b"{}", "old"), ["old", "new"])


@pytest.mark.parametrize(
    "push",
    [
        signed(b"{}", "wrong"),
        Push(body=b"{}"),
        Push(headers={"x-webhook-hmac": ""}, body=b"{}"),
        Push(headers={"x-webhook-hmac": "é\udc80"}, body=b"{}"),
        Push(headers=signed(b"{ }", "s").headers, body=b"{}"),
        signed(b"{}", "s", **{"x-webhook-hmac-algorithm": "sha1"}),
    ],
    ids=["another secret", "none", "empty", "not hex", "another body", "another algorithm"],
)
def test_a_bad_signature_is_refused(push: Push) -> None:
    assert not waha.verify(push, ["s"])


def test_without_secrets_nothing_is_verified() -> None:
    assert not waha.verify(signed(b"{}", ""), [])


def test_an_answer_to_a_calendar_event_points_at_it() -> None:
    payload = {"id": "false_5511900000001@c.us_A", "eventCreationKey": {"id": "B"}}
    event = event_of("waha", {"event": "event.response", "session": "s", "payload": payload})
    assert (event.type, event.subtype, event.message_ids, event.ref_message_id) == ("message", "event_response", ("A",), "B")


def test_a_size_may_be_sent_as_text() -> None:
    media = event_of("waha", changed(body_of("waha", "message.media"), "payload", "media", "size", to="1024")).media
    assert media is not None
    assert media.size == 1024


def test_a_payload_too_deep_to_be_written_again_still_has_an_identity() -> None:
    body = b'{"event":"message","payload":{"id":"A","x":' + b"[" * 300 + b"]" * 300 + b"}}"
    assert event_of("waha", body).event_key == event_of("waha", body).event_key
    assert event_of("waha", body).raw == body
