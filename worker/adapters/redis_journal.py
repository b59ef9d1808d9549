"""The journal on Redis Streams, and its fenced checkpoints. One stream entry per segment; the scripts hold the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from worker.adapters.redis_client import Argument, Command, RedisClient, Script
from worker.adapters.redis_keys import ShardKeys
from worker.domain.errors import StaleToken, StoreUnavailable
from worker.domain.ids import Position, Shard, Token, WebhookId
from worker.journal.port import Appended, Checkpoint, Done, Doubt, NewEvent, Progress, Segment

APPEND = Script("append", "clock")
LOAD = Script("load", "clock", "fence")
MARK_READING = Script("mark_reading", "clock", "fence")
CHECKPOINT = Script("checkpoint", "clock", "fence")
TRIM = Script("trim", "clock", "fence")
RECOUNT_WALK = Script("recount_walk")
RECOUNT_APPLY = Script("recount_apply", "clock", "fence")
SCRIPTS = (APPEND, LOAD, MARK_READING, CHECKPOINT, TRIM, RECOUNT_WALK, RECOUNT_APPLY)

BLOCK_AT_MOST_S = 4.0
MARK_EVERY_MS = 10_000
MARKS_AT_MOST = 30_000
"""83 hours of marks: longer than anything waits, and a bound where nothing is ever trimmed."""
TRIM_SEGMENTS = 1_000
WALK_SEGMENTS = 32
SEGMENT_EVENTS = 256
REPLICA_WITHIN_MS = 1_000
_LAST = "-18446744073709551615"


class RedisJournal:
    """`Journal` over one stream per shard. Not to be shared between event loops.

    `replicated`: an append is durable only when one replica has it; may be switched between calls. The cursor belongs to the
    caller; what is kept here is only which positions are known to begin a segment, so that the usual read asks one question.
    """

    def __init__(self, data: RedisClient, blocking: RedisClient, *, slot_ms: int, slot_keys: int, replicated: bool) -> None:
        self._data = data
        self._blocking = blocking
        self._ring_args = (slot_ms, slot_keys)
        self.replicated = replicated
        self._keys: dict[Shard, ShardKeys] = {}
        self._streams: dict[bytes, Shard] = {}
        self._boundary: dict[Shard, Position] = {}

    async def append(self, shard: Shard, events: Sequence[NewEvent]) -> list[Appended]:
        is_replicated = self.replicated
        args: list[Argument] = [*self._ring_args, int(is_replicated)]
        for event in events:
            args += (event.event_key, event.tenant_id, event.record, b"1" if event.remembered else b"0")
        k = self._of(shard)
        commands: list[Command] = [APPEND.call((k.tail, k.journal, k.seen, *k.ring, k.waiting), args)]
        if is_replicated:
            commands.append(("WAIT", 1, REPLICA_WITHIN_MS))
        positions, *replicas = await self._data.exchange(commands)
        if replicas == [0]:
            msg = f"journal: no replica confirmed within {REPLICA_WITHIN_MS} ms (DURABILITY=replicated); a repeat finds duplicates"
            raise StoreUnavailable(msg)
        return [Appended(Position(abs(p)), p < 0) for p in positions]

    async def read(self, cursors: Mapping[Shard, Position], *, max_segments: int, block_s: float) -> list[Segment]:
        if not cursors:
            return []
        strangers = {shard: cursor for shard, cursor in cursors.items() if self._boundary.get(shard) != cursor}
        after = {shard: f"{cursor - 1}{_LAST}" for shard, cursor in cursors.items()}
        if strangers:
            after |= await self._before(strangers)
        block_s = min(block_s, BLOCK_AT_MOST_S)
        blocking = ("BLOCK", max(1, int(block_s * 1000))) if block_s > 0 else ()
        streams = [self._of(shard).journal for shard in cursors]
        found = await self._blocking.call(
            "XREAD", "COUNT", max_segments, *blocking, "STREAMS", *streams, *after.values(), block_s=max(0.0, block_s)
        )
        return self._segments(found or ())

    async def close(self) -> None:
        """The connections belong to the store, which closes them."""
        self._boundary.clear()

    def _of(self, shard: Shard) -> ShardKeys:
        keys = self._keys.get(shard)
        if keys is None:
            keys = self._keys[shard] = ShardKeys(shard)
            self._streams[keys.journal.encode()] = shard
        return keys

    async def _before(self, cursors: Mapping[Shard, Position]) -> dict[Shard, str]:
        """For cursors that may lie inside a segment: the id after which to read so that this segment comes first."""
        lookups: list[Command] = [("XREVRANGE", self._of(shard).journal, f"{c}{_LAST}", "-", "COUNT", 1) for shard, c in cursors.items()]
        after = {}
        for (shard, cursor), entries in zip(cursors.items(), await self._data.exchange(lookups), strict=True):
            after[shard] = f"{cursor - 1}{_LAST}"
            if entries:
                first, count = map(int, entries[0][0].split(b"-"))
                if first < cursor < first + count:
                    after[shard] = f"{first - 1}{_LAST}"
                    continue
            self._boundary[shard] = cursor
        return after

    def _segments(self, found: Sequence[Any]) -> list[Segment]:
        segments = []
        for stream, entries in found:
            shard = self._streams[stream]
            for entry_id, fields in entries:
                records = fields[1::2]
                first = int(entry_id[: entry_id.index(b"-")])
                segments.append(Segment(shard, Position(first), records, fields[::2]))
            self._boundary[shard] = Position(first + len(records))
        return segments


class RedisCheckpoints:
    """`Checkpoints` over the hashes `cursor` and `done`; every write is fenced by the shard's token."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data
        self._recounting: set[Shard] = set()

    async def load(self, shard: Shard, token: Token) -> Progress:
        progress, _ = await self._load(shard, token)
        return progress

    async def mark_reading(self, shard: Shard, token: Token, position: Position | None) -> None:
        k = ShardKeys(shard)
        await self._guarded(shard, token, MARK_READING, (k.fence, k.cursor), (token, "" if position is None else position))

    async def save(self, checkpoint: Checkpoint) -> Position:
        c, k = checkpoint, ShardKeys(checkpoint.shard)
        args: list[Argument] = [c.token, c.number, c.prefix, len(c.done), len(c.behind), MARK_EVERY_MS, MARKS_AT_MOST]
        args += [_fact_text(fact) for fact in c.done]
        args += [_fact_text(fact) for fact in c.behind]
        for tenant_id, freed in c.freed.items():
            args += (tenant_id, freed.events, freed.bytes)
        return Position(await self._guarded(c.shard, c.token, CHECKPOINT, (k.fence, k.cursor, k.done, k.waiting, k.tail, k.marks), args))

    async def trim(self, shard: Shard, token: Token, *, keep_s: float, keep_bytes: int) -> int:
        if shard in self._recounting:
            return 0
        k, removed = ShardKeys(shard), 0
        while True:
            args = (token, int(keep_s * 1000), keep_bytes, TRIM_SEGMENTS)
            count, has_more = await self._guarded(shard, token, TRIM, (k.fence, k.cursor, k.journal, k.marks, k.tail), args)
            removed += int(count)
            if not has_more:
                return removed

    async def recount(self, shard: Shard, token: Token) -> None:
        """Corrects what is said to wait in the journal by what is there (docs/decisions/0002-recount.md). Raises `StaleToken`.

        Meant to run beside the tenure: it walks the undelivered part in stretches of 32 segments, each one short script. What is
        appended or freed meanwhile moves the figure as ever; only the difference at the moment of the start is added.
        """
        self._recounting.add(shard)
        try:
            progress, said = await self._load(shard, token)
            corrections = {field: -value for field, value in said.items() if field.endswith(("|n", "|b"))}
            for field, value in (await self._walk(shard, progress)).items():
                corrections[field] = corrections.get(field, 0) + value
            args = [part for field, value in corrections.items() if value for part in (field, value)]
            if args:
                k = ShardKeys(shard)
                await self._guarded(shard, token, RECOUNT_APPLY, (k.fence, k.waiting), (token, *args))
        finally:
            self._recounting.discard(shard)

    async def _load(self, shard: Shard, token: Token) -> tuple[Progress, dict[str, int]]:
        k = ShardKeys(shard)
        answer = await self._guarded(shard, token, LOAD, (k.fence, k.cursor, k.done, k.tail, k.waiting), (token,))
        prefix, tail, facts, waiting, starts, suspect, strikes = answer
        done = frozenset(fact for fact in map(_fact, facts) if fact.position >= prefix)
        said = {field.decode(): int(value) for field, value in zip(waiting[::2], waiting[1::2], strict=True)}
        doubt = Doubt(starts=starts, suspect=Position(suspect) if suspect else None, strikes=strikes)
        return Progress(prefix=Position(prefix), done=done, tail=Position(tail), doubt=doubt), said

    async def _walk(self, shard: Shard, progress: Progress) -> dict[str, int]:
        """What waits from the prefix to the tail, as fields of `waiting`."""
        k, at, counted = ShardKeys(shard), progress.prefix, dict[str, int]()
        whole = sorted(fact.position for fact in progress.done if fact.webhook is None)
        while at < progress.tail:
            end = min(progress.tail, Position(at + WALK_SEGMENTS * SEGMENT_EVENTS))
            done = [position for position in whole if at <= position < end]
            walked, *tenants = await self._data.call(*RECOUNT_WALK.call((k.journal,), (at, end, WALK_SEGMENTS, *done)))
            for tenant, events, size in zip(tenants[::3], tenants[1::3], tenants[2::3], strict=True):
                for field, value in ((f"{tenant.decode()}|n", events), (f"{tenant.decode()}|b", size)):
                    counted[field] = counted.get(field, 0) + value
            at = Position(walked)
        return counted

    async def _guarded(self, shard: Shard, token: Token, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        return await guarded(self._data, shard, token, script.call(keys, args))


async def guarded(client: RedisClient, shard: Shard, token: Token, command: Command) -> Any:  # noqa: ANN401 (a reply)
    """A call that the fence may refuse. Raises `StaleToken`."""
    try:
        return await client.call(*command)
    except ResponseError as exc:
        if str(exc).startswith("STALE"):
            raise StaleToken(shard, token) from exc
        raise


def _fact_text(fact: Done) -> str:
    return f"{fact.position}" if fact.webhook is None else f"{fact.position}|{fact.webhook}"


def _fact(text: bytes) -> Done:
    position, _, webhook = text.decode().partition("|")
    return Done(Position(int(position)), WebhookId(webhook) if webhook else None)
