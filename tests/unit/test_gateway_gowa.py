"""GOWA: every kind of event it documents, its signature, its traps."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import DEFAULT_SECRETS, gowa
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
RUI = "5511900000002@s.whatsapp.net"
SHOP = "5511900000009@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
CHANNEL = "120363000000000009@newsletter"
AT = "2025-11-22T07:45:38.000Z"

EXPECTED: dict[str, dict[str, Any]] = {
    "message.text": {"type": "message", "subtype": None, "chat_id": ANA, "sender_id": ANA, "sender_aliases": (ANA_LID,), "from_me": False}
    | {"chat_aliases": (ANA_LID,), "message_ids": ("3EB0INVENTED01",), "text": "Is it still open?", "push_name": "Ana", "occurred_at": AT},
    "message.reply": {"type": "message", "ref_message_id": "3EB0INVENTED01", "text": "Yes, please"},
    "message.group": {"type": "message", "chat_id": GROUP, "is_group": True, "sender_id": RUI, "chat_aliases": (), "push_name": "Rui"},
    "message.lid": {"type": "message", "chat_id": ANA, "chat_aliases": (ANA_LID,), "sender_id": ANA},
    "message.image.path": {"type": "message", "text": "The menu"},
    "message.audio.path": {"type": "message", "text": None},
    "message.document.url": {
        "type": "message",
        "from_me": True,
        "chat_id": ANA,
        "sender_id": SHOP,
        "text": "Our prices",
        "push_name": None,
    },
    "message.contact": {"type": "message", "text": None, "media": None, "message_ids": ("3EB0INVENTED08",)},
    "message.reaction": {"type": "message", "subtype": "reaction", "text": "\U0001f44d", "ref_message_id": "3EB0INVENTED01"},
    "message.revoked": {"type": "message", "subtype": "revoked", "message_ids": ("3EB0INVENTED10",), "ref_message_id": "3EB0INVENTED01"},
    "message.edited": {"type": "message", "subtype": "edited", "text": "Is it open?", "ref_message_id": "3EB0INVENTED01"},
    "message.deleted": {"type": "message", "subtype": "deleted", "message_ids": (), "ref_message_id": "3EB0INVENTED01", "chat_id": ANA}
    | {"remembered": True, "occurred_at": AT},
    "message.ack.delivered": {"type": "receipt", "subtype": "delivered", "status": "delivered", "status_rank": 2, "from_me": True}
    | {"chat_id": ANA, "sender_id": ANA, "sender_aliases": (ANA_LID,), "message_ids": ("3EB0INVENTED07",), "occurred_at": AT},
    "message.ack.read": {"type": "receipt", "status": "read", "chat_id": GROUP, "sender_id": RUI, "is_group": True}
    | {"message_ids": ("3EB0INVENTED07", "3EB0INVENTED12")},
    "message.ack.read-self": {"type": "receipt", "subtype": "read_by_me", "status": "read", "from_me": False, "sender_id": SHOP},
    "chat_presence.composing": {"type": "presence", "subtype": "composing", "chat_id": ANA, "sender_id": ANA, "remembered": False},
    "chat_presence.recording": {"type": "presence", "subtype": "recording", "chat_id": GROUP, "sender_id": RUI, "is_group": True},
    "group.participants": {"type": "group", "subtype": "join", "chat_id": GROUP, "is_group": True, "remembered": True},
    "group.joined": {"type": "group", "subtype": "joined", "chat_id": GROUP},
    "label.edit": {"type": "system", "subtype": "label_edit", "chat_id": None},
    "label.association": {"type": "system", "subtype": "label_association", "chat_id": ANA, "chat_aliases": (ANA_LID,)},
    "newsletter.joined": {"type": "system", "subtype": "newsletter_joined", "chat_id": CHANNEL},
    "newsletter.message": {"type": "message", "subtype": "newsletter", "chat_id": CHANNEL, "message_ids": ("3EB0CHANNEL",)},
    "newsletter.mute": {"type": "system", "subtype": "newsletter_mute", "chat_id": CHANNEL},
    "call.offer": {"type": "call", "subtype": "offer", "chat_id": ANA, "sender_id": ANA, "remembered": True},
    "flat.text": {"type": "message", "subtype": None, "chat_id": ANA, "sender_id": ANA, "message_ids": ("3EB0INVENTED21",), "text": "Hello"}
    | {"push_name": "Ana", "ref_message_id": "3EB0INVENTED01", "occurred_at": AT},
    "flat.group-reaction": {"type": "message", "subtype": "reaction", "chat_id": GROUP, "sender_id": RUI, "is_group": True}
    | {"ref_message_id": "3EB0INVENTED03", "text": "\U0001f44d", "message_ids": ("3EB0INVENTED22",)},
    "flat.edited": {"type": "message", "subtype": "edited", "text": "Is it open?", "ref_message_id": "3EB0INVENTED01"},
    "flat.image": {"type": "message", "subtype": None, "message_ids": ("3EB0INVENTED24",)},
}


@pytest.mark.parametrize("name", names_of("gowa"))
def test_each_kind_of_event_is_read(name: str) -> None:
    body = body_of("gowa", name)
    event = event_of("gowa", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.gateway_instance == ("default" if name.startswith("flat") else "sales")
    assert event.raw == orjson.dumps(body)


@pytest.mark.parametrize(
    ("name", "kind", "filename", "url"),
    [
        ("message.image.path", "image", "1763797538-menu.jpeg", None),
        ("message.audio.path", "audio", "1763797538-voice.ogg", None),
        ("message.document.url", "document", "prices.pdf", "https://files.invalid/enc"),
        ("flat.image", "image", "1763797538-menu.jpe", None),
    ],
)
def test_media_is_announced_as_a_path_or_an_url(name: str, kind: str, filename: str, url: str | None) -> None:
    media = event_of("gowa", body_of("gowa", name)).media
    assert media is not None
    assert (media.kind, media.filename, media.url) == (kind, filename, url)


def test_a_round_video_is_a_video() -> None:
    body = changed(body_of("gowa", "message.contact"), "payload", "video_note", to="statics/media/note.mp4")
    media = event_of("gowa", body).media
    assert media is not None
    assert (media.kind, media.filename) == ("video", "note.mp4")


def test_before_sessions_had_names_the_device_names_the_instance() -> None:
    body = body_of("gowa", "call.offer")
    del body["session_id"]
    assert event_of("gowa", body).gateway_instance == SHOP


def test_a_call_in_a_group_belongs_to_the_group() -> None:
    event = event_of("gowa", changed(body_of("gowa", "call.offer"), "payload", "group_jid", to=GROUP))
    assert (event.chat_id, event.sender_id, event.is_group) == (GROUP, ANA, True)


@pytest.mark.parametrize(
    ("word", "subtype", "status", "rank", "from_me"),
    [
        ("delivered", "delivered", "delivered", 2, True),
        ("read", "read", "read", 3, True),
        ("played", "played", "played", 4, True),
        ("played-self", "played_by_me", "played", 4, False),
        ("server-error", "failed", "failed", -1, True),
        ("new word", "new_word", "new_word", None, True),
        (None, None, None, None, True),
    ],
)
def test_a_receipts_status_and_whose_message_it_is(
    word: str | None, subtype: str | None, status: str | None, rank: int | None, from_me: bool
) -> None:
    event = event_of("gowa", changed(body_of("gowa", "message.ack.delivered"), "payload", "receipt_type", to=word))
    assert (event.type, event.subtype, event.status, event.status_rank, event.from_me) == ("receipt", subtype, status, rank, from_me)


def test_a_receipt_without_ids_is_known_by_its_time() -> None:
    body = changed(body_of("gowa", "message.ack.read"), "payload", "ids", to=[])
    assert event_of("gowa", body).message_ids == ()
    assert event_of("gowa", body).event_key == event_of("gowa", body).event_key
    assert event_of("gowa", body).event_key != event_of("gowa", changed(body, "timestamp", to="2025-11-22T07:45:39Z")).event_key


@pytest.mark.parametrize("payload", [None, [], "text", 7, {}])
def test_a_payload_of_the_wrong_kind_is_kept_as_undecodable(payload: Any) -> None:
    body = {"event": "message", "device_id": SHOP, "payload": payload}
    event = event_of("gowa", body)
    assert (event.type, event.subtype, event.raw) == ("unknown", "undecodable", orjson.dumps(body))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("brand.new\r\nx: y", ("unknown", "brand.new__x__y")),
        ("group.settings", ("group", "settings")),
        ("call.terminate", ("call", "terminate")),
        ("label.new.thing", ("system", "label_new_thing")),
    ],
)
def test_an_unknown_event_is_kept_under_its_own_name(name: str, kind: tuple[str, str]) -> None:
    event = event_of("gowa", {"event": name, "payload": {"a": 1}})
    assert (event.type, event.subtype) == kind
    assert not event.remembered


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "body"), (b"[]", "body"), (b"a=1", "body"), (b"{}", "event"), (b'{"event":""}', "event"), (b'{"message":"text"}', "event")],
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        gowa.decode(Push(body=body))
    assert refused.value.field == field


def signed(body: bytes, secret: str, scheme: str = "sha256=") -> Push:
    return Push(headers={"x-hub-signature-256": scheme + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}, body=body)


def test_a_signature_by_any_of_the_secrets_is_good() -> None:
    assert gowa.verify(signed(b"{}", "new"), ["old", "new"])
    assert gowa.verify(signed(b"{}", "old"), ["old", "new"])


@pytest.mark.parametrize(
    "push",
    [signed(b"{}", "wrong"), Push(body=b"{}"), signed(b"{}", "s", scheme=""), Push(headers=signed(b"{ }", "s").headers, body=b"{}")],
    ids=["another secret", "none", "no scheme", "another body"],
)
def test_a_bad_signature_is_refused(push: Push) -> None:
    assert not gowa.verify(push, ["s"])


def test_the_secret_it_signs_with_where_nobody_chose_one_is_refused() -> None:
    assert "secret" in gowa.PUBLISHED_SECRETS
    assert DEFAULT_SECRETS["gowa"] >= gowa.PUBLISHED_SECRETS
