"""Pairs of pushes by Evolution API: which are two events, which are one told twice."""

from __future__ import annotations

from typing import Any

import orjson

from tests.unit.gateway_bodies import body_of, changed
from tests.unit.look_alike_pairs import Pair, pair

LATER = "2025-11-22T04:45:39.007Z"
GROUP = "120363000000000001@g.us"
RUI = "5511900000002@s.whatsapp.net"
ANA_LID = "100000000000001@lid"
ANA = "5511900000001@s.whatsapp.net"


def _body(name: str) -> Any:
    return body_of("evolution", name)


def _later(name: str) -> Any:
    return {**_body(name), "date_time": LATER}


def _of(name: str, *path: str | int, to: Any) -> Any:
    return changed(_body(name), *path, to=to)


def _edit_at(at_ms: str | None, **envelope: str) -> Any:
    return {**_of("messages.edited", "data", "timestampMs", to=at_ms), **envelope}


def _in_group(name: str) -> Any:
    return _of(name, "data", "remoteJid", to=GROUP)


MESSAGE = _body("messages.upsert")

APART: list[Pair] = [
    pair("open, closed, open", "evolution", _body("connection.open"), _later("connection.open")),
    pair("replaced twice", "evolution", _body("connection.replaced"), _later("connection.replaced")),
    pair("logged out twice", "evolution", _body("logout.instance"), _later("logout.instance")),
    pair("open twice, told without milliseconds", "evolution", *[{**_body("connection.open"), "date_time": "2025-11-22T04:45:38Z"}] * 2),
    pair("two QR codes", "evolution", _body("qrcode.updated"), _of("qrcode.updated", "data", "qrcode", "code", to="2@ANOTHER")),
    pair("one QR code shown again", "evolution", _body("qrcode.updated"), _later("qrcode.updated")),
    pair("composing twice", "evolution", _body("presence.update"), _later("presence.update")),
    pair("composing, told without a time", "evolution", *[{**_body("presence.update"), "date_time": None}] * 2),
    pair(
        "two edits of one message",
        "evolution",
        _edit_at("1"),
        _of("messages.edited", "data", "editedMessage", "conversation", to="Open today?"),
    ),
    pair("an edit back to the first text", "evolution", _edit_at("1"), _edit_at("3")),
    pair("the same, without its own time", "evolution", _edit_at(None), _edit_at(None, date_time=LATER)),
    pair("a placeholder, then the message", "evolution", _body("messages.upsert.placeholder"), MESSAGE),
    pair("not decrypted yet, then the message", "evolution", _body("messages.upsert.waiting"), MESSAGE),
    pair(
        "one id in two chats",
        "evolution",
        _body("messages.upsert.group"),
        _of("messages.upsert.group", "data", "key", "remoteJid", to="1@g.us"),
    ),
    pair(
        "one id by two people in a group",
        "evolution",
        _body("messages.upsert.group"),
        changed(_of("messages.upsert.group", "data", "key", "participant", to=ANA), "data", "key", "participantAlt", to=None),
    ),
    pair(
        "one id of ours and of theirs",
        "evolution",
        _body("messages.upsert.own"),
        _of("messages.upsert.own", "data", "key", "fromMe", to=False),
    ),
    pair("delivered, then read", "evolution", _body("messages.update"), _of("messages.update", "data", "status", to="DELIVERY_ACK")),
    pair(
        "read by a second one in a group", "evolution", _in_group("messages.update"), {**_in_group("messages.update"), "date_time": LATER}
    ),
    pair("gone by an update, and by a deletion", "evolution", _body("messages.update.deleted"), _body("messages.delete")),
    pair("a vote, then another", "evolution", _body("messages.update.votes"), _later("messages.update.votes")),
    pair("sent by its API, and the echo", "evolution", _body("send.message"), {**_body("send.message"), "event": "messages.upsert"}),
    pair(
        "a reaction, then it is taken back",
        "evolution",
        _body("messages.upsert.reaction"),
        _of("messages.upsert.reaction", "data", "message", "reactionMessage", "text", to=""),
    ),
    pair(
        "two messages without an id",
        "evolution",
        *[{**_of("messages.upsert", "data", "key", "id", to=""), "date_time": at} for at in (None, LATER)],
    ),
    pair("a call, then its end", "evolution", _body("call"), _of("call", "data", "status", to="terminate")),
    pair("two changes of one contact", "evolution", _body("contacts.update"), _later("contacts.update")),
    pair("one deletion of two in a body", "evolution", _body("chats.delete"), _of("chats.delete", "data", to=[RUI, ANA])),
]

SAME: list[Pair] = [
    pair("other spaces and order of keys", "evolution", MESSAGE, orjson.dumps(MESSAGE, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)),
    pair("an object and a list of one", "evolution", MESSAGE, {**MESSAGE, "data": [MESSAGE["data"]]}),
    pair("both ways to write the event", "evolution", MESSAGE, {**MESSAGE, "event": "MESSAGES_UPSERT"}),
    pair(
        "a connection in both ways to write it",
        "evolution",
        _body("connection.open"),
        {**_body("connection.open"), "event": "CONNECTION_UPDATE"},
    ),
    pair(
        "by the instance's webhook and the global one",
        "evolution",
        _body("connection.open"),
        {**_body("connection.open"), "destination": "x", "apikey": "y"},
    ),
    pair(
        "phone number and LID change places",
        "evolution",
        MESSAGE,
        changed(_of("messages.upsert", "data", "key", "remoteJid", to=ANA), "data", "key", "remoteJidAlt", to=ANA_LID),
    ),
    pair("by a writer with a new name", "evolution", MESSAGE, _of("messages.upsert", "data", "pushName", to="Ana B.")),
    pair("told again after a restart", "evolution", MESSAGE, {**MESSAGE, "date_time": LATER}),
    pair("acknowledged in between", "evolution", MESSAGE, _of("messages.upsert", "data", "status", to="SERVER_ACK")),
    pair("a receipt told again", "evolution", _body("messages.update"), _later("messages.update")),
    pair("a receipt's status as a number", "evolution", _body("messages.update"), _of("messages.update", "data", "status", to=4)),
    pair(
        "a chat by its older server name",
        "evolution",
        _body("messages.update"),
        _of("messages.update", "data", "remoteJid", to="5511900000001@c.us"),
    ),
    pair("one of two items, alone", "evolution", _of("chats.delete", "data", to=[ANA]), _of("chats.delete", "data", to=ANA)),
]
