"""Whatever value of a body changes, it is another event, but for the values named here. A forgotten one would be a lost event."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.unit.gateway_bodies import body_of, changed, events_of, names_of
from worker.domain.errors import MalformedEvent

DO_NOT_COUNT = {
    "waha": [
        "*:id *:environment.* *:me.pushName *:me.id",
        "message*:payload.ack message*:payload.ackName message.ack:payload.from",  # how far it got; the chat is in its id
        "*:timestamp",  # but for what has no time in its payload
    ],
    "gowa": [
        "*:device_id",  # the session's name stands for it
        "*:payload.from_lid *:payload.chat_lid",  # beside the phone, which counts
        "*:payload.from_name *:payload.sender_display_name flat.*:pushname",
        "message.ack.*:timestamp message.ack.*:payload.receipt_type_description",  # a receipt is its status
        "flat.*:sender_id flat.group-*:chat_id",  # `from` says both
    ],
    "zapi": [
        "received.*:chatLid received.*:participantLid",  # beside the phone, which counts
        "received.*:chatName received.*:senderName received.*:photo received.*:senderPhoto",
        "received.*:connectedPhone",  # the instance stands for it
        "received.from-me:participantPhone received.pin:participantPhone",  # we sent it
        "status.*:momment",  # a receipt is its status
        "status.*:isGroup",  # the chat's id says it
    ],
    "baileys": [
        "*:payload.iid *other-shape:payload.instanceId",  # `instanceId` stands for it
        "upsert.*:payload.messages.* upsert.*:payload.normalized.*",  # copies of what is in `raw`
        "upsert.*:payload.raw.type upsert.*:timestamp update.*read:timestamp update.several:timestamp",  # how and when it was told
        "upsert.*:*.messageTimestamp.high upsert.*:*.messageTimestamp.unsigned",
        "upsert.from-phone:*.broadcast upsert.text:*.broadcast upsert.several:*.broadcast",
        "upsert.from-phone:*.pushName upsert.text:*.pushName upsert.several:*.pushName",
        "*message-*:timestamp poll-choice:timestamp *message-*:payload.timestamp",  # the message has its own
        "*message-*:payload.contact.* *message-*:payload.message.chatId poll-choice:payload.contact.*",  # `remoteJid` counts
        "*message-*:payload.metadata.*",  # but for its time
        "*message-*:payload.message.type *message-inbound.group-image:payload.message.media.*",
        "stored.*:acknowledged stored.*:delivery* stored.*:createdAt stored.*:direction stored.*:sequence",  # the store's own
        "stored.message-inbound:id stored.message-status:id",  # the message's id counts
        "stored.message-status:payload.source stored.message-status:payload.rawStatus",
        "stored.webhook-delivery:* stored.message-inbound.no-id:*",  # the store's id counts, and nothing else
    ],
}
"""`<fixture>:<path>`, with `*`."""
COUNTS = {
    "waha": ["presence.update:timestamp", "state.change:timestamp", "session.status.qr:timestamp"],
    "baileys": [
        "message-*:payload.contact.remoteJid",
        "message-*:payload.metadata.timestamp",
        "stored.message-inbound:payload.contact.remoteJid",
        "stored.message-inbound:payload.metadata.timestamp",
        "stored.webhook-delivery:id",
        "stored.message-inbound.no-id:id",
    ],
}
"""What counts although a pattern above takes it in."""


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list):
        steps = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for step, inner in steps for leaf in leaves_of(inner, (*path, step))]
    return [(path, value)]


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1000 if isinstance(value, int | float) else f"{value or ''}x"


def keys_of(gateway: str, body: Any) -> set[str]:
    try:
        return {event.event_key for event in events_of(gateway, body)}
    except MalformedEvent:
        return set()


@pytest.mark.parametrize(("gateway", "name"), [(gateway, name) for gateway in DO_NOT_COUNT for name in names_of(gateway)])
def test_a_changed_value_is_another_event_unless_it_is_named_here(gateway: str, name: str) -> None:
    body = body_of(gateway, name)
    patterns = " ".join(DO_NOT_COUNT[gateway]).split()
    same = {
        f"{name}:{'.'.join(map(str, path))}"
        for path, value in leaves_of(body)
        if keys_of(gateway, body) == keys_of(gateway, changed(body, *path, to=another(value)))
    }
    assert [place for place in sorted(same) if not any(fnmatchcase(place, pattern) for pattern in patterns)] == []
    assert [place for place in sorted(same) if any(fnmatchcase(place, pattern) for pattern in COUNTS.get(gateway, ()))] == []
