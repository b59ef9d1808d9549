"""What each part is told of the settings: its slice, in its own words. Nothing is connected here.

A part never sees the settings themselves; who adds a setting to one adds it here.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from worker.adapters.brokers import open_broker
from worker.adapters.ecs import EcsTask
from worker.adapters.sockets import open_connector
from worker.adapters.store_opening import EMBEDDED, StoreChoice
from worker.api.health import Keys
from worker.client_registry.registry import Identity
from worker.domain.destinations import Destinations
from worker.domain.ids import OwnerId, TenantId
from worker.engine import EngineSettings
from worker.event_integration.outcome import RetryPolicy
from worker.ingest.door import RoomLimits
from worker.instances.broker import BrokerConfig
from worker.instances.parts import Served
from worker.management import ManagementSettings
from worker.orchestrator.streams import StreamLimits
from worker.orchestrator.waves import Pace
from worker.processes.seat import Seat
from worker.settings import Settings
from worker.settings.declared import BrokerDeclared
from worker.websocket.port import Connector

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HOST_CHARACTERS = 63


def store_choice(settings: Settings, url: str | None = None) -> StoreChoice:
    """Which store is opened, and how. `url`: of a server that the settings do not name."""
    journal = settings.journal
    return StoreChoice(
        url=url or settings.redis.url,
        data_dir=Path(settings.data_dir),
        shards=settings.registry.shards,
        dedupe_window_s=journal.dedupe_window_s,
        dedupe_max_keys=journal.dedupe_max_keys,
        durability=journal.durability,
        patience_s=settings.startup.wait_s,
    )


def health_keys(settings: Settings) -> Keys:
    """Who may see what the worker shows of itself."""
    http = settings.http
    return Keys(
        on_loopback=http.host in LOOPBACK,
        admin_key=http.admin_key.get_secret_value() if http.admin_key else None,
        metrics_key=http.metrics_key.get_secret_value() if http.metrics_key else None,
    )


def engine_settings(settings: Settings) -> EngineSettings:
    """The engine's slice."""
    journal, delivery, buffer, streams = settings.journal, settings.delivery, settings.buffer, settings.orchestrator
    return EngineSettings(
        shards=settings.registry.shards,
        lease_ttl_s=settings.registry.lease_ttl_s,
        buffer_max_events=buffer.max_events,
        buffer_max_bytes=buffer.max_bytes,
        buffer_min_lane_events=buffer.min_lane_events,
        max_in_flight=delivery.max_in_flight,
        retry=RetryPolicy(schedule_s=tuple(delivery.retry_schedule_s), max_age_s=delivery.max_age_s),
        room=RoomLimits(
            max_events=journal.max_backlog_events, max_bytes=journal.max_backlog_bytes, tenant_share=journal.max_backlog_share_per_tenant
        ),
        disable_after_s=delivery.disable_after_s,
        keep_s=journal.keep_s,
        dead_letters_keep_s=settings.dead_letters.keep_days * 86_400,
        streams=StreamLimits(max_sessions=streams.max_sessions, pace=Pace(per_s=streams.connects_per_s, at_a_time=streams.max_connecting)),
    )


def management_settings(settings: Settings) -> ManagementSettings:
    """The API's slice."""
    admin_key = settings.http.admin_key
    return ManagementSettings(
        shards=settings.registry.shards,
        admin_key=admin_key.get_secret_value() if admin_key is not None else None,
        rate_limits=settings.api.rate_limits.model_dump(),
        public_url=settings.http.public_url,
        deadline_s=settings.delivery.deadline_s,
        max_in_flight=settings.delivery.max_in_flight_per_webhook,
        destinations=allowed_destinations(settings),
    )


def opened_brokers(settings: Settings) -> list[Served]:
    """Those declared, opened: nothing is connected yet."""
    return [
        Served(open_broker(_broker_config(declared)), frozenset(TenantId(tenant_id) for tenant_id in declared.tenant_ids))
        for declared in settings.brokers
    ]


def opened_connectors(settings: Settings) -> dict[str, Connector]:
    """The streams of the brokers that have one, by broker: nothing is connected yet."""
    opened = {declared.id: open_connector(_broker_config(declared)) for declared in settings.brokers}
    return {broker: connector for broker, connector in opened.items() if connector is not None}


def _broker_config(declared: BrokerDeclared) -> BrokerConfig:
    return BrokerConfig(
        id=declared.id,
        gateway=declared.gateway,
        url=declared.url,
        api_key=None if declared.api_key is None else declared.api_key.get_secret_value(),
        timeout_s=declared.timeout_s,
        sockets=declared.sockets,
    )


def allowed_destinations(settings: Settings) -> Destinations:
    """Where webhooks may point; the demo's own sink is on loopback."""
    demo = (ip_network("127.0.0.0/8"),) if settings.demo else ()
    delivery = settings.delivery
    return Destinations(allowed_private=(*delivery.allowed_private_cidrs, *demo), allowed_ports=delivery.allowed_ports)


def first_identity(settings: Settings, seat: Seat, *, is_managed: bool) -> Identity:
    """Who this process is: a host's name, a process id and a random part, so that no two lives are taken for one.

    Siblings have their parent's mark in it.
    """
    task, revision = f"{plain(socket.gethostname())}-{os.getpid()}", settings.registry.revision
    return Identity(
        owner=OwnerId("-".join([task, *([seat.mark] if seat.mark else []), secrets.token_hex(4)])),
        task=task,
        family="",
        revision=revision,
        sole=settings.redis.url == EMBEDDED and not seat.has_parent,
        is_managed=is_managed or revision > 0,
    )


def plain(host: str) -> str:
    """A host may be called anything; our names stand in keys of the store, in offers between workers and in log lines."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", host)[:HOST_CHARACTERS] or "host"


def as_task(me: Identity, task: EcsTask | None) -> Identity:
    """With what ECS says of us, if it does. A revision that somebody set stands."""
    if task is None:
        return me
    return replace(me, task=task.arn, family=task.family, revision=me.revision or task.revision, zone=task.zone)
