"""What looks alike and is not the same is never lost; what differs in bytes and is the same comes once."""

from __future__ import annotations

import pytest

from tests.unit.gateway_bodies import events_of
from tests.unit.look_alike_pairs import Pair, Pushed
from tests.unit.look_alikes import APART, SAME
from worker.gateways import GATEWAYS


def keys_of(gateway: str, pushed: Pushed) -> set[str]:
    filed = {"tenant_id": pushed.tenant_id, "instance_id": pushed.instance_id}
    return {event.event_key for event in events_of(gateway, pushed.body, headers=pushed.headers, **filed)}


def name_of(pair: Pair) -> str:
    return f"{pair.gateway}: {pair.name}"


@pytest.mark.parametrize("pair", APART, ids=name_of)
def test_what_looks_alike_is_kept_apart(pair: Pair) -> None:
    assert keys_of(pair.gateway, pair.first).isdisjoint(keys_of(pair.gateway, pair.second))


@pytest.mark.parametrize("pair", SAME, ids=name_of)
def test_what_is_the_same_is_known_again(pair: Pair) -> None:
    assert pair.first.body != pair.second.body
    assert keys_of(pair.gateway, pair.first) <= keys_of(pair.gateway, pair.second)


def test_every_gateway_has_pairs_of_both_kinds_and_no_name_stands_for_two() -> None:
    assert {pair.gateway for pair in APART} == {pair.gateway for pair in SAME} == set(GATEWAYS)
    assert len({name_of(pair) for pair in (*APART, *SAME)}) == len(APART) + len(SAME)
