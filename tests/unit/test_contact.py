"""Whom an event is about."""

from __future__ import annotations

from typing import Any

import pytest

from worker.domain.contact import MAX_NAME_CHARACTERS, ContactKey, Mention, mentioned
from worker.domain.ids import InstanceId

ANA, BOB, LOJA = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net", "5511955555555@s.whatsapp.net"
ANAS_LID, GROUP = "100000000000001@lid", "120363000000000001@g.us"


def told(**fields: Any) -> Mention | None:
    nothing: dict[str, Any] = {
        "instance_id": "sales", "chat_id": None, "chat_aliases": [], "sender_id": None, "sender_aliases": [],
        "from_me": False, "is_group": False, "push_name": None,
    }  # fmt: skip
    return mentioned(nothing | fields)


@pytest.mark.parametrize(
    ("fields", "whom"),
    [
        ({"sender_id": ANA, "chat_id": ANA}, ANA),
        ({"sender_id": ANA, "chat_id": GROUP, "is_group": True}, ANA),
        ({"sender_id": ANAS_LID, "sender_aliases": [ANA], "chat_id": GROUP, "is_group": True}, ANA),
        ({"sender_id": ANAS_LID}, ANAS_LID),
        ({"chat_id": ANA}, ANA),
        ({"from_me": True, "sender_id": LOJA, "chat_id": ANA}, ANA),
        ({"from_me": True, "sender_id": LOJA, "chat_id": ANAS_LID, "chat_aliases": [ANA]}, ANA),
        ({"from_me": True, "sender_id": LOJA, "chat_id": GROUP, "is_group": True}, None),
        ({"from_me": True, "sender_id": LOJA}, None),
        ({"chat_id": GROUP, "is_group": True}, None),
        ({"chat_id": "status@broadcast"}, None),
        ({"sender_id": "120363000000000002@newsletter"}, None),
        ({"chat_id": "made up by `generic`"}, None),
        ({}, None),
    ],
)
def test_it_is_the_person_at_the_other_end_by_number_where_that_is_known(fields: dict[str, Any], whom: str | None) -> None:
    found = told(**fields)
    assert (found and found.key) == (whom and ContactKey(InstanceId("sales"), whom))


def test_a_name_is_the_senders_own_word() -> None:
    assert told(sender_id=ANA, push_name="Ana") == (("sales", ANA), "Ana")
    assert told(from_me=True, chat_id=ANA, push_name="Loja") == (("sales", ANA), None)
    assert told(sender_id=ANA, push_name="") == (("sales", ANA), None)


def test_a_name_has_a_bound() -> None:
    found = told(sender_id=ANA, push_name="a" * 10_000)
    assert found is not None
    assert found.name == "a" * MAX_NAME_CHARACTERS


def test_no_repr_tells_who_it_is() -> None:
    found = told(sender_id=ANA, push_name="Ana")
    assert repr(found) == "<Mention of <ContactKey of sales>>"
