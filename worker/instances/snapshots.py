"""The port of what was last seen of each instance at its broker: one table for all workers, kept over restarts.

Ages are seconds by the store's clock. Each call may be repeated after an unknown outcome. All raise `StoreUnavailable`, `save` also
`StoreFull`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.domain.ids import InstanceId, TenantId
from worker.instances.broker import InstanceStatus

KEPT_S = 30 * 86_400.0
"""A tenant's snapshot is gone so long after it was last saved: nobody has asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An instance as its broker last showed it. `phone_number` digits only; `last_activity` RFC 3339."""

    status: InstanceStatus
    phone_number: str | None = field(default=None, repr=False)
    profile_name: str | None = field(default=None, repr=False)
    last_activity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    sighting: Sighting
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`seen` holds those asked for, as far as they were ever seen. `age_s`: since all were asked for at once; None: never."""

    seen: Mapping[InstanceId, Seen]
    age_s: float | None
    is_empty: bool
    """Nothing of this tenant has ever been seen."""


class Snapshots(Protocol):
    """Save, load, forget."""

    async def save(self, tenant_id: TenantId, seen: Mapping[InstanceId, Sighting], *, whole: bool) -> None:
        """Seen now. `whole`: these are all the tenant has, so the snapshot itself is of now; the others are kept as they are."""
        ...

    async def load(self, tenant_id: TenantId, ids: Collection[InstanceId]) -> Snapshot: ...

    async def forget(self, tenant_id: TenantId, instance_id: InstanceId) -> None:
        """It is deleted; idempotent."""
        ...
