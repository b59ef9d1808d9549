"""What was last seen of instances: kept by tenant, aged by the store's clock, never another tenant's."""

from __future__ import annotations

import pytest

from tests.contract.samples import LONG_S, SHORT_S, TENANT, Store, eventually
from worker.domain.ids import InstanceId, TenantId
from worker.instances.broker import InstanceStatus
from worker.instances.snapshots import Seen, Sighting, Snapshot

pytestmark = pytest.mark.anyio

SALES, DESK = InstanceId("acme-sales"), InstanceId("acme-desk")
UP = Sighting(
    status=InstanceStatus.CONNECTED, phone_number="5511900000001", profile_name="Vendas", last_activity="2026-11-22T07:45:38.120Z"
)
DOWN = Sighting(status=InstanceStatus.DISCONNECTED)


def sightings(snapshot: Snapshot) -> dict[InstanceId, Sighting]:
    return {name: seen.sighting for name, seen in snapshot.seen.items()}


async def test_of_a_tenant_never_looked_at_nothing_is_known(store: Store) -> None:
    assert await store.snapshots.load(TENANT, [SALES]) == Snapshot(seen={}, age_s=None, is_empty=True)


async def test_what_was_saved_is_loaded_whole(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP, DESK: DOWN}, whole=True)
    snapshot = await store.snapshots.load(TENANT, [DESK, SALES, InstanceId("nobody")])
    assert sightings(snapshot) == {DESK: DOWN, SALES: UP}
    assert snapshot.age_s is not None
    assert 0 <= snapshot.age_s < LONG_S


async def test_only_what_was_asked_for_is_loaded(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP, DESK: DOWN}, whole=True)
    assert sightings(await store.snapshots.load(TENANT, [SALES])) == {SALES: UP}
    assert not (await store.snapshots.load(TENANT, [])).is_empty


async def test_another_tenant_sees_none_of_it(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP}, whole=True)
    assert (await store.snapshots.load(TenantId("other"), [SALES])).is_empty


async def test_one_that_is_saved_alone_leaves_the_others_and_the_age_of_the_whole(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP}, whole=False)
    await store.snapshots.save(TENANT, {DESK: DOWN}, whole=False)
    snapshot = await store.snapshots.load(TENANT, [SALES, DESK])
    assert sightings(snapshot) == {SALES: UP, DESK: DOWN}
    assert (snapshot.age_s, snapshot.is_empty) == (None, False)


async def test_the_snapshot_of_a_tenant_without_instances_is_one_too(store: Store) -> None:
    await store.snapshots.save(TENANT, {}, whole=True)
    snapshot = await store.snapshots.load(TENANT, [])
    assert snapshot.age_s is not None
    assert not snapshot.is_empty


async def test_each_sighting_and_the_whole_age_by_the_stores_clock(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP, DESK: DOWN}, whole=True)

    async def has_aged() -> bool:
        snapshot = await store.snapshots.load(TENANT, [SALES])
        return snapshot.age_s is not None and snapshot.age_s > SHORT_S

    assert await eventually(has_aged)
    await store.snapshots.save(TENANT, {DESK: UP}, whole=False)
    snapshot = await store.snapshots.load(TENANT, [SALES, DESK])
    assert snapshot.seen[SALES].age_s > SHORT_S
    assert isinstance(snapshot.seen[DESK], Seen)
    assert snapshot.seen[DESK].age_s < snapshot.seen[SALES].age_s


async def test_a_deleted_instance_is_forgotten_as_often_as_one_likes(store: Store) -> None:
    await store.snapshots.save(TENANT, {SALES: UP, DESK: DOWN}, whole=True)
    for _ in range(2):
        await store.snapshots.forget(TENANT, SALES)
    assert sightings(await store.snapshots.load(TENANT, [SALES, DESK])) == {DESK: DOWN}


async def test_thousands_are_saved_in_portions(store: Store) -> None:
    many = {InstanceId(f"i{number}"): UP for number in range(1_201)}
    await store.snapshots.save(TENANT, many, whole=True)
    assert len((await store.snapshots.load(TENANT, list(many))).seen) == 1_201
