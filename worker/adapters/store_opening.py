"""Opening the store: the embedded server or somebody's, tried until it answers or patience ends; says why every 10 s."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import structlog

from worker.adapters.embedded_redis import EmbeddedRedis, embedded_redis
from worker.adapters.redis_store import RedisStore, open_redis_store
from worker.domain.errors import DependencyUnreachable, StoreUnavailable
from worker.lifecycle import monotonic_s

log = structlog.get_logger("worker.store")

EMBEDDED = "embedded"
OPEN_AGAIN_S = 1.0
SAY_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChoice:
    """Which store, and how it remembers. `durability`: auto, local or replicated."""

    url: str = field(repr=False)
    data_dir: Path
    shards: int
    dedupe_window_s: float
    dedupe_max_keys: int
    durability: str
    patience_s: float


@asynccontextmanager
async def opened_store(choice: StoreChoice) -> AsyncIterator[RedisStore]:
    """The store, once it answers. Raises `ConfigurationError`, `DependencyUnreachable` after `patience_s`."""
    async with AsyncExitStack() as stack:
        url = choice.url
        if url == EMBEDDED:
            server = await stack.enter_async_context(_supervised(choice.data_dir))
            url = server.url
        give_up_at_s = monotonic_s() + choice.patience_s
        said_at_s = float("-inf")
        store = None
        while store is None:
            try:
                store = await stack.enter_async_context(_store(url, choice))
            except StoreUnavailable as exc:
                now_s = monotonic_s()
                if now_s >= give_up_at_s:
                    raise unreachable(exc) from exc
                if now_s - said_at_s >= SAY_AGAIN_S:
                    log.warning(
                        "store_not_reached", cause=str(exc), next_step="tried again each second", gives_up_in_s=round(give_up_at_s - now_s)
                    )
                    said_at_s = now_s
                await anyio.sleep(OPEN_AGAIN_S)
        yield store


def unreachable(why: StoreUnavailable) -> DependencyUnreachable:
    """What the operator is told once nobody waits any longer."""
    return DependencyUnreachable(f"{why}; start it, or correct redis.url (WORKER_REDIS__URL)")


@asynccontextmanager
async def _store(url: str, choice: StoreChoice) -> AsyncIterator[RedisStore]:
    is_replicated = choice.durability == "replicated"
    if choice.durability == "auto":
        async with _opened(url, choice, replicated=False) as store:
            is_replicated = (await store.facts()).replicas > 0
    async with _opened(url, choice, replicated=is_replicated) as store:
        log.info("store_opened", durability="replicated" if is_replicated else "local")
        yield store


@asynccontextmanager
async def _opened(url: str, choice: StoreChoice, *, replicated: bool) -> AsyncIterator[RedisStore]:
    async with open_redis_store(
        url,
        shards=choice.shards,
        dedupe_window_s=choice.dedupe_window_s,
        dedupe_max_keys=choice.dedupe_max_keys,
        replicated=replicated,
    ) as store:
        yield store


@asynccontextmanager
async def _supervised(data_dir: Path) -> AsyncIterator[EmbeddedRedis]:
    """The embedded server, started again when it dies alone, for as long as the block lasts."""
    async with embedded_redis(data_dir) as server, anyio.create_task_group() as watch:
        watch.start_soon(server.supervise)
        yield server
        watch.cancel_scope.cancel()
