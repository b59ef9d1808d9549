"""Pairs of pushes: those that look alike and are two events, and those that differ in bytes and are one. Data, to be pushed anywhere.

`APART`: no event of the first push is any event of the second. `SAME`: every event of the first is one of the second. Each push
names the tenant and the instance that it is for: whoever pushes it declares them so that no instance bears the name that a body
tells, and the path decides.
"""

from __future__ import annotations

from tests.unit import look_alikes_evolution, look_alikes_whatsmeow
from tests.unit.gateway_bodies import changed
from tests.unit.look_alike_pairs import of, pair, rewritten

RUI = "5511900000002@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
_PAYLOAD_ID = ("payload", "id")

# ─── WAHA ───

_waha_text, _waha_ack = of("waha", "message"), of("waha", "message.ack")
_waha_group_ack = of(
    "waha", "message.ack", (_PAYLOAD_ID, f"true_{GROUP}_3EB0INVENTED03"), (("payload", "from"), GROUP), (("payload", "participant"), RUI)
)
_waha_open, _waha_qr = of("waha", "session.status.open"), of("waha", "session.status.qr")
_waha_edit, _waha_group = of("waha", "message.edited"), of("waha", "message.group")

_WAHA_APART = [
    pair(
        "open, and open again after a close",
        "waha",
        _waha_open,
        changed(_waha_open, "payload", "statuses", 1, "timestamp", to=1763797599000),
    ),
    pair("open, then closed", "waha", _waha_open, changed(_waha_open, "payload", "status", to="STOPPED")),
    pair("two QR codes", "waha", _waha_qr, changed(_waha_qr, "payload", "statuses", 0, "timestamp", to=1763797525000)),
    pair("two QR codes in one status", "waha", _waha_qr, changed(_waha_qr, "timestamp", to=1763797559000)),
    pair("typing twice", "waha", of("waha", "presence.update"), of("waha", "presence.update", (("timestamp",), 1763797539001))),
    pair("a placeholder, then the message", "waha", of("waha", "message.waiting"), _waha_text),
    pair("two edits of one message under one id", "waha", _waha_edit, changed(_waha_edit, "payload", "body", to="Is it open today?")),
    pair(
        "a reaction, then another",
        "waha",
        of("waha", "message.reaction"),
        of("waha", "message.reaction", (("payload", "reaction", "text"), "?")),
    ),
    pair(
        "a reaction, then none",
        "waha",
        of("waha", "message.reaction"),
        of("waha", "message.reaction", (("payload", "reaction", "text"), "")),
    ),
    pair("delivered, then read", "waha", changed(changed(_waha_ack, "payload", "ack", to=2), "payload", "ackName", to="DEVICE"), _waha_ack),
    pair("two readers in a group", "waha", _waha_group_ack, changed(_waha_group_ack, "payload", "participant", to="5511900000003@c.us")),
    pair("two tenants, one id", "waha", _waha_text, _waha_text, tenant_id="bistro", instance_id="bistro-sales"),
    pair("two instances of a tenant, one id", "waha", _waha_text, _waha_text, instance_id="acme-support"),
    pair("two sessions that nobody declared, in one group", "waha", _waha_group, changed(_waha_group, "session", to="another")),
    pair("one id in two chats", "waha", _waha_text, changed(_waha_text, *_PAYLOAD_ID, to="false_5511900000002@c.us_3EB0INVENTED01")),
    pair("one id, theirs and ours", "waha", _waha_text, of("waha", "message", (("payload", "fromMe"), True))),
    pair("one text twice", "waha", _waha_text, changed(_waha_text, *_PAYLOAD_ID, to="false_5511900000001@c.us_3EB0INVENTED99")),
    pair(
        "a call, then that it was rejected", "waha", of("waha", "call.received"), of("waha", "call.received", (("event",), "call.rejected"))
    ),
]
_WAHA_SAME = [
    pair("message and message.any", "waha", of("waha", "message"), of("waha", "message.any")),
    pair(
        "another evt id, for another of its webhooks", "waha", _waha_text, changed(_waha_text, "id", to="evt_01another000000000000000000")
    ),
    pair("keys the other way round, and spaces", "waha", _waha_text, rewritten(_waha_text)),
    pair(
        "a message that has been read since",
        "waha",
        _waha_text,
        of("waha", "message", (("payload", "ack"), 3), (("payload", "ackName"), "READ")),
    ),
    pair(
        "a reader with and without a device",
        "waha",
        _waha_group_ack,
        changed(_waha_group_ack, "payload", "participant", to="5511900000002:14@c.us"),
    ),
]

# ─── Cloud API ───

_cloud_text, _cloud_several = of("cloud-api", "message.text"), of("cloud-api", "several")
_MESSAGE = ("entry", 0, "changes", 0, "value", "messages", 0)
_STATUS = ("entry", 0, "changes", 0, "value", "statuses", 0)

_CLOUD_APART = [
    pair(
        "sent, then delivered",
        "cloud-api",
        of("cloud-api", "status.sent"),
        of("cloud-api", "status.sent", ((*_STATUS, "status"), "delivered")),
    ),
    pair("delivered, then read", "cloud-api", of("cloud-api", "status.delivered"), of("cloud-api", "status.read")),
    pair("a placeholder, then the message", "cloud-api", of("cloud-api", "message.waiting"), _cloud_text),
    pair(
        "a reaction, then another",
        "cloud-api",
        of("cloud-api", "message.reaction"),
        of("cloud-api", "message.reaction", ((*_MESSAGE, "reaction", "emoji"), "?")),
    ),
    pair("one id from two people", "cloud-api", _cloud_text, of("cloud-api", "message.text", ((*_MESSAGE, "from"), "5511900000002"))),
]
_CLOUD_SAME = [
    pair("again, among others", "cloud-api", _cloud_text, _cloud_several),
    pair(
        "a status again, told at another second",
        "cloud-api",
        of("cloud-api", "status.sent"),
        of("cloud-api", "status.sent", ((*_STATUS, "timestamp"), "1763797600")),
    ),
    pair("keys the other way round, and spaces", "cloud-api", _cloud_several, rewritten(_cloud_several)),
]

# ─── generic ───

_said = {"type": "message", "message_ids": ["A"], "chat_id": "5511900000001@s.whatsapp.net", "text": "Good morning"}
_typing = {"type": "presence", "subtype": "composing", "chat_id": "5511900000001@s.whatsapp.net"}

_GENERIC_APART = [
    pair("typing twice, told without a time, in the same bytes", "generic", _typing, _typing),
    pair("one event key at two instances", "generic", {**_said, "event_key": "1"}, {**_said, "event_key": "1"}, instance_id="acme-support"),
    pair("open at one time and at another", "generic", *({"type": "connection", "occurred_at": 1763797538 + at} for at in (0, 1))),
    pair("one id, another text", "generic", _said, {**_said, "text": "Good night"}),
]
_GENERIC_SAME = [
    pair("a phone bare and as an address", "generic", _said, {**_said, "chat_id": "5511900000001"}),
    pair(
        "a phone with a plus, and of a device",
        "generic",
        {**_said, "chat_id": "+5511900000001"},
        {**_said, "chat_id": "5511900000001:7@c.us"},
    ),
    pair("passed on with what we added", "generic", _said, {**_said, "received_at": "2025-11-22T07:45:38.000Z", "schema": 1}),
]

# ─── GOWA ───

_gowa_text, _gowa_read, _gowa_edit = of("gowa", "message.text"), of("gowa", "message.ack.read"), of("gowa", "message.edited")
_gowa_join, _gowa_typing = of("gowa", "group.participants"), of("gowa", "chat_presence.composing")
_gowa_again = changed(
    changed(_gowa_text, "payload", "sender_display_name", to="Ana from work"), "payload", "from", to="5511900000001:3@s.whatsapp.net"
)

_GOWA_APART = [
    pair("typing twice within a second, in the same bytes", "gowa", _gowa_typing, _gowa_typing),
    pair("typing, then not", "gowa", _gowa_typing, changed(_gowa_typing, "payload", "state", to="paused")),
    pair("delivered, then read", "gowa", changed(_gowa_read, "payload", "receipt_type", to="delivered"), _gowa_read),
    pair("read by them, then by us", "gowa", _gowa_read, changed(_gowa_read, "payload", "receipt_type", to="read-self")),
    pair("one message read, then it and another", "gowa", changed(_gowa_read, "payload", "ids", to=["3EB0INVENTED07"]), _gowa_read),
    pair("two readers in a group", "gowa", _gowa_read, changed(_gowa_read, "payload", "from", to="5511900000003@s.whatsapp.net")),
    pair(
        "nobody says who read, twice",
        "gowa",
        *(of("gowa", "message.ack.read", (("payload", "from"), None), (("payload", "sender_display_name"), n)) for n in "AB"),
    ),
    pair("two edits under one id", "gowa", _gowa_edit, changed(_gowa_edit, "payload", "body", to="Is it open today?")),
    pair("a reaction, then none", "gowa", of("gowa", "message.reaction"), of("gowa", "message.reaction", (("payload", "reaction"), ""))),
    pair("joined, and joined again after leaving", "gowa", _gowa_join, changed(_gowa_join, "timestamp", to="2025-11-22T07:46:38Z")),
    pair("joined, then left, in one second", "gowa", _gowa_join, changed(_gowa_join, "payload", "type", to="leave")),
    pair("one id in two chats", "gowa", _gowa_text, changed(_gowa_text, "payload", "chat_id", to=GROUP)),
    pair("one id, theirs and ours", "gowa", _gowa_text, changed(_gowa_text, "payload", "is_from_me", to=True)),
    pair(
        "a label put on, then taken off",
        "gowa",
        of("gowa", "label.association"),
        of("gowa", "label.association", (("payload", "labeled"), False)),
    ),
    pair("two calls in one second", "gowa", of("gowa", "call.offer"), of("gowa", "call.offer", (("payload", "call_id"), "CALL02"))),
]
_GOWA_SAME = [
    pair("a contact renamed in between, a device told", "gowa", _gowa_text, _gowa_again),
    pair("receipts in another order", "gowa", _gowa_read, changed(_gowa_read, "payload", "ids", to=["3EB0INVENTED12", "3EB0INVENTED07"])),
    pair("keys the other way round, and spaces", "gowa", _gowa_text, rewritten(_gowa_text)),
]

# ─── Z-API ───

_zapi_text, _zapi_read = of("zapi", "received.text"), of("zapi", "status.read")
_zapi_received, _zapi_closed = of("zapi", "status.received"), of("zapi", "disconnected")
_zapi_edit, _zapi_typing = of("zapi", "received.edited"), of("zapi", "presence.composing")
_zapi_played = of("zapi", "status.group-played")

_ZAPI_APART = [
    pair("typing twice, in the same bytes", "zapi", _zapi_typing, _zapi_typing),
    pair("closed twice within a second, in the same bytes", "zapi", _zapi_closed, _zapi_closed),
    pair("open, and open again", "zapi", of("zapi", "connected"), of("zapi", "connected", (("momment",), 1763797530581))),
    pair("a placeholder, then the message", "zapi", changed(of("zapi", "received.waiting"), "messageId", to="3AINVENTED01"), _zapi_text),
    pair("two edits under one id", "zapi", _zapi_edit, changed(_zapi_edit, "text", "message", to="Is it open today?")),
    pair("a message, then that it is gone", "zapi", _zapi_text, of("zapi", "received.revoke")),
    pair(
        "a reaction, then another", "zapi", of("zapi", "received.reaction"), of("zapi", "received.reaction", (("reaction", "value"), "?"))
    ),
    pair("received on the phone, and on a computer", "zapi", _zapi_received, changed(_zapi_received, "phoneDevice", to=0)),
    pair("received, then read", "zapi", _zapi_received, changed(_zapi_received, "status", to="READ")),
    pair("read by them, then by us", "zapi", _zapi_read, changed(_zapi_read, "status", to="READ_BY_ME")),
    pair("two listeners in a group", "zapi", _zapi_played, changed(_zapi_played, "participant", to="5511900000003")),
    pair("taken by the servers, told in two callbacks", "zapi", of("zapi", "delivery"), of("zapi", "status.sent")),
    pair(
        "a call, then that it was missed",
        "zapi",
        of("zapi", "received.call", (("notification",), "CALL_VOICE")),
        of("zapi", "received.call"),
    ),
    pair("one id in two chats", "zapi", _zapi_text, changed(changed(_zapi_text, "phone", to="5511900000002"), "chatLid", to=None)),
    pair("two tenants, one id", "zapi", _zapi_text, _zapi_text, tenant_id="bistro", instance_id="bistro-sales"),
]
_ZAPI_SAME = [
    pair(
        "a new URL of the picture, a contact renamed",
        "zapi",
        _zapi_text,
        of("zapi", "received.text", (("photo",), "https://pictures.invalid/ana.jpg?oe=2"), (("senderName",), "Ana B.")),
    ),
    pair("a LID told beside the phone", "zapi", changed(_zapi_text, "chatLid", to=None), _zapi_text),
    pair("a phone with a plus", "zapi", _zapi_received, changed(_zapi_received, "phone", to="+5511900000001")),
    pair("receipts in another order", "zapi", _zapi_read, changed(_zapi_read, "ids", to=["3AINVENTED17", "3AINVENTED04"])),
    pair("keys the other way round, and spaces", "zapi", _zapi_text, rewritten(_zapi_text)),
]

# ─── baileys-acessuswpp ───

_b_text, _b_upsert, _b_several = of("baileys", "message-inbound.text"), of("baileys", "upsert.text"), of("baileys", "upsert.several")
_b_qr, _b_open, _b_edit = of("baileys", "instance.qr"), of("baileys", "instance.open"), of("baileys", "update.edited")
_b_stored, _b_no_id = of("baileys", "stored.message-inbound"), of("baileys", "stored.message-inbound.no-id")
_b_group = of("baileys", "update.group-delivered")
_b_of_several = changed(_b_several, "payload", "raw", "messages", to=[_b_several["payload"]["raw"]["messages"][0]])
_RAW_KEY = ("payload", "raw", "messages", 0, "key")

_BAILEYS_APART = [
    pair("two QR codes", "baileys", _b_qr, changed(_b_qr, "instance", "qrVersion", to=3)),
    pair("open, and open again after a close", "baileys", _b_open, changed(_b_open, "instance", "connectionUpdatedAt", to=1763797599000)),
    pair("open, then logged out, at one time", "baileys", _b_open, of("baileys", "instance.logged-out")),
    pair(
        "what could not be read, then the message",
        "baileys",
        of("baileys", "upsert.waiting", ((*_RAW_KEY, "id"), "3EB0INVENTED01")),
        _b_upsert,
    ),
    pair("changed twice to the same text", "baileys", _b_edit, changed(_b_edit, "timestamp", to=1763797600)),
    pair(
        "two messages without an id that say the same",
        "baileys",
        _b_no_id,
        changed(_b_no_id, "id", to="00000000-0000-4000-8000-000000000099"),
    ),
    pair(
        "delivered, then read",
        "baileys",
        of("baileys", "stored.message-status"),
        of("baileys", "stored.message-status", (("payload", "status"), 4)),
    ),
    pair("nobody says who received, twice", "baileys", _b_group, changed(_b_group, "timestamp", to=1763797540)),
    pair("one id in two chats", "baileys", _b_upsert, changed(_b_upsert, *_RAW_KEY, "remoteJid", to=RUI)),
    pair("one id, another text", "baileys", _b_text, changed(_b_text, "payload", "message", "text", to="Is it still open today?")),
    pair(
        "one id, one text, another second",
        "baileys",
        _b_text,
        changed(_b_text, "payload", "metadata", "timestamp", to="2025-11-22T07:45:39.000Z"),
    ),
    pair("a message, then that it is gone", "baileys", _b_upsert, of("baileys", "update.revoked")),
]
_BAILEYS_SAME = [
    pair("told in the broker's words, then in WhatsApp's", "baileys", _b_text, _b_upsert),
    pair("by webhook, then from the store", "baileys", _b_text, _b_stored),
    pair(
        "from the store, then again when acknowledged",
        "baileys",
        _b_stored,
        changed(changed(_b_stored, "acknowledged", to=True), "delivery", to={"state": "success"}),
    ),
    pair("without an id, read from the store twice", "baileys", _b_no_id, changed(_b_no_id, "acknowledged", to=True)),
    pair("alone, then among others", "baileys", _b_of_several, _b_several),
    pair(
        "a status from the store, then by webhook",
        "baileys",
        of("baileys", "stored.message-status", (("payload", "status"), 4)),
        of("baileys", "update.read"),
    ),
    pair("keys the other way round, and spaces", "baileys", _b_several, rewritten(_b_several)),
]

_OTHERS_APART = [*look_alikes_evolution.APART, *look_alikes_whatsmeow.APART]
_OTHERS_SAME = [*look_alikes_evolution.SAME, *look_alikes_whatsmeow.SAME]

APART = [*_WAHA_APART, *_CLOUD_APART, *_GENERIC_APART, *_GOWA_APART, *_ZAPI_APART, *_BAILEYS_APART, *_OTHERS_APART]
SAME = [*_WAHA_SAME, *_CLOUD_SAME, *_GENERIC_SAME, *_GOWA_SAME, *_ZAPI_SAME, *_BAILEYS_SAME, *_OTHERS_SAME]
