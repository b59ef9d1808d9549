"""How far the reader goes: as much as the buffer has room for, whatever the journal holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from worker.client_registry.tenure import Tenure
from worker.domain.event import Event, EventType
from worker.domain.ids import DeliveryId, EventKey, InstanceId, Position, Shard, TenantId, Token, WebhookId
from worker.domain.record import Record, decode, encode
from worker.event_buffer.deliveries import BufferedEvent, Delivery
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.attempts import UnderWay
from worker.event_integration.reader import Reader
from worker.journal.completion import Completion
from worker.journal.port import Progress, Segment

pytestmark = pytest.mark.anyio
SEGMENT = 256
RECORD = encode(
    Event(
        event_key=EventKey("k"),
        gateway="generic",
        transport="webhook",
        tenant_id=TenantId("t"),
        instance_id=InstanceId("i"),
        gateway_instance="i",
        type=EventType.MESSAGE,
        received_at="2026-11-22T07:45:38.300Z",
        raw=b"{}",
    )
)


class EndlessJournal:
    """Full segments in every shard, as many as are asked for."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, cursors: Mapping[Shard, Position], *, max_segments: int, block_s: float) -> list[Segment]:
        self.reads += 1
        return [
            Segment(shard, Position(cursor + number * SEGMENT), [RECORD] * SEGMENT, [b"t"] * SEGMENT)
            for shard, cursor in cursors.items()
            for number in range(max_segments)
        ]


class Looks(UnderWay):
    """The reader waits for an attempt to end when it finds the buffer full; after five such looks nothing more will come."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_full = anyio.Event()
        self._count = 0

    async def wait_for_one(self, within_s: float) -> None:
        self._count += 1
        if self._count == 5:
            self.seen_full.set()
        await super().wait_for_one(within_s / 10)


class Hoarding:
    """A pipeline that nobody empties."""

    def __init__(self, buffer: EventBuffer) -> None:
        self.under_way = Looks()
        self._buffer = buffer
        self._record: Record = decode(RECORD)

    def take_in(self, tenure: Tenure, position: Position, data: bytes, now_s: float) -> None:
        tenure.completion.begin(position, TenantId("t"), len(data), [WebhookId("w")])
        event = BufferedEvent(tenure, position, self._record, len(data), 0.0)
        self._buffer.put(Delivery(event, WebhookId("w"), DeliveryId(f"{tenure.shard}:{position}")))


@pytest.mark.parametrize("shards", [1, 16])
async def test_a_backlog_of_full_segments_overshoots_the_buffers_room_by_one_segment_at_most(shards: int) -> None:
    buffer = EventBuffer(max_events=10_000, max_bytes=64 << 20, min_lane_events=64)
    nothing_done = Progress(prefix=Position(1), done=frozenset(), tail=Position(1))
    tenures = [
        Tenure(Shard(n), Token(1), Completion(Shard(n), nothing_done), granted_at_s=0.0, valid_until_s=float("inf")) for n in range(shards)
    ]
    journal, pipeline = EndlessJournal(), Hoarding(buffer)
    parts: Any = pipeline
    reader = Reader(journal, buffer, parts, lambda: tenures, asyncio.get_running_loop().time)  # type: ignore[arg-type]
    async with anyio.create_task_group() as running:
        running.start_soon(reader.run)
        with anyio.fail_after(10):
            await pipeline.under_way.seen_full.wait()
        running.cancel_scope.cancel()
    assert journal.reads > 0
    assert buffer.deliveries > 0
    assert buffer.deliveries <= buffer.target(0.0) + SEGMENT
