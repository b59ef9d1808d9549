"""Counting calls on Redis: the library's storage over connections of its own, each call bounded, errors in our words.

Beside the three clients of the store, because the library speaks to redis-py: a slow limit delays nothing of the hot path.
"""

from __future__ import annotations

import anyio
from limits.aio.storage import RedisStorage
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError

from worker.adapters import redis_keys
from worker.adapters.counting import SlidingCounts
from worker.domain.errors import StoreFull, StoreUnavailable

COUNT_S = 0.5
"""`api_count`: beyond, the call is let through uncounted."""
CONNECTIONS = 8
CLOSE_WITHIN_S = 1.0


class RedisCallCounts:
    """`CallCounts` under `{wa}:limits:…`. A cancelled call drops its connection."""

    def __init__(self, url: str) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            max_connections=CONNECTIONS,
            timeout=COUNT_S,
            socket_timeout=COUNT_S,
            socket_connect_timeout=COUNT_S,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            driver_info=None,
        )
        # The pool knows the address; the library wants one too, and reads nothing from it.
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=redis_keys.LIMITS,
            connection_pool=self._pool,  # type: ignore[arg-type]  # its stub knows options of the library only
        )
        self._counts = SlidingCounts(storage)

    async def count(self, whose: str, kind: str, *, calls: int, window_s: int) -> float:
        try:
            with anyio.fail_after(COUNT_S):
                return await self._counts.count(whose, kind, calls=calls, window_s=window_s)
        except OutOfMemoryError as exc:
            raise StoreFull("redis: used memory is at maxmemory; calls are not counted") from exc
        except (RedisError, OSError) as exc:  # `TimeoutError` is an `OSError`
            raise StoreUnavailable(f"redis (limits): {type(exc).__name__}; the call may or may not have been counted") from exc

    async def close(self) -> None:
        """Idempotent; at most a second."""
        with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await self._pool.disconnect(inuse_connections=True)
