"""The twins of what the instances API keeps: same contract suites as `redis_instances`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from worker.adapters.memory_faults import StoreFaults
from worker.domain.ids import InstanceId, TenantId
from worker.instances import idempotency
from worker.instances.idempotency import Beginning, Finished, Holder, Mine, OtherBody, Repeatable, Running
from worker.instances.snapshots import Seen, Sighting, Snapshot


class MemorySnapshots:
    """`Snapshots` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._seen: dict[TenantId, dict[InstanceId, tuple[Sighting, float]]] = {}
        self._whole_at_s: dict[TenantId, float] = {}

    async def save(self, tenant_id: TenantId, seen: Mapping[InstanceId, Sighting], *, whole: bool) -> None:
        await self._faults.reach("snapshot_save")
        now_s = self._clock()
        self._seen.setdefault(tenant_id, {}).update({name: (sighting, now_s) for name, sighting in seen.items()})
        if whole:
            self._whole_at_s[tenant_id] = now_s
        await self._faults.answered("snapshot_save")

    async def load(self, tenant_id: TenantId, ids: Collection[InstanceId]) -> Snapshot:
        await self._faults.reach("snapshot_load")
        now_s, mine, whole_at_s = self._clock(), self._seen.get(tenant_id, {}), self._whole_at_s.get(tenant_id)
        found = {name: Seen(sighting=mine[name][0], age_s=now_s - mine[name][1]) for name in ids if name in mine}
        await self._faults.answered("snapshot_load")
        return Snapshot(seen=found, age_s=None if whole_at_s is None else now_s - whole_at_s, is_empty=not mine and whole_at_s is None)

    async def forget(self, tenant_id: TenantId, instance_id: InstanceId) -> None:
        await self._faults.reach("snapshot_forget")
        self._seen.get(tenant_id, {}).pop(instance_id, None)
        await self._faults.answered("snapshot_forget")


@dataclass(slots=True)
class _Record:
    body_sha256: str
    plan: bytes
    gone_at_s: float
    holder: Holder
    lease_ends_at_s: float
    answer: bytes | None = None


class MemoryIdempotency:
    """`Idempotency` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._records: dict[tuple[TenantId, str], _Record] = {}

    async def begin(self, call: Repeatable, holder: Holder, plan: bytes, *, lease_s: float) -> Beginning:
        await self._faults.reach("once_begin")
        beginning = self._begin(call, holder, plan, lease_s)
        await self._faults.answered("once_begin")
        return beginning

    async def finish(self, call: Repeatable, holder: Holder, answer: bytes) -> bool:
        await self._faults.reach("once_end")
        record = self._found(call.tenant_id, call.key)
        is_ours = record is not None and record.holder == holder
        if record is not None and is_ours and record.answer is None:
            record.answer, record.lease_ends_at_s = answer, 0.0
        await self._faults.answered("once_end")
        return is_ours

    async def leave(self, call: Repeatable, holder: Holder) -> None:
        await self._faults.reach("once_end")
        record = self._found(call.tenant_id, call.key)
        if record is not None and record.holder == holder:
            record.lease_ends_at_s = 0.0
        await self._faults.answered("once_end")

    async def knows(self, tenant_id: TenantId, key: str) -> bool:
        await self._faults.reach("once_knows")
        is_known = self._found(tenant_id, key) is not None
        await self._faults.answered("once_knows")
        return is_known

    def _begin(self, call: Repeatable, holder: Holder, plan: bytes, lease_s: float) -> Beginning:
        now_s, record = self._clock(), self._found(call.tenant_id, call.key)
        if record is None:
            record = _Record(call.body_sha256, plan, now_s + idempotency.KEPT_S, holder, now_s + lease_s)
            self._records[call.tenant_id, call.key] = record
            return Mine(plan)
        if record.body_sha256 != call.body_sha256:
            return OtherBody()
        if record.answer is not None:
            return Finished(record.answer)
        if record.holder != holder and record.lease_ends_at_s > now_s:
            return Running(record.lease_ends_at_s - now_s)
        record.holder, record.lease_ends_at_s = holder, now_s + lease_s
        return Mine(record.plan)

    def _found(self, tenant_id: TenantId, key: str) -> _Record | None:
        record = self._records.get((tenant_id, key))
        if record is not None and record.gone_at_s <= self._clock():
            del self._records[tenant_id, key]
            return None
        return record
