"""The management side: everything the HTTP API offers, collected from engine, store and settings. Wires; decides nothing.

Each slice offers its endpoints as one list; whatever is added here is served, guarded, limited, described and tested like the rest.
"""

from __future__ import annotations

import math
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from worker.adapters.clock import monotonic_s, rfc3339, utc_now, wall_s
from worker.adapters.http_guard import UrlGuard
from worker.api.authentication import Authentication
from worker.api.dead_letters import dead_letter_endpoints
from worker.api.drains import drain_endpoints
from worker.api.endpoints import Endpoint
from worker.api.events import event_endpoints
from worker.api.frame import Frame
from worker.api.instances import Instances, instance_endpoints
from worker.api.instances_creation import Creation, NewWebhooks
from worker.api.limits import CallCounts, Limits, rates
from worker.api.replay import Sources, replay_endpoints
from worker.api.targets import Targets
from worker.api.tenants import tenant_endpoints
from worker.api.webhooks import Defaults, WebhookServices, webhook_endpoints
from worker.api.webhooks_acting import acting_endpoints
from worker.contact_metadata_cache.asking import Asking
from worker.contact_metadata_cache.cache import ContactMetadataCache
from worker.contact_metadata_cache.port import ContactStore
from worker.domain.destinations import Destinations
from worker.domain.ids import EventKey, WebhookId, shard_of
from worker.engine import Engine
from worker.engine import Store as EngineStore
from worker.event_integration.signing import PREFIX as SECRET_PREFIX
from worker.event_integration.trial import Trials
from worker.gateways.identity import fresh_key
from worker.instances.creating import Chance
from worker.instances.idempotency import Idempotency
from worker.instances.naming import ALPHABET
from worker.instances.parts import InstanceParts, Known, Served, Surroundings
from worker.instances.repairing import Clocks as InstanceClocks
from worker.instances.roster import Roster
from worker.instances.snapshots import Snapshots

SECRET_BYTES = 32
"""Of a webhook's signing secret; Standard Webhooks allows 24 to 64."""
WEBHOOK_ID_CHARACTERS = 16


class Store(EngineStore, Protocol):
    """What the API asks beyond the engine."""

    @property
    def call_counts(self) -> CallCounts: ...
    @property
    def contacts(self) -> ContactStore: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def snapshots(self) -> Snapshots: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """What the endpoints need of the settings, each in the unit of its name."""

    shards: int
    admin_key: str | None = field(default=None, repr=False)
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    """Kind of call → `calls/seconds` or `off`."""
    public_url: str | None = None
    deadline_s: float = 10.0
    max_in_flight: int = 8
    destinations: Destinations = Destinations()  # noqa: RUF009 -- frozen
    """Where webhooks may point."""


def open_api(frame: Frame, engine: Engine, store: Store, settings: ManagementSettings, instances: InstanceParts) -> None:
    """From here on the API answers."""
    authentication = Authentication(engine.catalog, engine.registrar, admin_key=settings.admin_key, clock=monotonic_s)
    limits = Limits(store.call_counts, rates(settings.rate_limits), is_known=store.idempotency.knows)
    frame.open(management_endpoints(engine, store, settings, instances), authentication, limits)


def instance_parts(engine: Engine, store: Store, settings: ManagementSettings, brokers: Sequence[Served]) -> InstanceParts:
    """What the instances API is made of; its `repairing.run` is a loop of the process."""
    shards = settings.shards
    around = Surroundings(
        clocks=InstanceClocks(monotonic_s=monotonic_s, age_s=_age_s),
        chance=Chance(text=_random_text, now=lambda: rfc3339(utc_now())),
        unit_random=secrets.SystemRandom().random,
        holders=store.leases.holders,
        owns=lambda instance_id: any(tenure.shard == shard_of(instance_id, shards) for tenure in engine.registry.active()),
        shards=shards,
        public_url=settings.public_url,
    )
    return InstanceParts(Known(catalog=engine.catalog, registrar=engine.registrar), store, brokers, around, engine.metrics)


def contact_cache(engine: Engine, store: Store, brokers: Roster) -> ContactMetadataCache:
    """What webhooks are told of contacts: the engine's, before it runs."""
    metrics = engine.metrics
    asking = Asking(engine.catalog, brokers, monotonic_s, metrics.contact_metadata_cache_fetch_duration.record)
    asking.is_connected = engine.streams.sessions.is_connected
    cache = ContactMetadataCache(store.contacts, asking, monotonic_s, metrics.contact_metadata_cache_lookups)
    cache.is_store_tight = lambda: engine.door.is_store_tight
    return cache


def management_endpoints(
    engine: Engine, store: Store, settings: ManagementSettings, instances: InstanceParts | None = None
) -> list[Endpoint]:
    """All of them, in the order in which they are described. `instances` None: without any broker."""
    parts = instances or instance_parts(engine, store, settings, ())
    targets = Targets(engine.catalog, engine.standing.disabled)
    webhooks = _webhook_services(engine, store, settings)
    sources = Sources(
        past=store.past,
        letters=store.dead_letters,
        shards=settings.shards,
        refused=engine.door.refused,
        wall_ms=lambda: int(wall_s() * 1000),
    )
    return [
        *_instance_endpoints(engine, parts, webhooks),
        *webhook_endpoints(webhooks),
        *acting_endpoints(webhooks),
        *replay_endpoints(sources, targets),
        *event_endpoints(store.past, store.attempts_log, engine.catalog, wall_s),
        *dead_letter_endpoints(store.dead_letters, targets),
        *tenant_endpoints(engine.catalog, engine.registrar),
        *drain_endpoints(store.drain_reports),
    ]


def _webhook_services(engine: Engine, store: Store, settings: ManagementSettings) -> WebhookServices:
    return WebhookServices(
        catalog=engine.catalog,
        registrar=engine.registrar,
        states=store.webhook_states,
        standing=engine.standing,
        attempts_log=store.attempts_log,
        trials=Trials(engine.transport, wall_s=wall_s, received_at=lambda: rfc3339(utc_now()), fresh_key=_fresh_key),
        circuit=lambda webhook_id: engine.bulkheads.circuit(webhook_id)[0],
        objection=UrlGuard(settings.destinations).objection,
        wall_s=wall_s,
        created_at=engine.wall,
        new_id=lambda: WebhookId(f"wh-{_random_text(WEBHOOK_ID_CHARACTERS)}"),
        new_secret=lambda: SECRET_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode(),
        defaults=Defaults(deadline_s=settings.deadline_s, max_in_flight=settings.max_in_flight),
    )


def _fresh_key() -> EventKey:
    return fresh_key(int(wall_s() * 1000), secrets.token_bytes(10))


def _instance_endpoints(engine: Engine, parts: InstanceParts, webhooks: WebhookServices) -> list[Endpoint]:
    made_too = NewWebhooks(defaults=webhooks.defaults, objection=webhooks.objection, new_id=webhooks.new_id, new_secret=webhooks.new_secret)
    handlers = Instances(engine.catalog, parts.listing, parts.single, parts.stages, monotonic_s)
    creation = Creation(engine.catalog, engine.registrar, parts.creating, parts.listing, parts.once, parts.stages, made_too, monotonic_s)
    return instance_endpoints(handlers, creation)


def _age_s(at: str) -> float:
    """Of an RFC 3339 time; infinite for what is none."""
    try:
        return wall_s() - datetime.fromisoformat(at).timestamp()
    except ValueError:
        return math.inf


def _random_text(chars: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(chars))
