"""How much sessions may have in hand: shared by all, and something sure for each tenant."""

from __future__ import annotations

from worker.domain.ids import TenantId
from worker.websocket.filing import Hands

ACME, BETA = TenantId("acme"), TenantId("beta")


def test_one_tenant_has_its_share_and_no_more() -> None:
    hands = Hands()
    hands.add(ACME, hands.max_tenant_bytes - 1)
    assert hands.has_room(ACME)
    hands.add(ACME, 1)
    assert not hands.has_room(ACME)
    assert hands.has_room(BETA)


def test_however_many_tenants_are_full_another_still_has_room() -> None:
    hands = Hands()
    for number in range(hands.max_bytes // hands.max_tenant_bytes):
        hands.add(TenantId(f"full-{number}"), hands.max_tenant_bytes)
    assert hands.bytes == hands.max_bytes
    assert hands.has_room(ACME)


def test_where_all_is_taken_a_tenant_has_what_is_sure_and_no_more() -> None:
    hands = Hands()
    hands.add(BETA, hands.max_bytes)
    hands.add(ACME, hands.sure_bytes)
    assert not hands.has_room(ACME)
    hands.add(BETA, -hands.max_bytes)
    assert hands.has_room(ACME)


def test_what_was_given_back_leaves_nothing() -> None:
    hands = Hands()
    hands.add(ACME, 5)
    hands.add(ACME, -5)
    assert hands.bytes == 0
    assert not hands._by_tenant  # noqa: SLF001 -- or a tenant that is gone would stay for ever
