"""wuzapi and its forks: form and JSON, every kind of event, the signature, the secrets, the traps."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from tests.unit.gateway_bodies import body_of, changed, event_of, names_of
from worker.domain.errors import MalformedEvent
from worker.domain.record import decode as opened
from worker.domain.record import encode, normalized_body
from worker.gateways import wuzapi
from worker.gateways.forms import URLENCODED
from worker.gateways.port import JSON, Push

ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
RUI = "5511900000002@s.whatsapp.net"
SHOP = "5511900000009@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
TOLD_AT = "2025-11-22T07:45:38.000Z"
HEADERS = {"content-type": URLENCODED}
MULTIPART = "multipart/form-data; boundary=sample"

EXPECTED: dict[str, dict[str, Any]] = {
    "message": {"type": "message", "subtype": None, "chat_id": ANA, "sender_id": ANA, "chat_aliases": (ANA_LID,), "from_me": False}
    | {"message_ids": ("3EB0INVENTED01",), "text": "Is it still open?", "push_name": "Ana", "occurred_at": TOLD_AT},
    "message.group": {"type": "message", "chat_id": GROUP, "chat_aliases": (), "is_group": True, "sender_id": RUI, "push_name": "Rui"}
    | {"sender_aliases": ("100000000000002@lid",), "ref_message_id": "3EB0INVENTED01", "text": "Me too"},
    "message.own": {"type": "message", "chat_id": ANA, "chat_aliases": (ANA_LID,), "sender_id": SHOP, "from_me": True, "push_name": None},
    "message.media": {"type": "message", "subtype": None, "text": "The menu"},
    "message.edited": {"type": "message", "subtype": "edited", "ref_message_id": "3EB0INVENTED01", "text": "Is it open?"},
    "message.revoked": {"type": "message", "subtype": "revoked", "ref_message_id": "3EB0INVENTED01", "message_ids": ("3EB0INVENTED06",)},
    "message.reaction": {"type": "message", "subtype": "reaction", "ref_message_id": "3EB0INVENTED03", "text": "\U0001f44d"},
    "poll.vote": {"type": "message", "subtype": "poll_vote", "ref_message_id": "3EB0POLL"},
    "message.undecryptable": {"type": "message", "subtype": "waiting", "message_ids": ("3EB0INVENTED01",), "text": None},
    "receipt.read": {"type": "receipt", "subtype": "read", "status": "read", "status_rank": 3, "chat_id": ANA, "sender_id": ANA}
    | {"from_me": True, "message_ids": ("3EB0INVENTED03", "3EB0INVENTED09"), "chat_aliases": (ANA_LID,), "occurred_at": TOLD_AT},
    "receipt.delivered": {"type": "receipt", "subtype": "delivered", "status": "delivered", "status_rank": 2},
    "receipt.own": {"type": "receipt", "subtype": "read_by_me", "status": "read", "from_me": False, "is_group": True},
    "presence": {"type": "presence", "subtype": "offline", "chat_id": ANA, "sender_id": ANA, "remembered": False},
    "chat-presence": {"type": "presence", "subtype": "recording", "chat_id": ANA, "sender_id": ANA, "remembered": False},
    "connected": {"type": "connection", "subtype": "open", "remembered": False},
    "connected.push-name": {"type": "connection", "subtype": "open", "remembered": False},
    "disconnected": {"type": "connection", "subtype": "closed", "remembered": False},
    "logged-out": {"type": "connection", "subtype": "logged_out", "remembered": False},
    "stream-replaced": {"type": "connection", "subtype": "replaced", "remembered": False},
    "connect-failure": {"type": "connection", "subtype": "failed", "remembered": False},
    "qr": {"type": "qr", "subtype": "scan_qr_code", "remembered": False},
    "pair-success": {"type": "qr", "subtype": "pair_success", "remembered": False},
    "call-offer": {"type": "call", "subtype": "offer", "chat_id": ANA, "sender_id": ANA, "sender_aliases": (ANA_LID,), "remembered": True},
    "group-info": {"type": "group", "subtype": "participants", "chat_id": GROUP, "is_group": True, "sender_id": RUI, "remembered": True},
    "joined-group": {"type": "group", "subtype": "joined", "chat_id": GROUP, "is_group": True, "remembered": False},
    "picture": {"type": "contact", "subtype": "picture", "chat_id": ANA, "occurred_at": TOLD_AT, "remembered": True},
    "push-name": {"type": "contact", "subtype": "push_name", "chat_id": ANA, "chat_aliases": (ANA_LID,), "push_name": "Ana"},
    "history-sync": {"type": "history", "subtype": "history_sync", "replay": True, "remembered": False},
    "label-edit": {"type": "system", "subtype": "label_edit", "remembered": True},
    "newsletter-join": {"type": "system", "subtype": "newsletter_join", "chat_id": "120363000000000009@newsletter"},
    "fork.message": {"type": "message", "message_ids": ("3EB0INVENTED01",), "chat_id": ANA, "text": "Is it still open?"},
    "fork.receipt": {"type": "receipt", "subtype": "read", "message_ids": ("3EB0INVENTED03",)},
    "fork.offline-sync": {"type": "history", "subtype": "offline_sync_completed", "replay": True, "remembered": True},
    "fork.connected": {"type": "connection", "subtype": "open", "occurred_at": "2025-11-22T07:45:39.000Z", "remembered": False},
}


def as_form(body: Any, **beside: str) -> bytes:
    return urlencode({"jsonData": orjson.dumps(body).decode(), "token": "INVENTED-TOKEN", **beside}).encode()


def as_file_hook(body: Any, file: bytes) -> bytes:
    fields = {"file": "files/a.jpg", "jsonData": orjson.dumps(body).decode(), "token": "INVENTED-TOKEN"}
    parts = [f'--sample\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    head = b'--sample\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return b"".join((*parts, head, file, b"\r\n--sample--\r\n"))


@pytest.mark.parametrize("name", names_of("wuzapi"))
def test_each_kind_of_event_is_read_as_json_and_as_a_form(name: str) -> None:
    body = body_of("wuzapi", name)
    of_json = event_of("wuzapi", body)
    assert {field: getattr(of_json, field) for field in EXPECTED[name]} == EXPECTED[name]
    assert of_json.raw == orjson.dumps(body).replace(b"INVENTED-TOKEN", b"**************")
    if not name.startswith("fork."):
        of_form = event_of("wuzapi", as_form(body), headers=HEADERS)
        key = of_form.event_key if of_json.remembered else of_json.event_key
        assert replace(of_form, raw=of_json.raw, raw_content_type=JSON, event_key=key) == of_json
        assert key == of_json.event_key


def test_a_form_is_kept_as_it_came_but_for_its_secrets() -> None:
    body = as_form(body_of("wuzapi", "message"), instanceName="sales", userID="7")
    event = event_of("wuzapi", body, headers=HEADERS)
    assert event.raw == body.replace(b"INVENTED-TOKEN", b"*" * 14)
    assert (event.raw_content_type, event.gateway_instance) == (URLENCODED, "sales")
    assert orjson.loads(normalized_body(opened(encode(event))))["raw_content_type"] == URLENCODED


def test_a_form_without_a_content_type_is_still_one() -> None:
    assert event_of("wuzapi", as_form(body_of("wuzapi", "message"))).type == "message"


def test_a_hook_with_a_file_is_read_and_keeps_the_file() -> None:
    body = as_file_hook(body_of("wuzapi", "message.media"), b"\xff\xd8\r\n--samp\x00")
    event = event_of("wuzapi", body, headers={"content-type": MULTIPART})
    assert (event.type, event.message_ids, event.raw_content_type) == ("message", ("3EB0INVENTED04",), MULTIPART)
    assert event.raw == body.replace(b"INVENTED-TOKEN", b"*" * 14)


@pytest.mark.parametrize(
    ("whole", "named"),
    [
        ({"userID": "7", "instanceName": "sales"}, "sales"),
        ({"userID": 7}, "7"),
        ({}, "default"),
    ],
)
def test_the_instance_is_named_by_name_or_by_id_never_by_its_token(whole: dict[str, Any], named: str) -> None:
    assert event_of("wuzapi", {"type": "Connected", "event": {}, "token": "t", **whole}).gateway_instance == named


def test_media_is_announced_where_the_gateway_put_it() -> None:
    media = event_of("wuzapi", body_of("wuzapi", "message.media")).media
    assert media is not None
    assert (media.kind, media.mimetype, media.size, media.sha256, media.url, media.inline) == (
        *("image", "image/jpeg", 48_213, "3q2+7w=="),
        *("https://files.invalid/3EB0INVENTED04.jpg", True),
    )


@pytest.mark.parametrize(
    ("receipt", "subtype", "status", "rank"),
    [
        ({"Type": "read"}, "read", "read", 3),
        ({"Type": ""}, "delivered", "delivered", 2),
        ({"Type": "played"}, "played", "played", 4),
        ({"Type": "server-error"}, "failed", "failed", -1),
        ({"Type": "new word"}, "new_word", "new_word", None),
        ({"Type": "read", "IsFromMe": True}, "read_by_me", "read", 3),
        ({"Type": "played-self"}, "played_by_me", "played", 4),
        ({}, "read_by_me", "read", 3),
    ],
)
def test_a_receipts_status_and_rank(receipt: dict[str, Any], subtype: str, status: str, rank: int | None) -> None:
    event = event_of("wuzapi", {"type": "ReadReceipt", "state": "ReadSelf", "event": {"MessageIDs": ["A"], "Chat": ANA, **receipt}})
    assert (event.subtype, event.status, event.status_rank) == (subtype, status, rank)


def test_a_receipt_for_no_message_is_known_by_its_time() -> None:
    body = changed(body_of("wuzapi", "receipt.read"), "event", "MessageIDs", to=["", None])
    assert event_of("wuzapi", body).message_ids == ()
    assert event_of("wuzapi", body).event_key == event_of("wuzapi", body).event_key
    later = changed(body, "event", "Timestamp", to="2025-11-22T04:45:39-03:00")
    assert event_of("wuzapi", later).event_key != event_of("wuzapi", body).event_key


def test_a_refused_connection_is_logged_out_where_the_reason_says_so() -> None:
    connection = event_of("wuzapi", {"type": "ConnectFailure", "event": {"Reason": 401, "Message": "gone"}}).connection
    assert connection is not None
    assert (connection.state, connection.reason_code, connection.reason) == ("logged_out", "401", "gone")


def test_the_devices_talk_among_themselves_is_no_edit() -> None:
    message = {"protocolMessage": {"type": 3, "ephemeralExpiration": 86_400}}
    assert event_of("wuzapi", changed(body_of("wuzapi", "message"), "event", "Message", to=message)).subtype == "protocol"


def test_a_message_in_its_wrappers_is_read() -> None:
    message = {"ephemeralMessage": {"message": {"viewOnceMessageV2": {"message": {"videoMessage": {"caption": "Look"}}}}}}
    event = event_of("wuzapi", changed(body_of("wuzapi", "message"), "event", "Message", to=message))
    assert event.media is not None
    assert (event.text, event.media.kind) == ("Look", "video")


def test_wrappers_without_end_are_not_followed_to_the_end() -> None:
    message: dict[str, Any] = {"conversation": "At the bottom"}
    for _ in range(9):
        message = {"ephemeralMessage": {"message": message}}
    event = event_of("wuzapi", changed(body_of("wuzapi", "message"), "event", "Message", to=message))
    assert (event.type, event.text, event.message_ids) == ("message", None, ("3EB0INVENTED01",))


def test_a_polls_question_is_its_text() -> None:
    message = {"pollCreationMessageV3": {"name": "When?", "options": [{"optionName": "Now"}]}}
    event = event_of("wuzapi", changed(body_of("wuzapi", "message"), "event", "Message", to=message))
    assert (event.subtype, event.text) == (None, "When?")


def test_a_message_without_an_id_has_no_identity_for_two_of_them_may_come_in_one_second() -> None:
    event = event_of("wuzapi", changed(body_of("wuzapi", "message"), "event", "Info", "ID", to=""))
    assert (event.type, event.message_ids, event.remembered) == ("message", (), False)


@pytest.mark.parametrize("event", [None, [], "text", 7, {}])
@pytest.mark.parametrize("kind", ["Message", "ReadReceipt", "ChatPresence"])
def test_an_event_of_the_wrong_kind_is_kept_as_undecodable(kind: str, event: Any) -> None:
    kept = event_of("wuzapi", {"type": kind, "event": event})
    assert (kept.type, kept.subtype) == ("unknown", "undecodable")


def test_an_unknown_event_is_kept_under_its_own_name_fit_for_a_header() -> None:
    event = event_of("wuzapi", {"type": "Brand new\r\nx: y", "event": {"a": 1}})
    assert (event.type, event.subtype) == ("unknown", "Brand_new__x__y")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "type"),
        (b'{"type":7,"event":{}}', "type"),
        (b'{"data":{"event":{}}}', "type"),
        (b"just some text", "jsonData"),
        (b"token=abc", "jsonData"),
        (b"jsonData=", "jsonData"),
        (b"jsonData={", "jsonData"),
        (b"jsonData=[]", "jsonData"),
        (b"jsonData={}", "type"),
        (b"jsonData=%22%FF%22", "jsonData"),
    ],
)
def test_what_is_not_its_envelope_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        wuzapi.decode(Push(body=body))
    assert refused.value.field == field


def signature_of(body: bytes, secret: str = "s") -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("body", [b"jsonData=%7B%7D&token=t", b"{}"])
def test_a_signature_over_form_or_json_by_any_of_the_secrets_is_good(body: bytes) -> None:
    push = Push(headers={"x-hmac-signature": signature_of(body, "new")}, body=body)
    assert wuzapi.verify(push, ["old", "new"])
    assert not wuzapi.verify(push, ["old"])
    assert not wuzapi.verify(push, [])
    assert not wuzapi.verify(replace(push, body=body + b" "), ["new"])
    assert not wuzapi.verify(replace(push, headers={}), ["new"])


def test_beside_a_file_the_fields_are_signed_as_go_writes_them() -> None:
    told = {"type": "Message", "text": '<a> & ç \u2028 "q"'}
    body = as_file_hook(told, b"\xff\xd8")
    # By hand: keys in order, quotes escaped once more, `<`, `>`, `&` and U+2028 as Go's encoder writes them.
    signed = (
        '{"file":"files/a.jpg","jsonData":"{\\"type\\":\\"Message\\",\\"text\\":\\"\\u003ca\\u003e \\u0026 ç \\u2028 \\\\\\"q\\\\\\"\\"}",'
        '"token":"INVENTED-TOKEN"}'
    )
    push = Push(headers={"content-type": MULTIPART, "x-hmac-signature": signature_of(signed.encode())}, body=body)
    assert wuzapi.verify(push, ["s"])
    assert not wuzapi.verify(push, ["t"])
    assert not wuzapi.verify(replace(push, body=body[:-12]), ["s"])
