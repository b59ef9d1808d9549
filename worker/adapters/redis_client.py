"""One door to Redis: connections with a deadline, scripts by their hash, errors in our words. Knows no key and no rule.

redis-py lends its connections (addresses, TLS, authentication, parsing); calls do not go through its client, because there
the library retries, and because here one deadline covers the whole of a call: waiting for a connection, connecting,
sending, every reply. A connection is used again only when every reply of its last call was read: after a timeout, an error of the
line or a cancellation it is dropped, and with it whatever late reply might be mistaken for an answer to the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import anyio
import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from worker.domain.errors import StoreFull, StoreUnavailable

Argument = str | int | float | bytes | memoryview
Command = tuple[Argument, ...]

CLOSE_WITHIN_S = 1.0
_AWAY = ("LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "BUSY")
"""Replies of a server that lives and cannot serve us now. Inside a script's error they stand in the middle of the text."""


class Script:
    """A Lua file of `adapters/lua`, with the files put before it; sent by its hash, loaded where the server forgot it."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, *before: str) -> None:
        lua = files("worker.adapters") / "lua"
        self.name = name
        self.source = "\n".join((lua / f"{part}.lua").read_text(encoding="utf-8") for part in (*before, name))
        self.sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha[:8]}>"

    def call(self, keys: Sequence[str], args: Sequence[Argument]) -> Command:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class RedisClient:
    """A few connections to one server. `name` says in errors whose patience ended; `timeout_s` is that of a whole call.

    At most `max_connections` calls are under way; the others wait their turn within their own deadline. Cancelling a call
    drops its connection; whether the server ran it is unknown.
    """

    def __init__(self, url: str, *, name: str, timeout_s: float, max_connections: int, scripts: Sequence[Script] = ()) -> None:
        self.name = name
        self.timeout_s = timeout_s
        # No timeouts of the library: each would be one more task per write, and none of them bounds a call.
        self._lender = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            driver_info=None,
            decode_responses=False,
        )
        self._scripts = MappingProxyType({script.sha: script for script in scripts})
        self._idle: list[AbstractConnection] = []
        self._max_connections = max_connections
        self._turns = anyio.Semaphore(max_connections, fast_acquire=True)
        self._closed = False

    def __repr__(self) -> str:
        return f"<RedisClient {self.name} {len(self._idle)} idle of {self._max_connections}>"

    async def call(self, *command: Argument, block_s: float = 0.0) -> Any:  # noqa: ANN401 (a reply is what the server says)
        """One command, one reply. `block_s` is how long the server itself may wait; it is added to the deadline."""
        return (await self.exchange([command], block_s=block_s))[0]

    async def exchange(self, commands: Sequence[Command], *, block_s: float = 0.0, may_fail: int = 0) -> list[Any]:
        """All commands in one write on one connection, their replies in order. Raises the first error among them, after reading all.

        `may_fail`: so many of the last may be refused; their errors stand among the replies.
        Raises `StoreUnavailable`, `StoreFull`, and `ResponseError` for what only a bug can provoke (and for `STALE`).
        """
        try:
            with anyio.fail_after(self.timeout_s + block_s):
                async with self._turns:
                    replies = await self._on_one_connection(commands)
        except TimeoutError as exc:
            msg = f"redis ({self.name}): no answer within {self.timeout_s + block_s:g} s; is the server reachable and not overloaded?"
            raise StoreUnavailable(msg) from exc
        except (RedisError, OSError) as exc:
            raise translated(exc, self.name) from exc
        for reply in replies[: len(replies) - may_fail]:
            if isinstance(reply, ResponseError):
                raise translated(reply, self.name) from reply
        return replies

    async def close(self) -> None:
        """Closes every connection; later calls fail. Idempotent; bounded to 1 s, also when cancelled."""
        self._closed = True
        with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):
            while self._idle:
                await self._idle.pop().disconnect()

    async def _on_one_connection(self, commands: Sequence[Command]) -> list[Any]:
        if self._closed:
            raise StoreUnavailable(f"redis ({self.name}): closed; the worker is shutting down")
        connection: AbstractConnection = self._idle.pop() if self._idle else self._lender.make_connection()  # type: ignore[no-untyped-call]
        try:
            replies = await self._converse(connection, commands)
        except BaseException:
            await _drop(connection)  # noqa: ASYNC102 - shielded and bounded inside
            # What ended this one has probably ended those beside it; each would cost another call.
            while self._idle:
                await _drop(self._idle.pop())  # noqa: ASYNC102 - the same
            raise
        if self._closed:
            await _drop(connection)
        else:
            self._idle.append(connection)
        return replies

    async def _converse(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        if not connection.is_connected:
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as exc:
                raise translated(exc, self.name, ran="nothing was sent") from exc
        replies = await _send(connection, commands)
        first = next((i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)), None)
        if first is None:
            return replies
        # A restarted server forgot its scripts. Nothing of such a call ran; what follows it (a WAIT) must come after it again.
        shas = dict.fromkeys(str(command[1]) for command in commands[first:] if command[0] == "EVALSHA")
        loads: list[Command] = [("SCRIPT", "LOAD", self._scripts[sha].source) for sha in shas]
        again = await _send(connection, [*loads, *commands[first:]])
        return [*replies[:first], *again[len(loads) :]]


async def _send(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    # hiredis' stub knows commands of one word only.
    packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]
    await connection.send_packed_command(packed, check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response(disable_decoding=True))
        except ResponseError as exc:
            # An error is a reply like any other: the line is in step, and the replies behind it must be read.
            replies.append(exc)
    return replies


async def _drop(connection: AbstractConnection) -> None:
    with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):
        await connection.disconnect(nowait=True)


def translated(exc: Exception, client: str, *, ran: str = "the call may or may not have run") -> Exception:
    """Ours for what the server's state provokes; what only a bug can provoke stays as it is. `ran`: what is known of the call."""
    text = str(exc)
    if "OOM command not allowed" in text or type(exc).__name__ == "OutOfMemoryError":
        return StoreFull("redis: used memory is at maxmemory; raise it, or let deliveries and dead letters drain")
    if isinstance(exc, ResponseError) and not any(word in text for word in _AWAY):
        return exc
    return StoreUnavailable(f"redis ({client}): {type(exc).__name__}: {text}; {ran}")
