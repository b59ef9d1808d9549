"""Evolution API and evolution-go: every kind of event, lists, the token, the traps."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, events_of, names_of
from worker.domain.errors import MalformedEvent
from worker.gateways import evolution
from worker.gateways.port import Push

ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
RUI = "5511900000002@s.whatsapp.net"
SHOP = "5511900000009@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
TOLD_AT = "2025-11-22T07:45:38.000Z"

EXPECTED: dict[str, dict[str, Any]] = {
    "messages.upsert": {"type": "message", "subtype": None, "chat_id": ANA, "chat_aliases": (ANA_LID,), "sender_id": ANA, "from_me": False}
    | {"message_ids": ("3EB0INVENTED01",), "text": "Is it still open?", "push_name": "Ana", "occurred_at": TOLD_AT},
    "messages.upsert.group": {"type": "message", "chat_id": GROUP, "chat_aliases": (), "sender_id": RUI, "is_group": True}
    | {"sender_aliases": ("100000000000002@lid",), "ref_message_id": "3EB0INVENTED01"},
    "messages.upsert.own": {"type": "message", "chat_id": ANA, "sender_id": SHOP, "from_me": True, "push_name": None},
    "messages.upsert.media": {"type": "message", "text": "The menu"},
    "messages.upsert.reaction": {"type": "message", "subtype": "reaction", "ref_message_id": "3EB0INVENTED03", "text": "\U0001f44d"},
    "messages.upsert.placeholder": {"type": "message", "subtype": "waiting", "message_ids": ("3EB0INVENTED01",), "text": None},
    "messages.upsert.waiting": {"type": "message", "subtype": "waiting"},
    "messages.upsert.stub": {
        "type": "system",
        "subtype": "stub_GROUP_PARTICIPANT_ADD",
        "chat_id": GROUP,
        "message_ids": ("3EB0INVENTED08",),
    },
    "messages.upsert.list": {"type": "message", "message_ids": ("3EB0INVENTED09",), "text": "One"},
    "messages.update": {"type": "receipt", "subtype": "read", "status": "read", "status_rank": 3, "chat_id": ANA, "sender_id": ANA}
    | {"from_me": True, "message_ids": ("3EB0INVENTED03",)},
    "messages.update.deleted": {"type": "message", "subtype": "revoked", "ref_message_id": "3EB0INVENTED01", "status": None},
    "messages.update.votes": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0POLL", "chat_id": GROUP},
    "messages.delete": {"type": "message", "subtype": "revoked", "ref_message_id": "3EB0INVENTED01", "chat_id": ANA},
    "messages.delete.whole": {"type": "message", "subtype": "revoked", "ref_message_id": "3EB0INVENTED03", "from_me": True},
    "messages.edited": {"type": "message", "subtype": "edited", "ref_message_id": "3EB0INVENTED01", "text": "Is it open?"}
    | {"chat_id": None, "sender_id": None, "from_me": False, "occurred_at": "2025-11-22T07:45:50.000Z"},
    "messages.edited.group": {
        "type": "message",
        "subtype": "edited",
        "text": "Me three",
        "chat_id": GROUP,
        "sender_id": None,
        "from_me": False,
    },
    "messages.edited.revoke": {"type": "message", "subtype": "revoked", "chat_id": GROUP, "sender_id": RUI, "from_me": False},
    "send.message": {"type": "message", "subtype": "sent", "chat_id": ANA, "sender_id": SHOP, "from_me": True, "text": "On our way"},
    "send.message.update": {"type": "message", "subtype": "edited", "chat_id": ANA, "from_me": True, "text": "On our way!"},
    "messages.set": {"type": "history", "subtype": "messages.set", "replay": True},
    "contacts.upsert": {"type": "contact", "subtype": "upsert", "chat_id": ANA, "push_name": "Ana", "remembered": True},
    "contacts.update": {"type": "contact", "subtype": "update", "chat_id": ANA, "push_name": "Ana B."},
    "chats.upsert": {"type": "system", "subtype": "chats_upsert", "chat_id": ANA},
    "chats.upsert.nothing": {"type": "system", "subtype": "chats_upsert", "chat_id": None},
    "chats.delete": {"type": "system", "subtype": "chats_delete", "chat_id": ANA},
    "groups.upsert": {"type": "group", "subtype": "upsert", "chat_id": GROUP, "is_group": True},
    "group-participants.update": {"type": "group", "subtype": "participants", "chat_id": GROUP, "sender_id": RUI},
    "presence.update": {"type": "presence", "subtype": "composing", "chat_id": ANA, "sender_id": ANA, "remembered": True},
    "presence.update.two": {"type": "presence", "subtype": None, "chat_id": GROUP, "sender_id": None, "is_group": True},
    "call": {"type": "call", "subtype": "offer", "chat_id": ANA, "chat_aliases": (ANA_LID,), "sender_id": ANA, "occurred_at": TOLD_AT},
    "labels.edit": {"type": "system", "subtype": "labels_edit", "chat_id": None},
    "labels.association": {"type": "system", "subtype": "labels_association", "chat_id": ANA},
    "typebot.change-status": {"type": "system", "subtype": "typebot_change_status", "chat_id": ANA},
    "qrcode.updated": {"type": "qr", "subtype": "scan_qr_code"},
    "qrcode.limit": {"type": "qr", "subtype": "limit"},
    "connection.open": {"type": "connection", "subtype": "open", "occurred_at": None, "remembered": True},
    "connection.replaced": {"type": "connection", "subtype": "replaced"},
    "status.instance": {"type": "connection", "subtype": "logged_out"},
    "logout.instance": {"type": "connection", "subtype": "logged_out"},
    "remove.instance": {"type": "system", "subtype": "remove_instance"},
    "application.startup": {"type": "system", "subtype": "application_startup"},
    "go.message": {"type": "message", "subtype": None, "chat_id": ANA, "chat_aliases": (ANA_LID,), "text": "Is it still open?"},
    "go.send": {"type": "message", "subtype": "sent", "chat_id": ANA, "sender_id": SHOP, "from_me": True},
    "go.receipt": {"type": "receipt", "subtype": "read", "message_ids": ("3EB0INVENTED03", "3EB0INVENTED10"), "chat_id": ANA},
    "go.qr": {"type": "qr", "subtype": "scan_qr_code", "remembered": False},
    "go.connected": {"type": "connection", "subtype": "open", "remembered": False},
    "go.logged-out": {"type": "connection", "subtype": "logged_out"},
    "go.archive": {"type": "system", "subtype": "archive", "chat_id": ANA, "remembered": True},
    "go.chat-presence": {"type": "presence", "subtype": "paused", "remembered": False},
}


@pytest.mark.parametrize("name", names_of("evolution"))
def test_each_kind_of_event_is_read(name: str) -> None:
    body = body_of("evolution", name)
    event = event_of("evolution", body)
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert event.gateway_instance == "sales"
    assert event.raw == orjson.dumps(body).replace(b"INVENTED-KEY", b"************")


@pytest.mark.parametrize("name", names_of("evolution"))
def test_an_event_is_the_same_in_every_notation_of_its_name(name: str) -> None:
    body = body_of("evolution", name)
    known = event_of("evolution", body)
    for written in (body["event"].upper().replace(".", "_").replace("-", "_"), body["event"].replace(".", "-"), body["event"].lower()):
        other = event_of("evolution", {**body, "event": written})
        assert (other.type, other.subtype) == (known.type, known.subtype)
        assert (other.event_key == known.event_key) is known.remembered


def test_each_item_of_a_list_is_an_event_in_the_gateways_own_envelope() -> None:
    body = body_of("evolution", "contacts.upsert")
    people = [{**body["data"][0], "remoteJid": jid} for jid in (ANA, RUI)]
    first, second = events_of("evolution", {**body, "data": people})
    assert (first.chat_id, second.chat_id) == (ANA, RUI)
    clean = {**body, "apikey": "*" * 12}
    assert [first.raw, second.raw] == [orjson.dumps({**clean, "data": [person]}) for person in people]


def test_two_equal_items_of_one_list_are_two_events_and_told_again_the_same_two() -> None:
    body = {**body_of("evolution", "chats.upsert"), "event": "chats.update"}
    body["data"] *= 2
    first, again = events_of("evolution", body), events_of("evolution", body)
    assert first[0].event_key != first[1].event_key
    assert [event.event_key for event in first] == [event.event_key for event in again]


def test_an_item_that_cannot_be_read_costs_the_others_nothing() -> None:
    body = body_of("evolution", "messages.upsert")
    events = events_of("evolution", {**body, "data": [7, body["data"], None]})
    assert [(event.type, event.subtype) for event in events] == [("unknown", "undecodable"), ("message", None), ("unknown", "undecodable")]


def test_a_synchronisation_step_stays_one_event() -> None:
    body = body_of("evolution", "messages.set")
    [event] = events_of("evolution", {**body, "data": body["data"] * 3})
    assert event.type == "history"


def test_more_events_than_fit_are_kept_as_one() -> None:
    body = {**body_of("evolution", "chats.delete"), "data": [ANA] * (evolution.MAX_EVENTS + 1)}
    event = event_of("evolution", body)
    assert (event.type, event.subtype, len(event.raw)) == ("unknown", "undecodable", len(orjson.dumps(body)))


def test_a_list_with_an_item_too_deep_to_be_written_again_is_kept_as_one() -> None:
    body = b'{"event":"contacts.upsert","data":[{"remoteJid":"1@c.us"},' + b"[" * 300 + b"]" * 300 + b"]}"
    event = event_of("evolution", body)
    assert (event.subtype, event.raw) == ("undecodable", body)


def test_many_events_in_a_large_envelope_never_cost_many_bodies() -> None:
    body = {**body_of("evolution", "chats.delete"), "data": [f"{n}@s.whatsapp.net" for n in range(4000)], "server_url": "x" * 500_000}
    events = events_of("evolution", body)
    assert len(events) == 4000
    assert max(len(event.raw) for event in events) < 2048 + 100
    assert orjson.loads(events[7].raw) == {
        "event": "chats.delete",
        "instance": "sales",
        "date_time": body["date_time"],
        "sender": SHOP,
        "data": ["7@s.whatsapp.net"],
    }


def test_an_envelope_too_deep_to_be_repeated_is_cut_to_its_ids() -> None:
    body = b'{"event":"chats.delete","instance":"sales","x":' + b"[" * 300 + b"]" * 300 + b',"data":["1@c.us","2@c.us"]}'
    events = events_of("evolution", body)
    assert [event.raw for event in events] == [
        b'{"event":"chats.delete","instance":"sales","data":["%d@c.us"]}' % number for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("open", 200, "open"),
        ("connecting", 200, "connecting"),
        ("connecting", 401, "connecting"),
        ("close", 401, "logged_out"),
        ("close", 440, "replaced"),
        ("close", 403, "failed"),
        ("close", 428, "closed"),
        ("close", None, "closed"),
        ("refused", 428, "failed"),
        ("new word", None, "connecting"),
    ],
)
def test_a_connections_state_and_why(state: str, reason: int | None, expected: str) -> None:
    data = {"instance": "sales", "state": state, "statusReason": reason}
    event = event_of("evolution", {"event": "connection.update", "instance": "sales", "data": data})
    assert event.connection is not None
    assert (event.subtype, event.connection.state) == (expected, expected)


@pytest.mark.parametrize(
    ("status", "word", "rank"),
    [
        ("ERROR", "failed", -1),
        ("PENDING", "pending", None),
        ("SERVER_ACK", "sent", 1),
        ("DELIVERY_ACK", "delivered", 2),
        ("delivered", "delivered", 2),
        ("PLAYED", "played", 4),
        (3, "delivered", 2),
        ("NEW WORD", "new_word", None),
        (99, None, None),
        (True, None, None),
        (None, None, None),
    ],
)
def test_a_receipts_status_and_rank(status: Any, word: str | None, rank: int | None) -> None:
    event = event_of("evolution", changed(body_of("evolution", "messages.update"), "data", "status", to=status))
    assert (event.type, event.subtype, event.status, event.status_rank) == ("receipt", word, word, rank)


def test_an_older_update_that_names_its_message_by_key_is_read() -> None:
    data = {"key": {"remoteJid": ANA, "fromMe": True, "id": "A"}, "update": {"status": 4}}
    event = event_of("evolution", {"event": "messages.update", "instance": "sales", "data": data})
    assert (event.status, event.message_ids, event.chat_id) == ("read", ("A",), ANA)


def test_media_is_announced_where_the_gateway_put_it() -> None:
    media = event_of("evolution", body_of("evolution", "messages.upsert.media")).media
    assert media is not None
    assert (media.kind, media.mimetype, media.filename, media.size, media.sha256, media.url, media.inline) == (
        *("document", "application/pdf", "menu.pdf", 1024, None),
        *("https://files.invalid/menu.pdf", False),
    )
    inlined = changed(body_of("evolution", "messages.upsert.media"), "data", "message", "base64", to="AA==")
    assert getattr(event_of("evolution", inlined).media, "inline", None) is True


def test_a_message_without_an_id_is_known_by_when_it_was_told() -> None:
    body = changed(body_of("evolution", "messages.upsert"), "data", "key", "id", to="")
    event = event_of("evolution", body)
    assert (event.message_ids, event.remembered) == ((), True)
    assert event.event_key == event_of("evolution", body).event_key
    assert event.event_key != event_of("evolution", {**body, "date_time": "2025-11-22T04:45:38.121Z"}).event_key


@pytest.mark.parametrize("moment", [None, "2025-11-22T04:45:38Z", 1_763_797_538])
def test_a_time_in_whole_seconds_or_none_identifies_nothing(moment: Any) -> None:
    assert not event_of("evolution", {**body_of("evolution", "connection.open"), "date_time": moment}).remembered


@pytest.mark.parametrize("data", [None, [], "text", 7])
@pytest.mark.parametrize("event", ["messages.upsert", "messages.update", "connection.update", "presence.update", "qrcode.updated", "call"])
def test_data_of_the_wrong_kind_is_kept_as_undecodable(event: str, data: Any) -> None:
    kept = event_of("evolution", {"event": event, "instance": "sales", "data": data})
    assert (kept.type, kept.subtype) == ("unknown", "undecodable")


def test_a_connection_that_says_no_state_is_undecodable() -> None:
    assert event_of("evolution", {"event": "connection.update", "data": {"instance": "s"}}).subtype == "undecodable"


def test_an_unknown_event_is_kept_whole_under_its_own_name_fit_for_a_header() -> None:
    body = {"event": "brand.new\r\nx: y", "instance": "sales", "data": [1, 2], "date_time": "2025-11-22T04:45:38.120Z"}
    event = event_of("evolution", body)
    assert (event.type, event.subtype, event.raw, event.remembered) == ("unknown", "brand.new__x__y", orjson.dumps(body), True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"a=1&b=2", "body"),
        (b"{}", "event"),
        (b'{"event":""}', "event"),
        (b'{"event":[]}', "event"),
    ],
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        evolution.decode(Push(body=body))
    assert refused.value.field == field


def test_a_body_of_megabytes_takes_no_more_than_its_length() -> None:
    body = orjson.dumps(changed(body_of("evolution", "messages.upsert.media"), "data", "message", "base64", to="QUJD" * 400_000))
    started = time.perf_counter()
    assert len(event_of("evolution", body).raw) == len(body)
    assert time.perf_counter() - started < 5
