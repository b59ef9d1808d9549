"""What stands under our names in Redis and we cannot read: a newer release's, or put there by hand. Left aside, and told once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog
from redis.exceptions import ResponseError

from worker.adapters.redis_client import Command, RedisClient, translated
from worker.domain.errors import StoreUnavailable

log = structlog.get_logger()

T = TypeVar("T")

TOLD_AT_MOST = 100
SHOWN_CHARACTERS = 64


class Strays:
    """Remembers what has been told, so that each is told once, and no more than a hundred are."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def leave_aside(self, key: str, field: object = "") -> None:
        """`field`: of a hash or set. Its value is nobody's business."""
        stray = key, repr(field)[:SHOWN_CHARACTERS]
        if stray not in self._told and len(self._told) < TOLD_AT_MOST:
            self._told.add(stray)
            log.warning(
                "left_aside",
                key=key,
                field=stray[1],
                cause="this release cannot read what stands there",
                next_step="if no newer release runs beside us, somebody put it there by hand: delete it",
            )


async def exchange_around_strays(client: RedisClient, commands: Sequence[Command]) -> list[Any]:
    """All replies in order, None for each command whose key is of another type. Raises as `RedisClient.exchange` does."""
    replies = await client.exchange(commands, may_fail=len(commands))
    for reply in replies:
        if isinstance(reply, ResponseError) and not is_of_another_type(reply):
            raise translated(reply, client.name) from reply
    return [None if isinstance(reply, ResponseError) else reply for reply in replies]


async def anew(client: RedisClient, key: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Asks; where the key is of another type it is deleted, with a warning each time, and asked again.

    Only for advice that would have ended within seconds: nobody misses it, and left there it would keep workers from each other for ever.
    """
    try:
        return await ask()
    except ResponseError as exc:
        if not is_of_another_type(exc):
            raise
    log.warning("key_of_another_type", key=key, next_step="deleted, and written anew; who puts something else there?")
    await client.call("DEL", key)
    try:
        return await ask()
    except ResponseError as exc:
        if not is_of_another_type(exc):
            raise
        raise StoreUnavailable(f"redis: {key} is of another type again as soon as it was deleted; who puts something else there?") from exc


def is_of_another_type(error: ResponseError) -> bool:
    """Also in the middle of a script's error."""
    return "WRONGTYPE" in str(error)
