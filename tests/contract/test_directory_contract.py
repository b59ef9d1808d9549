"""The directory: rows registered at run time, seen by all, kept over restarts (contract 5, issue 5)."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from tests.contract.samples import Store
from worker.directory.port import Change, Changes, Directory, Kind, Revision, RowConflict, Stored
from worker.domain.catalog import Instance, RetiringSecret, Row, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId

pytestmark = pytest.mark.anyio

NEW = Revision(0)
AT_ONCE_S = 0.05
ACME, BETA = TenantId("acme"), TenantId("beta")
KEY, OTHER_KEY = "a" * 64, "b" * 64
TENANT = Tenant(id=ACME, name="Acme Ltda ção", api_keys_sha256=(KEY,))
INSTANCE = Instance(
    id=InstanceId("sales"),
    tenant_id=ACME,
    gateway="waha",
    gateway_instance="acme-sales-x7",
    broker="main",
    ingest_secrets=("s1", "s2"),
    is_made=False,
    created_at="2026-11-22T10:00:00.000Z",
)
WEBHOOK = Webhook(
    id=WebhookId("crm"),
    tenant_id=ACME,
    url="https://crm.example.com/hooks",
    instance_ids=frozenset({InstanceId("sales"), InstanceId("support")}),
    events=("message", "receipt/*"),
    format="raw",
    ordering="chat",
    deadline_s=2.5,
    max_in_flight=3,
    secrets=("whsec_c2VjcmV0",),
    retiring=(RetiringSecret(secret="whsec_b2xk", until_s=1_763_790_000.5),),
    headers={"authorization": "Bearer x"},
    enrich_contact=True,
    enabled=False,
    description='quotes " and \\ and \n',
)


async def conflict(directory: Directory, row: Row, expected: Revision = NEW) -> str:
    with pytest.raises(RowConflict) as caught:
        await directory.put(row, expected=expected)
    return caught.value.what


async def news(directory: Directory, after: Revision) -> Changes:
    changes = await directory.changes(after, wait_s=AT_ONCE_S)
    assert changes is not None
    return changes


@pytest.mark.parametrize(("kind", "row"), [(Kind.TENANT, TENANT), (Kind.INSTANCE, INSTANCE), (Kind.WEBHOOK, WEBHOOK)])
async def test_a_row_comes_back_as_it_was_written(store: Store, kind: Kind, row: Row) -> None:
    assert await store.directory.find(kind, row.id) is None
    revision = await store.directory.put(row, expected=NEW)
    assert 0 < revision < 2**53
    assert await store.directory.find(kind, row.id) == Stored(row, revision)
    assert (await store.directory.everything()).rows == [Stored(row, revision)]


async def test_kinds_do_not_share_their_ids(store: Store) -> None:
    same: list[Row] = [replace(TENANT, id=TenantId("x")), replace(INSTANCE, id=InstanceId("x")), replace(WEBHOOK, id=WebhookId("x"))]
    for row in same:
        await store.directory.put(row, expected=NEW)
    assert {stored.row for stored in (await store.directory.everything()).rows if isinstance(stored.row, Tenant)} == {same[0]}
    assert len((await store.directory.everything()).rows) == 3


async def test_only_who_has_read_the_last_revision_may_change_a_row(store: Store) -> None:
    first = await store.directory.put(WEBHOOK, expected=NEW)
    second = await store.directory.put(replace(WEBHOOK, description="second"), expected=first)
    assert second > first
    assert await conflict(store.directory, replace(WEBHOOK, description="third"), first) == "revision"
    assert await conflict(store.directory, replace(WEBHOOK, description="new"), NEW) == "id"
    assert await store.directory.find(Kind.WEBHOOK, "crm") == Stored(replace(WEBHOOK, description="second"), second)


async def test_a_row_that_is_gone_cannot_be_changed_only_written_anew(store: Store) -> None:
    first = await store.directory.put(WEBHOOK, expected=NEW)
    assert await store.directory.remove(Kind.WEBHOOK, "crm", ACME) > first
    assert await conflict(store.directory, replace(WEBHOOK, description="edited"), first) == "revision"
    assert await store.directory.put(WEBHOOK, expected=NEW) > first


async def test_a_repeat_answers_as_the_first_did(store: Store) -> None:
    """The answer to a write may get lost; who asks again must not be told that somebody was faster."""
    first = await store.directory.put(INSTANCE, expected=NEW)
    assert await store.directory.put(INSTANCE, expected=NEW) == first
    edited = replace(INSTANCE, is_made=True)
    second = await store.directory.put(edited, expected=first)
    assert await store.directory.put(edited, expected=first) == second
    assert (await news(store.directory, first)).upto == second


async def test_removing_says_whether_there_was_one_and_spares_other_tenants(store: Store) -> None:
    await store.directory.put(WEBHOOK, expected=NEW)
    assert not await store.directory.remove(Kind.WEBHOOK, "crm", BETA)
    assert not await store.directory.remove(Kind.WEBHOOK, "erp", ACME)
    assert await store.directory.remove(Kind.WEBHOOK, "crm", ACME)
    assert not await store.directory.remove(Kind.WEBHOOK, "crm", ACME)
    assert await store.directory.find(Kind.WEBHOOK, "crm") is None
    await store.directory.put(TENANT, expected=NEW)
    assert await store.directory.remove(Kind.TENANT, ACME, None)


# -- claims ------------------------------------------------------------------------------------------------------------


async def test_nobody_gets_a_session_that_another_instance_has_at_the_broker(store: Store) -> None:
    await store.directory.put(INSTANCE, expected=NEW)
    thief = replace(INSTANCE, id=InstanceId("mine"), tenant_id=BETA)
    assert await conflict(store.directory, thief) == "name"
    await store.directory.put(replace(thief, broker="other"), expected=NEW)
    for name in ("pushes-only", "too"):  # without a broker a name means nothing
        await store.directory.put(replace(thief, id=InstanceId(name), broker=None), expected=NEW)
    assert await store.directory.find(Kind.INSTANCE, "mine") is not None


async def test_a_name_is_free_again_once_its_instance_is_gone_or_goes_by_another(store: Store) -> None:
    revision = await store.directory.put(INSTANCE, expected=NEW)
    heir = replace(INSTANCE, id=InstanceId("heir"), tenant_id=BETA)
    renamed = replace(INSTANCE, gateway_instance="another")
    revision = await store.directory.put(renamed, expected=revision)
    await store.directory.put(heir, expected=NEW)
    assert await conflict(store.directory, INSTANCE, revision) == "name"
    await store.directory.remove(Kind.INSTANCE, "heir", BETA)
    assert await store.directory.put(INSTANCE, expected=revision) > revision


async def test_a_key_finds_its_tenant_while_the_tenant_has_it(store: Store) -> None:
    revision = await store.directory.put(TENANT, expected=NEW)
    assert await store.directory.find_tenant_of_key(KEY) == Stored(TENANT, revision)
    assert await store.directory.find_tenant_of_key(OTHER_KEY) is None
    assert await conflict(store.directory, Tenant(id=BETA, api_keys_sha256=(OTHER_KEY, KEY))) == "key"
    rotated = replace(TENANT, api_keys_sha256=(OTHER_KEY,))
    revision = await store.directory.put(rotated, expected=revision)
    assert await store.directory.find_tenant_of_key(KEY) is None
    assert await store.directory.find_tenant_of_key(OTHER_KEY) == Stored(rotated, revision)
    await store.directory.remove(Kind.TENANT, ACME, None)
    assert await store.directory.find_tenant_of_key(OTHER_KEY) is None


# -- what has changed --------------------------------------------------------------------------------------------------


async def test_changes_tell_the_rows_as_they_are_now_in_the_order_of_their_last_change(store: Store) -> None:
    start = (await store.directory.everything()).upto
    first = await store.directory.put(WEBHOOK, expected=NEW)
    other = await store.directory.put(TENANT, expected=NEW)
    second = await store.directory.put(replace(WEBHOOK, description="now"), expected=first)
    instance = await store.directory.put(INSTANCE, expected=NEW)
    gone = await store.directory.remove(Kind.INSTANCE, INSTANCE.id, ACME)
    assert first < other < second < instance < gone
    assert await news(store.directory, start) == Changes(
        [
            Change(Kind.TENANT, ACME, TENANT, other),
            Change(Kind.WEBHOOK, "crm", replace(WEBHOOK, description="now"), second),
            Change(Kind.INSTANCE, "sales", None, gone),
        ],
        gone,
    )
    assert (await store.directory.everything()).upto == gone


async def test_a_follower_who_waits_is_told_at_once(store: Store) -> None:
    start = await store.directory.put(TENANT, expected=NEW)
    told: list[Changes | None] = []

    async def follow() -> None:
        told.append(await store.directory.changes(start, wait_s=4.0))

    with anyio.fail_after(2.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            revision = await store.directory.put(WEBHOOK, expected=NEW)
    assert told == [Changes([Change(Kind.WEBHOOK, "crm", WEBHOOK, revision)], revision)]


async def test_where_nothing_happens_the_wait_ends_and_says_so(store: Store) -> None:
    assert list((await news(store.directory, NEW)).changes) == []
    start = await store.directory.put(TENANT, expected=NEW)
    assert list((await news(store.directory, start)).changes) == []
    assert (await news(store.directory, start)).upto == start


async def test_a_store_that_has_lost_what_was_followed_says_read_everything(store: Store) -> None:
    last = await store.directory.put(TENANT, expected=NEW)
    assert await store.directory.changes(Revision(last + 7), wait_s=AT_ONCE_S) is None


# -- bounds and restarts -----------------------------------------------------------------------------------------------


async def test_a_row_of_any_size_is_not_written(store: Store) -> None:
    assert await conflict(store.directory, replace(WEBHOOK, description="x" * (256 << 10))) == "room"
    assert await store.directory.find(Kind.WEBHOOK, "crm") is None


async def test_many_rows_are_read_in_portions_and_none_is_missing(store: Store) -> None:
    hooks = [replace(WEBHOOK, id=WebhookId(f"w{n}")) for n in range(700)]
    for hook in hooks:
        await store.directory.put(hook, expected=NEW)
    everything = await store.directory.everything()
    assert sorted(stored.row.id for stored in everything.rows) == sorted(hook.id for hook in hooks)
    followed: set[str] = set()
    after = NEW
    while (changes := await news(store.directory, after)).changes:
        followed.update(change.id for change in changes.changes)
        after = changes.upto
    assert followed == {hook.id for hook in hooks}
    assert after == everything.upto


async def test_an_id_is_kept_for_its_tenant(store: Store) -> None:
    assert await store.directory.reserved_for("sales") is None
    await store.directory.reserve("sales", ACME)
    assert await store.directory.reserved_for("sales") == ACME
    assert await store.directory.reserved_for("support") is None
