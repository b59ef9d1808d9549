"""Names we choose for instances: every broker keeps them as they are, and nobody can choose another's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.ids import NAME_PATTERN, InstanceId, TenantId
from worker.instances.naming import ALPHABET, RANDOM_CHARS, broker_name, own_id, slug, suggested_id

TENANTS = st.from_regex(NAME_PATTERN, fullmatch=True).map(TenantId)
RANDOM = st.text(ALPHABET, min_size=RANDOM_CHARS, max_size=RANDOM_CHARS)
BROKERS_KEEP = r"[a-z0-9_-]{1,54}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vendas São Paulo", "vendas-sao-paulo"),
        ("  --  ", "instance"),
        ("日本", "instance"),
        ("../../etc/passwd", "etc-passwd"),
        ("A" * 50, "a" * 20),
        ("nineteen characters x", "nineteen-characters"),
    ],
)
def test_a_slug_is_plain_and_short(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(TENANTS, st.text(max_size=200), RANDOM)
def test_every_broker_keeps_the_name_as_it_is(tenant: TenantId, name: str, random: str) -> None:
    made = broker_name(tenant, name, random)
    assert re.fullmatch(BROKERS_KEEP, made)
    assert made.endswith(f"-{random}")


@given(st.text(max_size=200), RANDOM)
def test_an_id_made_from_a_name_is_one(name: str, random: str) -> None:
    assert re.fullmatch(NAME_PATTERN, own_id(name, random))


@given(st.from_regex(NAME_PATTERN, fullmatch=True).map(InstanceId), RANDOM, st.integers(0, 200))
def test_a_suggested_id_is_an_id_and_free(taken: InstanceId, random: str, used: int) -> None:
    others: set[InstanceId] = {taken}
    for _ in range(used):
        others.add(suggested_id(taken, lambda one: one not in others, random))
    found = suggested_id(taken, lambda one: one not in others, "z" * RANDOM_CHARS)
    assert re.fullmatch(NAME_PATTERN, found)
    assert found not in others


def test_the_suggestion_is_the_next_number() -> None:
    assert suggested_id(InstanceId("sales"), lambda one: one != "sales-2", "abcdefgh") == "sales-3"
