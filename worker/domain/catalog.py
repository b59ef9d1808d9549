"""Tenants, instances and webhooks, as declared in the file or registered at run time. `repr` holds no secret and no URL."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.domain.instants import later


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    id: TenantId
    name: str = ""
    api_keys_sha256: tuple[str, ...] = field(default=(), repr=False)
    """64 lower-case hex digits each; the keys themselves are kept nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A WhatsApp number at a gateway; `gateway_instance` is the name the gateway uses, `name` what its tenant calls it."""

    id: InstanceId
    tenant_id: TenantId
    gateway: str
    gateway_instance: str
    name: str = ""
    broker: str | None = None
    ingest_secrets: tuple[str, ...] = field(default=(), repr=False)
    ingest_verify_token: str | None = field(default=None, repr=False)
    is_made: bool = True
    """False from the row's writing until the broker has confirmed the instance: half-made, and repaired or repeated."""
    created_at: str | None = None
    """RFC 3339, for people."""
    mark: str | None = None
    """Random, of the call that wrote the row: by it a repeated call knows its own row from somebody else's of the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiringSecret:
    """A signing secret that was replaced; it signs beside its successor until then."""

    secret: str = field(repr=False)
    until_s: float
    """Wall clock, seconds since the epoch: a promise made to people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where a tenant wants its events. `instance_ids` empty: all of the tenant. `events` empty: all types."""

    id: WebhookId
    tenant_id: TenantId
    url: str = field(repr=False)
    instance_ids: frozenset[InstanceId] = frozenset()
    events: tuple[str, ...] = ()
    format: str = "normalized"
    ordering: str = "none"
    deadline_s: float = 10.0
    max_in_flight: int = 8
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The first signs first; all sign."""
    retiring: tuple[RetiringSecret, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    enrich_contact: bool = False
    enabled: bool = True
    description: str = ""
    created_at: str | None = None
    """RFC 3339, for people."""
    deleted_at: str | None = None
    """RFC 3339. What was accepted before is still owed to it, and becomes dead letters; nothing else is left of it."""

    def is_for(self, instance_id: InstanceId) -> bool:
        """Whether its instance filter lets this one through."""
        return not self.instance_ids or instance_id in self.instance_ids


OWED_FOR_S = 5.0
"""After a webhook was deleted or disabled, what was accepted counts as before it: clocks of two machines differ, and a dead letter too many
costs less than an event too few."""

Row: TypeAlias = Tenant | Instance | Webhook


class Catalog:
    """Everything known, indexed for the two questions of the hot path: whose instance, which webhooks.

    Lives as long as the worker and changes in place: `put` and `drop` keep the indexes, then tell whoever listens (`on_change`).
    What the file declared is never replaced nor dropped. Changed by the loop's thread only; look-ups may come from any thread.
    """

    def __init__(self, tenants: Iterable[Tenant], instances: Iterable[Instance], webhooks: Iterable[Webhook]) -> None:
        self.tenants: dict[TenantId, Tenant] = {}
        self.instances: dict[InstanceId, Instance] = {}
        self.webhooks: dict[WebhookId, Webhook] = {}
        self.departed: dict[WebhookId, Webhook] = {}
        """Deleted at run time: those to whom something accepted before may still be owed."""
        self._departed_of_tenant: dict[TenantId, dict[WebhookId, tuple[str, Webhook]]] = {}
        """With the instant until which what was accepted is owed."""
        self.on_change: list[Callable[[Row], None]] = []
        """Called after each change with the row as it is now, or was before it was dropped."""
        self._declared: set[tuple[type[Row], str]] = set()
        self._tenant_of_key: dict[str, TenantId] = {}
        self._by_gateway_name: dict[tuple[TenantId, str, str], Instance] = {}
        self._by_instance: dict[InstanceId, tuple[Webhook, ...]] = {}
        self._webhooks_of_tenant: dict[TenantId, dict[WebhookId, Webhook]] = {}
        self._instance_ids: dict[TenantId, list[InstanceId]] = {}
        declared: list[Row] = [*tenants, *instances, *webhooks]
        for row in declared:
            self._store(row)
            self._declared.add((type(row), row.id))

    # -- questions -----------------------------------------------------------------------------------------------------

    def named(self, tenant_id: TenantId, gateway: str, gateway_instance: str) -> Instance | None:
        """The tenant's instance that the gateway calls by this name; never another tenant's."""
        return self._by_gateway_name.get((tenant_id, gateway, gateway_instance))

    def webhooks_of(self, instance_id: InstanceId) -> tuple[Webhook, ...]:
        """The webhooks whose instance filter lets this instance through, in the order they came to be known."""
        found = self._by_instance.get(instance_id)
        if found is None:
            instance = self.instances.get(instance_id)
            if instance is None:
                return ()
            found = self._by_instance[instance_id] = self.webhooks_for(instance.tenant_id, instance_id)
        return found

    def webhooks_for(self, tenant_id: TenantId, instance_id: InstanceId) -> tuple[Webhook, ...]:
        """The tenant's webhooks that let this instance through, also where nobody knows it (yet, or any more): each is looked at."""
        mine = self._webhooks_of_tenant.get(tenant_id, {}).values()
        return tuple(w for w in mine if w.is_for(instance_id))

    def departed_for(self, tenant_id: TenantId, instance_id: InstanceId, accepted_at: str) -> list[Webhook]:
        """The tenant's deleted webhooks that let this instance through and were there when the event was accepted."""
        mine = self._departed_of_tenant.get(tenant_id)
        if not mine:
            return []
        return [w for until, w in mine.values() if accepted_at <= until and w.is_for(instance_id)]

    def tenant_of_key(self, key_sha256: str) -> Tenant | None:
        """Whose API key has this hash. What is looked up is a hash, so the time it takes tells nothing about a key."""
        tenant_id = self._tenant_of_key.get(key_sha256)
        return None if tenant_id is None else self.tenants.get(tenant_id)

    def instances_page(self, tenant_id: TenantId, *, after: str, limit: int) -> list[Instance]:
        """The tenant's instances by id, those behind `after`, at most `limit`. Costs as much for ten thousand as for ten."""
        ids = self._instance_ids.get(tenant_id, [])
        start = bisect_right(ids, after)
        return [self.instances[instance_id] for instance_id in ids[start : start + limit]]

    def instances_of_tenant(self, tenant_id: TenantId) -> int:
        """How many it has."""
        return len(self._instance_ids.get(tenant_id, ()))

    def webhooks_of_tenant(self, tenant_id: TenantId) -> Mapping[WebhookId, Webhook]:
        return self._webhooks_of_tenant.get(tenant_id, {})

    def is_declared(self, row: Row) -> bool:
        """Whether it is the file's: read-only here."""
        return (type(row), row.id) in self._declared

    # -- changes -------------------------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """Adds or replaces a row that is registered at run time; a declared one of this id stays as it is."""
        if not self.is_declared(row):
            self._store(row)
            self._tell(row)

    def drop(self, row: Row) -> None:
        """Forgets a registered row; a declared or unknown one: nothing."""
        if not self.is_declared(row) and self._forget(row):
            self._tell(row)

    def _tell(self, row: Row) -> None:
        for listener in self.on_change:
            listener(row)

    def _store(self, row: Row) -> None:
        self._forget(row)
        if isinstance(row, Tenant):
            self.tenants[row.id] = row
            for key in row.api_keys_sha256:
                self._tenant_of_key[key] = row.id
        elif isinstance(row, Instance):
            self.instances[row.id] = row
            self._by_gateway_name[row.tenant_id, row.gateway, row.gateway_instance] = row
            insort(self._instance_ids.setdefault(row.tenant_id, []), row.id)
        elif row.deleted_at is not None:
            self.departed[row.id] = row
            until = later(row.deleted_at, OWED_FOR_S)
            self._departed_of_tenant.setdefault(row.tenant_id, {})[row.id] = until, row
        else:
            self.webhooks[row.id] = row
            self._webhooks_of_tenant.setdefault(row.tenant_id, {})[row.id] = row
            self._by_instance.clear()

    def _forget(self, row: Row) -> bool:
        if isinstance(row, Tenant):
            return self._forget_tenant(self.tenants.pop(row.id, None))
        if isinstance(row, Instance):
            return self._forget_instance(self.instances.pop(row.id, None))
        return self._forget_webhook(row.id)

    def _forget_webhook(self, webhook_id: WebhookId) -> bool:
        if (gone := self.departed.pop(webhook_id, None)) is not None:
            del self._departed_of_tenant[gone.tenant_id][webhook_id]
        known = self.webhooks.pop(webhook_id, None)
        if known is not None:
            self._webhooks_of_tenant[known.tenant_id].pop(known.id, None)
            self._by_instance.clear()
        return known is not None or gone is not None

    def _forget_tenant(self, known: Tenant | None) -> bool:
        for key in known.api_keys_sha256 if known is not None else ():
            self._tenant_of_key.pop(key, None)
        return known is not None

    def _forget_instance(self, known: Instance | None) -> bool:
        if known is None:
            return False
        name = (known.tenant_id, known.gateway, known.gateway_instance)
        if self._by_gateway_name.get(name) is known:
            del self._by_gateway_name[name]
        ids = self._instance_ids[known.tenant_id]
        del ids[bisect_right(ids, known.id) - 1]
        self._by_instance.pop(known.id, None)
        return True
