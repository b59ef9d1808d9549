"""Pairs of pushes by wuzapi, its forks and evolution-go: which are two events, which are one told twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import orjson

from tests.unit.gateway_bodies import body_of, changed
from tests.unit.look_alike_pairs import Pair, form, pair

GROUP = "120363000000000001@g.us"
RUI = "5511900000002@s.whatsapp.net"
ANA = "5511900000001@s.whatsapp.net"
ANA_LID = "100000000000001@lid"


def _of(name: str, *path: str | int, to: Any) -> Any:
    return changed(body_of("wuzapi", name), *path, to=to)


def _edit(text: str, at_ms: int) -> Any:
    body = _of("message.edited", "event", "Message", "protocolMessage", "editedMessage", "conversation", to=text)
    return changed(body, "event", "Message", "protocolMessage", "timestampMS", to=at_ms)


def _group_receipt(reader: str, author: str) -> Any:
    body = changed(_of("receipt.read", "event", "Chat", to=GROUP), "event", "Sender", to=reader)
    return changed(changed(body, "event", "SenderAlt", to=""), "event", "MessageSender", to=author)


def _without_a_time(name: str) -> Any:
    return _of(name, "event", "Timestamp", to="0001-01-01T00:00:00Z")


MESSAGE = body_of("wuzapi", "message")
TEXT = orjson.dumps(MESSAGE).decode()
AS_FORM = form(urlencode({"jsonData": TEXT, "token": "t"}).encode())

APART: list[Pair] = [
    pair("two tenants, one id", "wuzapi", MESSAGE, MESSAGE, tenant_id="bistro", instance_id="bistro-sales"),
    pair("two instances of a tenant, one id", "wuzapi", AS_FORM, AS_FORM, instance_id="acme-support"),
    pair("composing twice", "wuzapi", body_of("wuzapi", "chat-presence"), body_of("wuzapi", "chat-presence")),
    pair("online, offline, online", "wuzapi", body_of("wuzapi", "presence"), body_of("wuzapi", "presence")),
    pair("open, closed, open", "wuzapi", body_of("wuzapi", "connected"), body_of("wuzapi", "connected")),
    pair("closed, open, closed", "wuzapi", body_of("wuzapi", "disconnected"), body_of("wuzapi", "disconnected")),
    pair("logged out twice", "wuzapi", body_of("wuzapi", "logged-out"), body_of("wuzapi", "logged-out")),
    pair("replaced twice", "wuzapi", body_of("wuzapi", "stream-replaced"), body_of("wuzapi", "stream-replaced")),
    pair("two QR codes that look the same", "wuzapi", body_of("wuzapi", "qr"), body_of("wuzapi", "qr")),
    pair("open twice in one second", "wuzapi", body_of("wuzapi", "fork.connected"), body_of("wuzapi", "fork.connected")),
    pair("undecryptable, then the message", "wuzapi", body_of("wuzapi", "message.undecryptable"), MESSAGE),
    pair("a placeholder, then the message", "wuzapi", _of("message", "event", "Message", to={"placeholderMessage": {"type": 0}}), MESSAGE),
    pair("two edits of one message", "wuzapi", _edit("Open?", 1), _edit("Open today?", 2)),
    pair("an edit back to the first text", "wuzapi", _edit("Open?", 1), _edit("Open?", 3)),
    pair("one id in two chats", "wuzapi", _of("message.group", "event", "Info", "Chat", to="1@g.us"), body_of("wuzapi", "message.group")),
    pair(
        "one id by two people in a group",
        "wuzapi",
        changed(_of("message.group", "event", "Info", "Sender", to=ANA), "event", "Info", "SenderAlt", to=""),
        body_of("wuzapi", "message.group"),
    ),
    pair("one id of ours and of theirs", "wuzapi", MESSAGE, _of("message", "event", "Info", "IsFromMe", to=True)),
    pair("delivered, then read", "wuzapi", _of("receipt.delivered", "event", "Type", to="read"), body_of("wuzapi", "receipt.delivered")),
    pair("read by two in a group", "wuzapi", _group_receipt(ANA, ""), _group_receipt(RUI, "")),
    pair(
        "two authors' messages with one id, read", "wuzapi", _group_receipt(ANA, RUI), _group_receipt(ANA, "5511900000003@s.whatsapp.net")
    ),
    pair(
        "read on another of the reader's devices",
        "wuzapi",
        body_of("wuzapi", "receipt.read"),
        _of("receipt.read", "event", "Sender", to="5511900000001:7@s.whatsapp.net"),
    ),
    pair(
        "one message read, then two",
        "wuzapi",
        _of("receipt.read", "event", "MessageIDs", to=["3EB0INVENTED03"]),
        body_of("wuzapi", "receipt.read"),
    ),
    pair(
        "a receipt with a strange id among its ids",
        "wuzapi",
        _of("receipt.delivered", "event", "MessageIDs", to=["3EB0INVENTED03", {}]),
        body_of("wuzapi", "receipt.delivered"),
    ),
    pair("two notices that tell the year 1", "wuzapi", _without_a_time("picture"), _without_a_time("picture")),
    pair("somebody joins, then another", "wuzapi", body_of("wuzapi", "group-info"), _of("group-info", "event", "Join", to=[RUI])),
    pair("a call, then its end", "wuzapi", body_of("wuzapi", "call-offer"), {**body_of("wuzapi", "call-offer"), "type": "CallTerminate"}),
    pair(
        "a reaction, then it is taken back",
        "wuzapi",
        body_of("wuzapi", "message.reaction"),
        _of("message.reaction", "event", "Message", "reactionMessage", "text", to=""),
    ),
    pair("two messages without an id in one second", "wuzapi", *[_of("message", "event", "Info", "ID", to="")] * 2),
    pair("two codes of evolution-go", "evolution", body_of("evolution", "go.qr"), body_of("evolution", "go.qr")),
    pair("evolution-go opens twice", "evolution", body_of("evolution", "go.connected"), body_of("evolution", "go.connected")),
    pair(
        "sent by the API of evolution-go, and its echo",
        "evolution",
        body_of("evolution", "go.send"),
        {**body_of("evolution", "go.send"), "event": "Message"},
    ),
]

SAME: list[Pair] = [
    pair("as a form and as JSON", "wuzapi", AS_FORM, MESSAGE),
    pair("another escaping of the form", "wuzapi", AS_FORM, form(f"token=t&jsonData={quote(TEXT, safe='')}".encode())),
    pair("other spaces and order of keys", "wuzapi", MESSAGE, orjson.dumps(MESSAGE, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)),
    pair("a token that was changed in between", "wuzapi", MESSAGE, {**MESSAGE, "token": "another"}),
    pair("decrypted at a later attempt", "wuzapi", MESSAGE, _of("message", "event", "RetryCount", to=2)),
    pair(
        "phone number and LID change places",
        "wuzapi",
        MESSAGE,
        changed(
            changed(_of("message", "event", "Info", "Chat", to=ANA_LID), "event", "Info", "Sender", to=ANA_LID),
            "event",
            "Info",
            "SenderAlt",
            to=ANA,
        ),
    ),
    pair(
        "the ids of a receipt in another order",
        "wuzapi",
        body_of("wuzapi", "receipt.read"),
        _of("receipt.read", "event", "MessageIDs", to=["3EB0INVENTED09", "3EB0INVENTED03"]),
    ),
    pair("a fork's later attempt", "wuzapi", body_of("wuzapi", "fork.message"), _of("fork.message", "timestamp", to=1_763_797_599)),
    pair(
        "the media stored at another URL",
        "wuzapi",
        body_of("wuzapi", "message.media"),
        _of("message.media", "s3", "url", to="https://files.invalid/again"),
    ),
    pair(
        "by evolution-go with another token",
        "evolution",
        body_of("evolution", "go.message"),
        {**body_of("evolution", "go.message"), "instanceToken": "t"},
    ),
]
