"""What one session has in hand: frames read and not yet durable, and receipts that are owed. Owns both until they are neither.

Frames are appended in the order read, then their receipts are sent, by a task that lives only while there is something to do: an idle
session has none. What cannot be appended stays in hand and is brought again until the process ends; the session reads no more meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
import structlog

from worker.domain.backoff import doubled_s
from worker.domain.catalog import Instance
from worker.domain.ids import EventKey, Shard, TenantId
from worker.ingest.frames import Frames, NoRoom, NotDurable
from worker.ingest.preparation import Prepared
from worker.websocket.chronicle import Chronicle
from worker.websocket.patience import RECEIPT_PAUSE_S, RECEIPT_S, STALL_S
from worker.websocket.port import Connection, ConnectionClosed, Frame
from worker.websocket.resume_points import Bookmarks

HAND_FRAMES = 256
HAND_BYTES = 1 << 20
"""Of one session; a larger frame is taken alone."""
PORTION_FRAMES = 64
RECEIPT_BATCH = 200
OWED_AT_MOST = 4_096
"""Receipts of a session that may not be sent yet. Beyond, they are left to the gateway's next telling of those events."""
AGAIN_FIRST_S = 0.1
AGAIN_CAP_S = 2.0

log = structlog.get_logger("worker.websocket")


class Hands:
    """How much all sessions together have in hand, with a share for each tenant: nobody's full backlog stops another's reading.

    `sure_bytes` are a tenant's also where others have taken all, and are what a busy one has between two appends. So memory is bounded
    by `max_bytes`, `sure_bytes` for each tenant, and a frame of each session that was reading already.
    """

    __slots__ = ("_by_tenant", "bytes", "max_bytes", "max_tenant_bytes", "sure_bytes")

    def __init__(self, *, max_bytes: int = 128 << 20, max_tenant_bytes: int = 16 << 20, sure_bytes: int = 128 << 10) -> None:
        self.max_bytes = max_bytes
        self.max_tenant_bytes = max_tenant_bytes
        self.sure_bytes = sure_bytes
        self.bytes = 0
        self._by_tenant: dict[TenantId, int] = {}

    def has_room(self, tenant_id: TenantId) -> bool:
        limit_bytes = self.max_tenant_bytes if self.bytes < self.max_bytes else self.sure_bytes
        return self._by_tenant.get(tenant_id, 0) < limit_bytes

    def add(self, tenant_id: TenantId, size_bytes: int) -> None:
        """Negative: given back."""
        self.bytes += size_bytes
        held = self._by_tenant.get(tenant_id, 0) + size_bytes
        if held:
            self._by_tenant[tenant_id] = held
        else:
            self._by_tenant.pop(tenant_id, None)


@dataclass(slots=True)
class Receipts:
    """Since the start, over all sessions. `handed_over`: the events are durable, whoever reads the stream next says so.

    Neither holds a receipt for what its gateway did not know any more: nobody owes that one.
    """

    sent: int = 0
    handed_over: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every filing needs, the same for all. `owns`: whether the shard is provably ours at this moment.

    `awake`: for how many seconds this process has run, as the sweep counts them; what others did not do in time is measured by it.
    """

    frames: Frames
    bookmarks: Bookmarks
    clock: Callable[[], float]
    awake: Callable[[], float]
    owns: Callable[[Shard], bool]
    spawn: Callable[[Callable[[], Awaitable[None]]], None]
    hands: Hands
    receipts: Receipts
    chronicle: Chronicle


class _Held:
    """A frame in hand. Its body goes when its events are there."""

    __slots__ = ("awake_s", "body", "event_id", "prepared", "size_bytes")

    def __init__(self, frame: Frame, awake_s: float) -> None:
        self.body = frame.body
        self.event_id = frame.event_id
        self.prepared: Prepared | None = None
        self.awake_s = awake_s
        self.size_bytes = len(frame.body)


class Filing:
    """`take` what was read; `stir` when receipts may have become possible. `on_rest` is called whenever there is nothing left to do."""

    __slots__ = (
        "_brought",
        "_desk",
        "_held",
        "_held_bytes",
        "_is_anew",
        "_is_working",
        "_last_id",
        "_owed",
        "_receipts_at_s",
        "_tries",
        "_wants_receipts",
        "connection",
        "instance",
        "on_rest",
        "shard",
        "transport",
    )

    def __init__(self, instance: Instance, shard: Shard, desk: Desk, *, transport: str, wants_receipts: bool) -> None:
        self.instance = instance
        self.shard = shard
        self.transport = transport
        self.connection: Connection | None = None
        """Where receipts go; None: nowhere now."""
        self.on_rest: Callable[[], None] = _nothing
        self._desk = desk
        self._wants_receipts = wants_receipts
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._owed: list[str] = []
        self._last_id: str | None = None
        """Of the last frame that is durable, of this session or of those before it."""
        self._is_anew = False
        """Receipts were left to the gateway's next telling."""
        self._is_working = False
        self._brought = 0
        """How many of those held, the oldest, a try that failed has brought to the door already."""
        self._tries = 0
        self._receipts_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Filing {self.instance.id} held={len(self._held)} owed={len(self._owed)}>"

    @property
    def held(self) -> int:
        """Frames read and not durable yet."""
        return len(self._held)

    @property
    def owed(self) -> int:
        """Receipts of durable frames, not sent."""
        return len(self._owed)

    @property
    def is_at_rest(self) -> bool:
        """Everything read is durable, and every receipt that may be sent now is."""
        return not self._is_working and not self._held

    @property
    def has_room(self) -> bool:
        if not self._held:
            return self._desk.hands.has_room(self.instance.tenant_id)
        is_full = len(self._held) >= HAND_FRAMES or self._held_bytes >= HAND_BYTES
        return not is_full and self._desk.hands.has_room(self.instance.tenant_id)

    def waited_s(self) -> float:
        """How long the oldest frame in hand has been there, by time awake."""
        return self._desk.awake() - self._held[0].awake_s if self._held else 0.0

    async def resume_id(self) -> str | None:
        """Behind which the gateway goes on; None: it tells again whatever it has. For the next connection, once all in hand is durable."""
        if self._last_id is None and self._wants_receipts:
            self._last_id = await self._desk.bookmarks.of(self.instance.id)
        after, self._is_anew = None if self._is_anew else self._last_id, False
        return after

    def take(self, frame: Frame) -> None:
        """Ours from here on."""
        held = _Held(frame, self._desk.awake())
        self._held.append(held)
        self._count(held.size_bytes)
        self.stir()

    def stir(self) -> None:
        """Begins, if there is anything to do and nobody does it yet."""
        if not self._is_working and (self._held or self._may_acknowledge()):
            self._is_working = True
            self._desk.spawn(self._work)

    def hand_over(self) -> None:
        """No receipt is sent from here any more."""
        self._desk.receipts.handed_over += len(self._owed)
        self._owed.clear()

    def undurable_keys(self) -> list[EventKey]:
        """Of the events in hand."""
        keys = []
        for held in self._held:
            prepared = held.prepared or self._desk.frames.prepare_now(self.instance, held.body, self.transport)
            keys += [event.event_key for _, event in prepared.items]
        return keys

    async def _work(self) -> None:
        try:
            while self._held or self._may_acknowledge():
                if self._held:
                    await self._file()
                if self._may_acknowledge():
                    await self._acknowledge()
        finally:
            self._is_working = False
            self.on_rest()

    # -- frames --------------------------------------------------------------------------------------------------------

    async def _file(self) -> None:
        """Makes the oldest frames durable, or waits a little before the next try."""
        portion = self._held[:PORTION_FRAMES]
        try:
            await self._append(portion)
        except NotDurable as exc:
            await self._again_later(str(exc))
            return
        except Exception as exc:
            log.exception("frames_not_filed", instance=self.instance.id, next_step="report it; they are kept and tried again")
            await self._again_later(type(exc).__name__)
            return
        self._tries = 0
        del self._held[: len(portion)]
        self._count(-sum([held.size_bytes for held in portion]))
        self._note_durable(portion)
        if self._held:
            self.on_rest()  # whoever waits for room has some

    async def _append(self, portion: Sequence[_Held]) -> None:
        prepared = []
        for held in portion:
            if held.prepared is None:
                held.prepared = await self._desk.frames.prepare(self.instance, held.body, self.transport)
                held.body = b""
                await anyio.lowlevel.checkpoint()  # a portion of large frames must not hold the loop
            prepared.append(held.prepared)
        before, self._brought = self._brought, len(portion)
        try:
            await self._desk.frames.append(self.instance, prepared, again=before)
        except NoRoom:
            self._brought = before
            raise
        self._brought = 0

    async def _again_later(self, cause: str) -> None:
        if self._tries == 0:
            self._desk.chronicle.waits(self.instance, cause, STALL_S)
        self._tries += 1
        await anyio.sleep(doubled_s(AGAIN_FIRST_S, self._tries - 1, AGAIN_CAP_S))

    def _note_durable(self, portion: Sequence[_Held]) -> None:
        for held in portion:
            if held.event_id is not None:
                self._last_id = held.event_id
                if self._wants_receipts:
                    self._owed.append(held.event_id)
        if self._wants_receipts and self._last_id is not None:
            self._desk.bookmarks.note(self.instance.id, self._last_id)
        if len(self._owed) > OWED_AT_MOST:
            self._is_anew = True
            self.hand_over()

    def _count(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._desk.hands.add(self.instance.tenant_id, size_bytes)

    # -- receipts ------------------------------------------------------------------------------------------------------

    def _may_acknowledge(self) -> bool:
        desk = self._desk
        return bool(self._owed) and self.connection is not None and desk.clock() >= self._receipts_at_s and desk.owns(self.shard)

    async def _acknowledge(self) -> None:
        """One batch. Called right after `_may_acknowledge`, with no await in between."""
        connection, batch = self.connection, self._owed[:RECEIPT_BATCH]
        assert connection is not None
        try:
            with anyio.fail_after(RECEIPT_S):
                known = await connection.acknowledge(batch)
        except (ConnectionClosed, TimeoutError) as exc:
            self._pause_receipts(str(exc) or f"no answer within {RECEIPT_S:.0f} s")
            return
        except Exception as exc:
            log.exception("receipts_failed", instance=self.instance.id, next_step="report it; they are sent again")
            self._pause_receipts(type(exc).__name__)
            return
        if self._owed[: len(batch)] == batch:  # else they were handed over meanwhile, and are counted there
            del self._owed[: len(batch)]
            self._desk.receipts.sent += known

    def _pause_receipts(self, cause: str) -> None:
        self._receipts_at_s = self._desk.clock() + RECEIPT_PAUSE_S
        self._desk.chronicle.unreceipted(self.instance, cause)


def _nothing() -> None:
    """Until somebody listens."""
