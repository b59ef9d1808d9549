"""All sessions of this worker, in a task group of their own: it outlives whoever starts and stops them.

A session that has left stays here until everything it read is durable. One sweep a second looks after what time alone changes in all of
them: pings, silence, stalls, receipts that were not to be sent yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from heapq import nsmallest
from typing import NamedTuple

import anyio
import anyio.abc
import structlog

from worker.domain.catalog import Instance
from worker.domain.ids import EventKey, InstanceId, Shard
from worker.ingest.frames import Frames
from worker.metrics import Metrics
from worker.websocket.chronicle import Chronicle, Clocks
from worker.websocket.filing import Desk, Hands, Receipts
from worker.websocket.port import Connector
from worker.websocket.resume_points import Bookmarks
from worker.websocket.session import Dark, Session, Surroundings
from worker.websocket.states import READING, Event, State

SWEEP_EVERY_S = 1.0
AWAKE_AT_MOST_S = 2 * SWEEP_EVERY_S
"""Between two sweeps: what is beyond that, the process did not run (paused, its machine moved), and could not see who was late."""
TRACE_KEPT_S = 600.0
"""How long an aborted session's end is remembered, so that the next one here knows since when nobody read."""
UNDURABLE_NAMED = 1_000
NOT_OPEN_NAMED = 10
CLOSE_ALL_S = 8.0
"""`close_sockets` at TEARDOWN, where the caller does not say."""

log = structlog.get_logger("worker.websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a session asks before it acts. `owns`: is the shard provably ours now; `turn`: held while one connects."""

    owns: Callable[[Shard], bool]
    turn: Callable[[Connector], AbstractAsyncContextManager[None]]


class _Trace(NamedTuple):
    """What an aborted session leaves to the next one here."""

    ended_s: float
    dark: Dark


@dataclass(slots=True)
class _Running:
    session: Session
    connector: Connector


class Sessions:
    """`run` in a task group that outlives the orchestrator; the rest is called from any task and waits for nobody, unless it says so."""

    def __init__(self, frames: Frames, bookmarks: Bookmarks, clocks: Clocks, ask: Ask, metrics: Metrics) -> None:
        self.receipts = Receipts()
        self.on_over: Callable[[InstanceId, bool], None] = lambda _instance_id, _is_superseded: None
        """Called when an instance's session is over: it may be started again. Superseded: somebody who owns the shard took its place."""
        self._clocks = clocks
        self.chronicle = Chronicle(clocks, metrics)
        self._running: dict[InstanceId, _Running] = {}
        self._traces: dict[InstanceId, _Trace] = {}
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._swept_s = 0.0
        self._awake_s = 0.0
        self._around = Surroundings(
            desk=Desk(
                frames=frames,
                bookmarks=bookmarks,
                clock=clocks.monotonic_s,
                awake=lambda: self._awake_s,
                owns=ask.owns,
                spawn=self._spawn,
                hands=Hands(),
                receipts=self.receipts,
                chronicle=self.chronicle,
            ),
            unit_random=clocks.unit_random,
            turn=ask.turn,
        )

    def __repr__(self) -> str:
        return f"<Sessions running={len(self._running)}>"

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled: then every connection is closed, and what is in hand stays there (`undurable`)."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._around.desk.bookmarks.run)
            task_status.started()
            self._swept_s = self._clocks.monotonic_s()
            while True:
                await anyio.sleep(SWEEP_EVERY_S)
                self._sweep()

    # -- starting and stopping -----------------------------------------------------------------------------------------

    def start(self, instance: Instance, shard: Shard, connector: Connector) -> None:
        """A session of the instance. Not while an earlier one is running (see `is_running`)."""
        if instance.id in self._running:
            raise AssertionError(f"{instance.id} has a session already")
        session = Session(instance, shard, connector, self._around)
        trace = self._traces.pop(instance.id, None)
        if trace is not None and self._around.desk.owns(shard):  # else somebody else reads it
            session.dark = trace.dark
        self._running[instance.id] = _Running(session, connector)
        self._spawn(lambda: self._live(session))

    def refresh(self, instance: Instance) -> None:
        """Its row has changed, but not where it is read: what is read from now on is filed by the new one."""
        if (running := self._running.get(instance.id)) is not None:
            running.session.filing.instance = instance

    def leave(self, instance_ids: Iterable[InstanceId]) -> None:
        """At a message boundary, with goodbye; what was read becomes durable, receipts are sent while they may be."""
        self._tell(instance_ids, Event.LEAVE)

    def abort(self, instance_ids: Iterable[InstanceId]) -> None:
        """Now, without goodbye and without receipt; what was read still becomes durable.

        Where no receipt is wanted, what is on its way comes only once: that stream is left, and read to its end (decision 0021).
        """
        for instance_id in instance_ids:
            if (running := self._running.get(instance_id)) is not None:
                running.session.tell(Event.ABORT if running.connector.wants_receipts else Event.LAPSED)

    def owned(self, instance_ids: Iterable[InstanceId]) -> None:
        """Their shard is ours from now on."""
        for instance_id in instance_ids:
            if (running := self._running.get(instance_id)) is not None:
                running.session.owned()

    async def wait_over(self, instance_ids: Collection[InstanceId], *, within_s: float) -> bool:
        """Until none of these runs; False: some had not by then. Those are aborted, and go on with what they have in hand."""
        with anyio.move_on_after(within_s):
            for instance_id in instance_ids:
                while instance_id in self._running:
                    await self._changed.wait()
        rest = [instance_id for instance_id in instance_ids if instance_id in self._running]
        if rest:
            log.warning("sessions_cut", count=len(rest), within_s=within_s, next_step="closed without a goodbye; what was read is kept")
            self._tell(rest, Event.ABORT)
        return not rest

    async def close_all(self, *, within_s: float = CLOSE_ALL_S) -> None:
        """TEARDOWN: everybody leaves. Bounded; never raises. What is in hand is tried on until the process ends."""
        ends_s = anyio.current_time() + within_s
        self.leave(list(self._running))
        await self.wait_over(list(self._running), within_s=within_s)
        for running in self._running.values():
            running.session.filing.hand_over()
        with anyio.move_on_after(ends_s - anyio.current_time()):
            await self._around.desk.bookmarks.save()

    def is_running(self, instance_id: InstanceId) -> bool:
        """Until it is over: also while it leaves."""
        return instance_id in self._running

    def is_leaving(self, instance_id: InstanceId) -> bool:
        """It has a session that will end, or has, by our will."""
        running = self._running.get(instance_id)
        return running is not None and running.session.state in {State.LEAVING, State.LEFT}

    def was_tried(self, instance_id: InstanceId) -> bool:
        """Its session reads, or has failed to once."""
        running = self._running.get(instance_id)
        return running is not None and running.session.was_tried

    def is_connected(self, instance_id: InstanceId) -> bool | None:
        """Whether its gateway can be heard; None: nobody here listens, or has not for long enough to know."""
        running = self._running.get(instance_id)
        return None if running is None or not running.session.was_tried else running.session.state in READING

    def connector_of(self, instance_id: InstanceId) -> Connector | None:
        running = self._running.get(instance_id)
        return None if running is None else running.connector

    # -- at the end ----------------------------------------------------------------------------------------------------

    def undurable(self) -> list[EventKey]:
        """Keys of events that were read, are in no journal as far as we know, and will not be sent again by their gateway."""
        keys: list[EventKey] = []
        for running in self._running.values():
            if not running.connector.wants_receipts and len(keys) < UNDURABLE_NAMED:
                keys += running.session.filing.undurable_keys()
        return keys[:UNDURABLE_NAMED]

    # -- what is seen --------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, object]:
        """`/status`: how many sessions are in which state, in all and per gateway; the worst gaps and who is not heard, longest first."""
        by_gateway: dict[str, Counter[str]] = {}
        for running in self._running.values():
            by_gateway.setdefault(running.connector.gateway, Counter())[running.session.state.value] += 1
        in_all = sum(by_gateway.values(), Counter[str]())
        return {
            "running": len(self._running),
            "connected": in_all[State.OPEN] + in_all[State.SILENT],
            **{state.value: in_all[state] for state in (State.CONNECTING, State.WAITING, State.SILENT, State.LEAVING)},
            "gateways": {gateway: dict(counts) for gateway, counts in sorted(by_gateway.items())},
            "not_open": self._not_open(),
            "in_hand_bytes": self._around.desk.hands.bytes,
            "receipts": {"sent": self.receipts.sent, "handed_over": self.receipts.handed_over},
            **self.chronicle.statistics(),
        }

    def connected(self) -> dict[tuple[str, ...], float]:
        """Open connections per gateway."""
        counts: Counter[str] = Counter()
        for running in self._running.values():
            counts[running.connector.gateway] += running.session.state in READING
        return {(gateway,): float(count) for gateway, count in counts.items()}

    def _not_open(self) -> list[dict[str, object]]:
        """Those that have not been heard of for longest."""
        now_s = self._clocks.monotonic_s()
        found = ((unread, running.session) for running in self._running.values() if (unread := running.session.unread()) is not None)
        return [
            {
                "instance": session.instance.id,
                "gateway": session.instance.gateway,
                "state": session.state.value,
                "reason": unread.reason and unread.reason.value,
                "since_s": round(now_s - unread.since_s, 1),
            }
            for unread, session in nsmallest(NOT_OPEN_NAMED, found, key=lambda one: one[0].since_s)
        ]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _spawn(self, what: Callable[[], object]) -> None:
        assert self._tasks is not None, "run the sessions first"
        self._tasks.start_soon(what)  # type: ignore[arg-type]

    async def _live(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            if session.is_over:
                self._over(session)

    def _over(self, session: Session) -> None:
        instance_id = session.instance.id
        session.filing.hand_over()
        del self._running[instance_id]
        if session.was_aborted and session.dark is not None:
            self._traces[instance_id] = _Trace(self._clocks.monotonic_s(), session.dark)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        self.on_over(instance_id, session.was_superseded)

    def _tell(self, instance_ids: Iterable[InstanceId], event: Event) -> None:
        for instance_id in instance_ids:
            if (running := self._running.get(instance_id)) is not None:
                running.session.tell(event)

    def _sweep(self) -> None:
        now_s = self._clocks.monotonic_s()
        self._awake_s += min(now_s - self._swept_s, AWAKE_AT_MOST_S)
        self._swept_s = now_s
        for running in self._running.values():
            running.session.look()
        self.chronicle.turn(now_s)
        if self._traces:
            self._traces = {key: trace for key, trace in self._traces.items() if now_s - trace.ended_s < TRACE_KEPT_S}
