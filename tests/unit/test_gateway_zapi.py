"""Z-API: every callback it documents, its token, its traps."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import DEFAULT_SECRETS, zapi
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
RUI = "5511900000002@s.whatsapp.net"
SHOP = "5511900000009@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
CHANNEL = "120363000000000009@newsletter"
AT = "2025-11-22T07:45:38.120Z"

EXPECTED: dict[str, dict[str, Any]] = {
    "received.text": {"type": "message", "subtype": None, "chat_id": ANA, "chat_aliases": (ANA_LID,), "sender_id": ANA, "from_me": False}
    | {"message_ids": ("3AINVENTED01",), "text": "Is it still open?", "push_name": "Ana", "occurred_at": AT, "is_group": False},
    "received.reply": {"type": "message", "subtype": None, "ref_message_id": "3AINVENTED01"},
    "received.group": {"type": "message", "chat_id": GROUP, "is_group": True, "sender_id": RUI, "push_name": "Rui"}
    | {"chat_aliases": (), "sender_aliases": ("100000000000002@lid",)},
    "received.from-me": {"type": "message", "from_me": True, "chat_id": ANA, "sender_id": SHOP, "push_name": None},
    "received.image": {"type": "message", "subtype": None, "text": "The menu"},
    "received.audio": {"type": "message", "text": None},
    "received.document": {"type": "message", "text": None},
    "received.ptv": {"type": "message", "text": None},
    "received.template": {"type": "message", "text": "Our offer"},
    "received.edited": {"type": "message", "subtype": "edited", "ref_message_id": "3AINVENTED01", "text": "Is it open?"},
    "received.waiting": {"type": "message", "subtype": "waiting", "message_ids": ("3AINVENTED11",), "text": None},
    "received.reaction": {"type": "message", "subtype": "reaction", "text": "\u2764", "ref_message_id": "3AINVENTED04"},
    "received.poll": {"type": "message", "subtype": None, "text": "When?", "chat_id": GROUP},
    "received.poll-vote": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3AINVENTED13"},
    "received.button": {"type": "message", "subtype": None, "text": "Great", "ref_message_id": "3AINVENTED04"},
    "received.order": {"type": "message", "subtype": None, "message_ids": ("3AINVENTED16",)},
    "received.pin": {"type": "message", "subtype": "pin", "ref_message_id": "3AINVENTED01", "from_me": True},
    "received.event-response": {"type": "message", "subtype": "event_response", "ref_message_id": "3AINVENTED99"},
    "received.revoke": {"type": "message", "subtype": "revoked", "message_ids": ("3AINVENTED01",), "ref_message_id": "3AINVENTED01"},
    "received.call": {"type": "call", "subtype": "missed_voice", "chat_id": ANA, "sender_id": ANA, "message_ids": (), "remembered": True},
    "received.group-leave": {"type": "group", "subtype": "participant_leave", "chat_id": GROUP, "sender_id": RUI, "is_group": True},
    "received.membership": {"type": "group", "subtype": "membership_approval_request", "chat_id": GROUP},
    "received.profile-name": {"type": "contact", "subtype": "profile_name_updated", "sender_id": SHOP},
    "received.label": {"type": "system", "subtype": "chat_label_association"},
    "received.newsletter-admin": {"type": "system", "subtype": "newsletter_admin_promote", "chat_id": CHANNEL, "sender_id": RUI},
    "status.sent": {"type": "receipt", "subtype": "sent", "status": "sent", "status_rank": 1, "from_me": True},
    "status.received": {"type": "receipt", "subtype": "delivered", "status_rank": 2, "chat_id": ANA, "sender_id": ANA, "from_me": True},
    "status.read": {
        "type": "receipt",
        "subtype": "read",
        "chat_id": ANA_LID,
        "sender_id": ANA_LID,
        "occurred_at": "2025-11-22T07:45:39.000Z",
    }
    | {"message_ids": ("3AINVENTED04", "3AINVENTED17")},
    "status.read-by-me": {"type": "receipt", "subtype": "read_by_me", "status": "read", "from_me": False, "sender_id": None},
    "status.group-played": {"type": "receipt", "status": "played", "chat_id": GROUP, "sender_id": RUI, "is_group": True},
    "delivery": {
        "type": "receipt",
        "subtype": "sent",
        "chat_id": ANA,
        "message_ids": ("3AINVENTED04",),
        "from_me": True,
        "remembered": True,
    },
    "delivery.error": {"type": "receipt", "subtype": "failed", "status_rank": -1, "message_ids": ("3AINVENTED05",)},
    "connected": {"type": "connection", "subtype": "open", "occurred_at": "2025-11-22T07:45:30.580Z", "remembered": True},
    "disconnected": {"type": "connection", "subtype": "closed", "occurred_at": "2025-11-22T07:45:30.000Z", "remembered": False},
    "presence.composing": {"type": "presence", "subtype": "composing", "chat_id": ANA, "sender_id": ANA, "remembered": False},
    "presence.unavailable": {"type": "presence", "subtype": "unavailable", "occurred_at": None, "remembered": False},
    "history-sync": {"type": "history", "subtype": "sync", "replay": True, "remembered": True},
}


@pytest.mark.parametrize("name", names_of("zapi"))
def test_each_callback_is_read(name: str) -> None:
    body = body_of("zapi", name)
    event = event_of("zapi", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.gateway_instance == "3ABC0000000000000000000000000001"
    assert event.raw == orjson.dumps(body).replace(b"SAMPLE-TOKEN-NOT-A-SECRET", b"*" * 25)


@pytest.mark.parametrize(
    ("name", "kind", "mimetype", "filename", "url"),
    [
        ("received.image", "image", "image/jpeg", None, "https://files.invalid/a.jpg"),
        ("received.audio", "audio", "audio/ogg; codecs=opus", None, "https://files.invalid/a.ogg"),
        ("received.document", "document", "application/pdf", "prices.pdf", "https://files.invalid/p.pdf"),
        ("received.ptv", "video", "video/mp4", None, "https://files.invalid/n.mp4"),
        ("received.template", "video", "video/mp4", None, "https://files.invalid/v.mp4"),
    ],
)
def test_media_is_announced(name: str, kind: str, mimetype: str, filename: str | None, url: str) -> None:
    media = event_of("zapi", body_of("zapi", name)).media
    assert media is not None
    assert (media.kind, media.mimetype, media.filename, media.url) == (kind, mimetype, filename, url)


@pytest.mark.parametrize(
    ("word", "subtype", "status", "rank"),
    [
        ("PENDING", "pending", "pending", None),
        ("SENT", "sent", "sent", 1),
        ("PLAYED", "played", "played", 4),
        ("READ-SELF", "read_by_me", "read", 3),
        ("NEW WORD", "new_word", "new_word", None),
        (None, None, None, None),
    ],
)
def test_a_statuss_word_and_rank(word: str | None, subtype: str | None, status: str | None, rank: int | None) -> None:
    event = event_of("zapi", changed(body_of("zapi", "status.sent"), "status", to=word))
    assert (event.type, event.subtype, event.status, event.status_rank) == ("receipt", subtype, status, rank)


def test_why_the_connection_ended_is_told() -> None:
    connection = event_of("zapi", body_of("zapi", "disconnected")).connection
    assert connection is not None
    assert (connection.state, connection.reason) == ("closed", "Device has been disconnected")


def test_a_connected_callback_that_says_no_is_a_closed_connection() -> None:
    assert event_of("zapi", changed(body_of("zapi", "connected"), "connected", to=False)).subtype == "closed"


def test_the_old_name_of_the_chats_lid_is_understood() -> None:
    body = body_of("zapi", "received.text")
    body["senderLid"] = body.pop("chatLid")
    event = event_of("zapi", body)
    assert (event.chat_id, event.chat_aliases) == (ANA, (ANA_LID,))


def test_a_status_without_ids_is_known_by_its_time() -> None:
    body = changed(body_of("zapi", "status.read"), "ids", to=[])
    assert event_of("zapi", body).event_key == event_of("zapi", body).event_key
    assert event_of("zapi", body).event_key != event_of("zapi", changed(body, "momment", to=1763797539001)).event_key


def test_a_type_nobody_knows_is_kept_under_its_own_name() -> None:
    event = event_of("zapi", {"type": "NewCallback\r\nx: y", "instanceId": "A"})
    assert (event.type, event.subtype, event.gateway_instance) == ("unknown", "NewCallback__x__y", "A")


def test_the_types_name_may_be_written_either_way() -> None:
    assert event_of("zapi", changed(body_of("zapi", "received.text"), "type", to="ReceivedCallBack")).type == "message"


@pytest.mark.parametrize(("body", "field"), [(b"", "body"), (b"[]", "body"), (b"a=1", "body"), (b"{}", "type"), (b'{"type":7}', "type")])
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        zapi.decode(Push(body=body))
    assert refused.value.field == field


@pytest.mark.parametrize("header", ["z-api-token", "client-token"])
def test_the_token_itself_is_the_signature(header: str) -> None:
    assert zapi.verify(Push(headers={header: "new"}, body=b"{}"), ["old", "new"])
    assert zapi.verify(Push(headers={header: " old "}, body=b"{}"), ["old", "new"])


@pytest.mark.parametrize(
    "headers",
    [{}, {"z-api-token": ""}, {"z-api-token": "wrong"}, {"z-api-token": "\u00e9\udc80"}, {"authorization": "s"}],
    ids=["none", "empty", "another", "no ascii", "another header"],
)
def test_another_token_or_none_is_refused(headers: dict[str, str]) -> None:
    assert not zapi.verify(Push(headers=headers, body=b"{}"), ["s"])


def test_without_secrets_nothing_is_verified() -> None:
    assert not zapi.verify(Push(headers={"z-api-token": "s"}, body=b"{}"), [])


def test_the_placeholders_of_its_documentation_are_no_secrets() -> None:
    assert DEFAULT_SECRETS["zapi"] >= {"SEU_TOKEN", "YOUR_TOKEN"}
