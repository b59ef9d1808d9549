"""All ports of the store over one Redis: opens the three clients, checks that this server may be used, wires the parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.exceptions import ResponseError

from worker.adapters import (
    redis_chat_aliases,
    redis_directory,
    redis_handovers,
    redis_instances,
    redis_journal,
    redis_keys,
    redis_leases,
    redis_past,
    redis_retry_queue,
    redis_webhook_states,
)
from worker.adapters.redis_attempts_log import RedisAttemptsLog
from worker.adapters.redis_call_counts import RedisCallCounts
from worker.adapters.redis_chat_aliases import RedisChatAliases
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_contacts import RedisContacts
from worker.adapters.redis_directory import RedisDirectory
from worker.adapters.redis_drain_reports import RedisDrainReports
from worker.adapters.redis_handovers import RedisHandovers
from worker.adapters.redis_instances import RedisIdempotency, RedisSnapshots
from worker.adapters.redis_journal import RedisCheckpoints, RedisJournal
from worker.adapters.redis_leases import RedisLeases, RedisMembership
from worker.adapters.redis_past import RedisDeadLetters, RedisPast
from worker.adapters.redis_resume_points import RedisResumePoints
from worker.adapters.redis_retry_queue import RedisRetryQueue, RedisRoom
from worker.adapters.redis_webhook_states import RedisWebhookStates
from worker.domain.errors import ConfigurationError

LEASE_TIMEOUT_S = 1.0
DATA_TIMEOUT_S = 2.0
BLOCKING_TIMEOUT_S = 2.0
"""Beyond the time that the server was asked to block."""
DATA_CONNECTIONS = 32
LEASE_CONNECTIONS = 8
BLOCKING_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What an operator should know of the server. None: it does not say."""

    version: str
    run_id: str | None
    replicas: int
    maxmemory_bytes: int
    maxmemory_policy: str | None
    is_append_only: bool | None
    appendfsync: str | None
    shards: int | None
    """As the first start fixed them; None: there was none yet."""


def refuse_unfit(facts: ServerFacts, *, shards: int) -> None:
    """Raises `ConfigurationError` where the worker may not use this server, or not with so many shards."""
    if facts.maxmemory_policy not in {None, "noeviction"}:
        why = f"redis maxmemory-policy: {facts.maxmemory_policy}: allowed: noeviction (an evicted lease would mean two owners)"
        raise ConfigurationError([why])
    if facts.shards not in {None, shards}:
        fault = f"registry.shards (WORKER_REGISTRY__SHARDS): {shards}: allowed: {facts.shards}, fixed at the first start of this deployment"
        raise ConfigurationError([fault])


class RedisStore:
    """The bundle that the twin `MemoryStore` mirrors. Made by `open_redis_store`; belongs to one event loop."""

    def __init__(self, url: str, *, shards: int, slot_ms: int, slot_keys: int, replicated: bool) -> None:
        rooms = (
            redis_journal,
            redis_retry_queue,
            redis_chat_aliases,
            redis_leases,
            redis_handovers,
            redis_webhook_states,
            redis_directory,
            redis_instances,
            redis_past,
        )
        scripts = tuple(script for room in rooms for script in room.SCRIPTS)
        self._lease = RedisClient(url, name="lease", timeout_s=LEASE_TIMEOUT_S, max_connections=LEASE_CONNECTIONS, scripts=scripts)
        self._data = RedisClient(url, name="data", timeout_s=DATA_TIMEOUT_S, max_connections=DATA_CONNECTIONS, scripts=scripts)
        self._blocking = RedisClient(
            url, name="blocking", timeout_s=BLOCKING_TIMEOUT_S, max_connections=BLOCKING_CONNECTIONS, scripts=scripts
        )
        self.journal = RedisJournal(self._data, self._blocking, slot_ms=slot_ms, slot_keys=slot_keys, replicated=replicated)
        self.checkpoints = RedisCheckpoints(self._data)
        self.retry_queue = RedisRetryQueue(self._data)
        self.chat_aliases = RedisChatAliases(self._data)
        self.dead_letters = RedisDeadLetters(self._data, shards=shards)
        self.past = RedisPast(self._data, shards=shards)
        self.room = RedisRoom(self._data)
        self.webhook_states = RedisWebhookStates(self._data)
        self.attempts_log = RedisAttemptsLog(self._data)
        self.snapshots = RedisSnapshots(self._data)
        self.idempotency = RedisIdempotency(self._data)
        self.contacts = RedisContacts(self._data)
        self.directory = RedisDirectory(self._data, self._blocking)
        self.drain_reports = RedisDrainReports(self._data)
        self.resume_points = RedisResumePoints(self._data, shards=shards)
        self.call_counts = RedisCallCounts(url)
        self.leases = RedisLeases(self._lease)
        self.membership = RedisMembership(self._lease, self._blocking)
        self.handovers = RedisHandovers(self._lease)

    async def facts(self) -> ServerFacts:
        """Asks the server; what it hides (managed services forbid `CONFIG`) is None."""
        text = (await self._data.call("INFO")).decode()
        fixed = await self._data.call("HGET", redis_keys.CONFIG, "shards")
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return ServerFacts(
            version=info["redis_version"],
            run_id=info.get("run_id"),
            replicas=int(info.get("connected_slaves", 0)),
            maxmemory_bytes=int(info.get("maxmemory", 0)),
            maxmemory_policy=info.get("maxmemory_policy"),
            is_append_only=info["aof_enabled"] == "1" if "aof_enabled" in info else None,
            appendfsync=await self._configured("appendfsync"),
            shards=None if fixed is None else int(fixed),
        )

    async def ensure_config(self, *, shards: int) -> None:
        """Fixes the number of shards at the first start ever. Raises `ConfigurationError` when this server cannot be used as configured."""
        facts = await self.facts()
        refuse_unfit(facts, shards=shards)
        if facts.shards is None:
            await self._data.call("HSETNX", redis_keys.CONFIG, "shards", shards)
            refuse_unfit(await self.facts(), shards=shards)  # another first start may have been faster

    async def close(self) -> None:
        """Idempotent; at most a second per client."""
        for client in (self.call_counts, self._blocking, self._data, self._lease):
            await client.close()

    async def _configured(self, name: str) -> str | None:
        try:
            answer = await self._data.call("CONFIG", "GET", name)
        except ResponseError:
            return None
        return answer[1].decode() if answer else None


@asynccontextmanager
async def open_redis_store(
    url: str,
    *,
    shards: int,
    dedupe_window_s: float = 21_600.0,
    dedupe_max_keys: int = 5_000_000,
    replicated: bool | None = False,
) -> AsyncIterator[RedisStore]:
    """A store that may be used: the server answers, evicts nothing and knows as many shards. `dedupe_max_keys` is over all shards.

    `replicated`: an append waits for one replica; None: where there is one now.

    Raises `ConfigurationError`, `StoreUnavailable`.
    """
    store = RedisStore(
        url,
        shards=shards,
        slot_ms=max(1, round(dedupe_window_s * 1000 / (redis_keys.RING_SLOTS - 1))),
        slot_keys=max(1, dedupe_max_keys // shards // redis_keys.RING_SLOTS),
        replicated=replicated is True,
    )
    try:
        await store.ensure_config(shards=shards)
        if replicated is None:
            store.journal.replicated = (await store.facts()).replicas > 0
        yield store
    finally:
        await store.close()  # noqa: ASYNC102 - shielded and bounded inside
