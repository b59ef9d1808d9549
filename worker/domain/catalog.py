"""Tenants, instances and webhooks, as declared. Pure values and look-ups; `repr` holds no secret and no URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.domain.ids import InstanceId, TenantId, WebhookId


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    id: TenantId
    api_keys_sha256: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A WhatsApp number at a gateway; `gateway_instance` is the name the gateway uses."""

    id: InstanceId
    tenant_id: TenantId
    gateway: str
    gateway_instance: str
    broker: str | None = None
    ingest_secrets: tuple[str, ...] = field(default=(), repr=False)
    ingest_verify_token: str | None = field(default=None, repr=False)


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
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    enrich_contact: bool = False
    enabled: bool = True


class Catalog:
    """Everything declared, indexed for the two questions of the hot path: whose instance, which webhooks."""

    def __init__(self, tenants: Iterable[Tenant], instances: Iterable[Instance], webhooks: Iterable[Webhook]) -> None:
        self.tenants: dict[TenantId, Tenant] = {t.id: t for t in tenants}
        self.instances: dict[InstanceId, Instance] = {i.id: i for i in instances}
        self.webhooks: dict[WebhookId, Webhook] = {w.id: w for w in webhooks}
        self._by_gateway_name = {(i.tenant_id, i.gateway, i.gateway_instance): i for i in self.instances.values()}
        self._by_instance: dict[InstanceId, tuple[Webhook, ...]] = {}
        by_tenant: dict[TenantId, list[Webhook]] = {}
        for webhook in self.webhooks.values():
            by_tenant.setdefault(webhook.tenant_id, []).append(webhook)
        for instance in self.instances.values():
            mine = by_tenant.get(instance.tenant_id, [])
            self._by_instance[instance.id] = tuple(w for w in mine if not w.instance_ids or instance.id in w.instance_ids)

    def named(self, tenant_id: TenantId, gateway: str, gateway_instance: str) -> Instance | None:
        """The tenant's instance that the gateway calls by this name; never another tenant's."""
        return self._by_gateway_name.get((tenant_id, gateway, gateway_instance))

    def webhooks_of(self, instance_id: InstanceId) -> tuple[Webhook, ...]:
        """The webhooks whose instance filter lets this instance through, in the order of declaration."""
        return self._by_instance.get(instance_id, ())
