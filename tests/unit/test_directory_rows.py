"""Rows of the directory as bytes, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.directory.port import MAX_ROW_BYTES, Kind, RowConflict, kind_of
from worker.directory.rows import DamagedRow, claims_of, decode_row, encode_row
from worker.domain.catalog import Instance, RetiringSecret, Row, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId

ids = st.text(min_size=1, max_size=20)
words = st.text(max_size=30)
some_words = st.lists(words, max_size=3).map(tuple)
maybe = st.none() | words

tenants = st.builds(Tenant, id=ids.map(TenantId), name=words, api_keys_sha256=some_words)
instances = st.builds(
    Instance,
    id=ids.map(InstanceId),
    tenant_id=ids.map(TenantId),
    gateway=words,
    gateway_instance=words,
    name=words,
    broker=maybe,
    ingest_secrets=some_words,
    ingest_verify_token=maybe,
    is_made=st.booleans(),
    created_at=maybe,
)
webhooks = st.builds(
    Webhook,
    id=ids.map(WebhookId),
    tenant_id=ids.map(TenantId),
    url=words,
    instance_ids=st.frozensets(ids.map(InstanceId), max_size=3),
    events=some_words,
    format=st.sampled_from(["normalized", "raw"]),
    ordering=st.sampled_from(["none", "chat"]),
    deadline_s=st.floats(0.1, 30),
    max_in_flight=st.integers(1, 100),
    secrets=some_words,
    retiring=st.lists(st.builds(RetiringSecret, secret=words, until_s=st.floats(0, 2e9)), max_size=2).map(tuple),
    headers=st.dictionaries(words, words, max_size=3),
    enrich_contact=st.booleans(),
    enabled=st.booleans(),
    description=words,
    created_at=maybe,
)
rows: st.SearchStrategy[Row] = st.one_of(tenants, instances, webhooks)
HOOK = Webhook(id=WebhookId("crm"), tenant_id=TenantId("acme"), url="https://crm.example.com", secrets=("whsec_very-secret",))


@given(rows)
def test_every_row_comes_back_as_it_was(row: Row) -> None:
    again = decode_row(kind_of(row), row.id, encode_row(row))
    assert again == row
    assert type(again) is type(row)
    assert encode_row(again) == encode_row(row)


@given(
    rows,
    st.dictionaries(
        st.text(min_size=1).map(lambda name: f"new_{name}"),
        st.integers(-(2**63), 2**64 - 1) | words | st.lists(words, max_size=2),
        max_size=3,
    ),
)
def test_fields_of_a_newer_version_are_left_aside(row: Row, unknown: dict[str, Any]) -> None:
    stored = orjson.loads(encode_row(row)) | unknown | {"v": 2}
    assert decode_row(kind_of(row), row.id, orjson.dumps(stored)) == row


def test_fields_that_an_older_version_did_not_write_have_their_default() -> None:
    assert decode_row(Kind.WEBHOOK, "w", b'{"v":1,"id":"w","tenant_id":"t","url":"u"}') == Webhook(
        id=WebhookId("w"), tenant_id=TenantId("t"), url="u"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"id": "another"},
        {"id": 7},
        {"tenant_id": None},
        {"url": 1},
        {"format": "xml"},
        {"ordering": "random"},
        {"deadline_s": 0},
        {"deadline_s": "10"},
        {"max_in_flight": 0},
        {"enabled": "yes"},
        {"headers": ["a"]},
        {"retiring": [{"secret": "s"}]},
        {"instance_ids": "all"},
    ],
)
def test_a_row_with_a_wrong_value_is_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(DamagedRow):
        decode_row(Kind.WEBHOOK, "crm", orjson.dumps(orjson.loads(encode_row(HOOK)) | change))


@given(st.binary(max_size=200), st.sampled_from(Kind))
def test_bytes_that_are_no_row_are_damaged_and_nothing_else(data: bytes, kind: Kind) -> None:
    with pytest.raises(DamagedRow):
        decode_row(kind, "crm", data)


def test_what_is_said_of_a_damaged_row_holds_nothing_of_it() -> None:
    stored = orjson.loads(encode_row(HOOK)) | {"secrets": [{"whsec_very-secret": "whsec_very-secret"}], "url": ["https://crm.example.com"]}
    with pytest.raises(DamagedRow, match="secrets") as caught:
        decode_row(Kind.WEBHOOK, "crm", orjson.dumps(stored))
    assert "very-secret" not in repr(caught.value)
    assert "example" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_row_has_a_bound() -> None:
    fits = MAX_ROW_BYTES - len(encode_row(HOOK))
    assert len(encode_row(replace(HOOK, description="x" * fits))) == MAX_ROW_BYTES
    with pytest.raises(RowConflict, match="room"):
        encode_row(replace(HOOK, description="x" * (fits + 1)))


def test_tenants_claim_their_keys_and_instances_their_name_at_their_broker() -> None:
    instance = Instance(id=InstanceId("i"), tenant_id=TenantId("t"), gateway="waha", gateway_instance="my phone")
    assert claims_of(Tenant(id=TenantId("t"), api_keys_sha256=("a", "b"))) == ("a", "b")
    assert claims_of(instance) == ()
    assert claims_of(replace(instance, broker="main")) == ("main my phone",)
    assert claims_of(HOOK) == ()
