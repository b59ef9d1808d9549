"""`check`: would this configuration run here, and what can be relied on if it does? Changes nothing, waits for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio

from worker.adapters.http_urls import objection
from worker.adapters.redis_binary import find_redis_binary
from worker.adapters.redis_store import RedisStore, ServerFacts, refuse_unfit
from worker.adapters.store_opening import unreachable
from worker.api.server import MAX_CONNECTIONS
from worker.domain.destinations import Destinations
from worker.domain.errors import StoreUnavailable
from worker.lifecycle import raise_open_files
from worker.settings import Settings
from worker.shutdown import AT_MOST_S, RESERVE_AT_MOST_S, RESERVE_SHARE

KEY_BYTES = 110
"""Measured: what one remembered event_key takes in a Redis hash."""
CLOSE_S = 3
SPARE_FILES = 128
"""Redis connections, the listener, logs, the interpreter's own."""


async def check(settings: Settings) -> Iterator[str]:
    """The report, line by line. Raises `ConfigurationError` and `DependencyUnreachable`."""
    store = _embedded_lines(settings) if settings.redis.is_embedded else server_lines(await _facts(settings.redis.url), settings)
    return iter(
        [
            "settings: valid",
            *store,
            *dedupe_lines(settings),
            *open_files_lines(settings),
            *shutdown_lines(settings),
            *webhook_lines(settings),
        ]
    )


def _embedded_lines(settings: Settings) -> list[str]:
    binary = find_redis_binary()
    version = ".".join(str(part) for part in binary.version)
    return [
        f"store: embedded: {binary.path} ({version}) on {Path(settings.data_dir).absolute()}",
        "durability: appendfsync always: an event that got its 2xx survives a crash of the worker, of Redis and of the machine",
    ]


async def _facts(url: str) -> ServerFacts:
    store = RedisStore(url, shards=1, slot_ms=1, slot_keys=1, replicated=False)
    try:
        return await store.facts()
    except StoreUnavailable as exc:
        raise unreachable(exc) from exc
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await store.close()


def server_lines(facts: ServerFacts, settings: Settings) -> list[str]:
    """Raises `ConfigurationError` where the worker would refuse to start on this server."""
    refuse_unfit(facts, shards=settings.registry.shards)
    limit = f"maxmemory {facts.maxmemory_bytes / 2**20:.0f} MiB" if facts.maxmemory_bytes else "no maxmemory"
    return [
        f"store: Redis {facts.version}, {facts.replicas} replicas, {limit}, eviction policy {facts.maxmemory_policy or 'not readable'}",
        f"durability: {durability(facts)}",
        f"replication: {replication(facts, settings.journal.durability)}",
    ]


def durability(facts: ServerFacts) -> str:
    if facts.is_append_only is None:
        return "not readable here; ask whoever runs this Redis for its append-only settings"
    if not facts.is_append_only:
        return "no append-only file: loses everything accepted since the last snapshot when Redis or its host is killed"
    if facts.appendfsync == "always":
        return "appendfsync always: an event that got its 2xx survives a kill of Redis or its host"
    if facts.appendfsync == "no":
        return "appendfsync no: loses what the system had not written yet when the host is killed"
    known = "appendfsync everysec" if facts.appendfsync == "everysec" else "append-only file, appendfsync not readable"
    return f"{known}: may lose up to 2 s of accepted events when Redis or its host is killed"


def replication(facts: ServerFacts, wanted: str) -> str:
    if wanted == "local" or (wanted == "auto" and not facts.replicas):
        return f"journal.durability {wanted}: a 2xx waits for this server alone"
    if not facts.replicas:
        return "journal.durability replicated: there is no replica, so ingest will answer 503"
    return f"journal.durability {wanted}: a 2xx waits for one replica"


def dedupe_lines(settings: Settings) -> list[str]:
    keys, hours = settings.journal.dedupe_max_keys, settings.journal.dedupe_window_s / 3600
    return [f"duplicates: keys remembered for {hours:g} h, at most {keys:,}: up to {keys * KEY_BYTES / 2**20:,.0f} MiB of Redis memory"]


def open_files_lines(settings: Settings) -> list[str]:
    _, allowed = raise_open_files()
    needed = settings.delivery.max_in_flight + MAX_CONNECTIONS + SPARE_FILES
    line = f"open files: {allowed:,} allowed, at most {needed:,} needed"
    return [line if allowed >= needed else f"{line}; warning: raise the hard limit (ulimit -Hn) or lower delivery.max_in_flight"]


def shutdown_lines(settings: Settings) -> list[str]:
    """When each phase ends at the latest. Phases hand on what they do not use; the last ones keep a reserve."""
    budget_s = settings.shutdown.seconds
    before_reserve_s = budget_s - min(RESERVE_AT_MOST_S, budget_s * RESERVE_SHARE)
    lines = [f"shutdown: {budget_s:g} s from the first signal; the platform kills at {settings.shutdown.stop_timeout_s:g} s"]
    end_s = 0.0
    for phase, at_most_s in AT_MOST_S.items():
        end_s = min(end_s + at_most_s, before_reserve_s if phase in {"prepare", "quiesce", "drain"} else budget_s)
        lines.append(f"  {phase:<9} at most {at_most_s:>3g} s, over by {end_s:>5.1f} s")
    return [*lines, f"  {'exit':<9} what is left, over by {budget_s:>5.1f} s"]


def webhook_lines(settings: Settings) -> list[str]:
    """One warning per webhook whose deliveries cannot work as declared."""
    delivery = settings.delivery
    rule = Destinations(allowed_private=delivery.allowed_private_cidrs, allowed_ports=delivery.allowed_ports)
    lines = [f"declared: {len(settings.tenants)} tenants, {len(settings.instances)} instances, {len(settings.webhooks)} webhooks"]
    objections = ((webhook.id, objection(webhook.url, rule)) for webhook in settings.webhooks)
    return [*lines, *(f"warning: webhook {name}: {why}; its deliveries will end as dead letters" for name, why in objections if why)]
