"""What the instances API keeps on Redis: snapshots, and the records of `Idempotency-Key` (docs/architecture.md "The store")."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice

import orjson

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient, Script
from worker.domain.ids import InstanceId, TenantId
from worker.instances import idempotency, snapshots
from worker.instances.broker import InstanceStatus
from worker.instances.idempotency import Beginning, Finished, Holder, Mine, OtherBody, Repeatable, Running
from worker.instances.snapshots import Seen, Sighting, Snapshot

SNAPSHOT_SAVE = Script("snapshot_save", "clock")
ONCE_BEGIN = Script("once_begin", "clock")
ONCE_END = Script("once_end")
SCRIPTS = (SNAPSHOT_SAVE, ONCE_BEGIN, ONCE_END)

SAVED_AT_ONCE = 500
"""Instances in one call: a script holds up everybody."""
_STATUSES = {member.value: member for member in InstanceStatus}


class RedisSnapshots:
    """`Snapshots` over `{wa}:snapshot:<tenant>`: `i:<instance>` → `<ms> <JSON>`, and `whole` → ms."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def save(self, tenant_id: TenantId, seen: Mapping[InstanceId, Sighting], *, whole: bool) -> None:
        key, kept_ms = redis_keys.snapshot(tenant_id), round(snapshots.KEPT_S * 1000)
        left = iter(seen.items())
        while pairs := [part for name, sighting in islice(left, SAVED_AT_ONCE) for part in (name, _written(sighting))]:
            await self._data.call(*SNAPSHOT_SAVE.call((key,), (0, kept_ms, *pairs)))
        if whole:
            await self._data.call(*SNAPSHOT_SAVE.call((key,), (1, kept_ms)))

    async def load(self, tenant_id: TenantId, ids: Collection[InstanceId]) -> Snapshot:
        key = redis_keys.snapshot(tenant_id)
        fields = [f"i:{instance_id}" for instance_id in ids]
        time, size, values = await self._data.exchange([("TIME",), ("HLEN", key), ("HMGET", key, "whole", *fields)])
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        whole, *found = values
        read = {name: _read(value, now_ms) for name, value in zip(ids, found, strict=True) if value is not None}
        age_s = None if whole is None else max(0.0, (now_ms - int(whole)) / 1000)
        return Snapshot(seen={name: seen for name, seen in read.items() if seen is not None}, age_s=age_s, is_empty=size == 0)

    async def forget(self, tenant_id: TenantId, instance_id: InstanceId) -> None:
        await self._data.call("HDEL", redis_keys.snapshot(tenant_id), f"i:{instance_id}")


def _written(sighting: Sighting) -> bytes:
    return orjson.dumps([sighting.status.value, sighting.phone_number, sighting.profile_name, sighting.last_activity])


def _read(value: bytes, now_ms: int) -> Seen | None:
    """None for what another version may have written: not seen."""
    at_ms, _, text = value.partition(b" ")
    match orjson.loads(text):
        case [str(status), phone_number, profile_name, last_activity] if status in _STATUSES:
            sighting = Sighting(status=_STATUSES[status], phone_number=phone_number, profile_name=profile_name, last_activity=last_activity)
            return Seen(sighting=sighting, age_s=max(0.0, (now_ms - int(at_ms)) / 1000))
        case _:
            return None


class RedisIdempotency:
    """`Idempotency` over `{wa}:once:<tenant>:<SHA-256 of the key>`: `body`, `plan`, `holder`, `until`, and at the end `answer`."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def begin(self, call: Repeatable, holder: Holder, plan: bytes, *, lease_s: float) -> Beginning:
        kept_ms = round(idempotency.KEPT_S * 1000)
        args = (call.body_sha256, holder, round(lease_s * 1000), kept_ms, plan)
        match await self._data.call(*ONCE_BEGIN.call((redis_keys.once(call.tenant_id, call.key),), args)):
            case [b"mine", plan]:
                return Mine(plan)
            case [b"running", left_ms]:
                return Running(int(left_ms) / 1000)
            case [b"finished", answer]:
                return Finished(answer)
            case _:
                return OtherBody()

    async def finish(self, call: Repeatable, holder: Holder, answer: bytes) -> bool:
        return bool(await self._data.call(*ONCE_END.call((redis_keys.once(call.tenant_id, call.key),), (holder, answer))))

    async def leave(self, call: Repeatable, holder: Holder) -> None:
        await self._data.call(*ONCE_END.call((redis_keys.once(call.tenant_id, call.key),), (holder,)))

    async def knows(self, tenant_id: TenantId, key: str) -> bool:
        return bool(await self._data.call("EXISTS", redis_keys.once(tenant_id, key)))
