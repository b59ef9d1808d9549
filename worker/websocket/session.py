"""One session: an instance's stream, from its first connection to its end. Owns the connection; what was read is its `Filing`'s.

The table (`states.py`) decides, this file does: one task takes what is to be done, in order, and else lives as its state says. Whoever
has news (`tell`) moves the table at once and wakes the task from whatever it waits at; a connection's `receive` bears that by contract.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple

import anyio
import structlog

from worker.domain.catalog import Instance
from worker.domain.ids import Shard
from worker.websocket import patience
from worker.websocket.chronicle import Gap
from worker.websocket.filing import Desk, Filing
from worker.websocket.port import CloseReason, Connection, ConnectionClosed, Connector
from worker.websocket.states import READING, Action, Event, State, step

LISTENING = frozenset({State.OPEN, State.SILENT})
NEVER_CONNECTED = ConnectionClosed(CloseReason.LEFT, "not connected yet")
CLOSE_S = 1.5
"""`close_connection`: the port promises one second."""

log = structlog.get_logger("worker.websocket")


class Dark(NamedTuple):
    """Since when nobody reads the stream of a gateway that does not send again, and why."""

    since_s: float
    reason: CloseReason


class Unread(NamedTuple):
    """Since when nobody hears of an instance, and why; None: it never was connected, nor refused."""

    since_s: float
    reason: CloseReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every session needs, the same for all. `turn`: held while connecting, so that not all do at once."""

    desk: Desk
    unit_random: Callable[[], float]
    turn: Callable[[Connector], AbstractAsyncContextManager[None]]


class Session:
    """`run` once, in a task of its own; `tell` and `look` from any other. Over when `state` is LEFT and its filing is at rest."""

    __slots__ = (
        "_around",
        "_awake",
        "_clock",
        "_connection",
        "_connector",
        "_due_s",
        "_failures",
        "_full_since_s",
        "_has_ended",
        "_is_asked",
        "_is_loss_told",
        "_loss",
        "_opened_s",
        "_quiet_since_s",
        "_todo",
        "_unread_since_s",
        "_waiting",
        "dark",
        "filing",
        "heard_s",
        "state",
        "was_aborted",
        "was_superseded",
        "was_tried",
    )

    def __init__(self, instance: Instance, shard: Shard, connector: Connector, around: Surroundings) -> None:
        self._around = around
        self._clock = around.desk.clock
        self._awake = around.desk.awake
        self._connector = connector
        self.filing = Filing(instance, shard, around.desk, transport=connector.transport, wants_receipts=connector.wants_receipts)
        self.filing.on_rest = self._wake
        self.state = State.IDLE
        self.was_aborted = self.was_superseded = False
        self.was_tried = False
        """It reads, or has failed to once."""
        self.heard_s = self._clock()
        self._quiet_since_s = self._awake()
        self.dark: Dark | None = None
        self._connection: Connection | None = None
        self._todo: list[Action] = []
        self._waiting: anyio.CancelScope | None = None
        self._has_ended = False
        """The stream has, after our goodbye."""
        self._is_asked = False
        """Whether it still lives, and has not answered."""
        self._full_since_s: float | None = None
        """By time awake: since when it does not read, for want of room in its hand."""
        self._failures = 0
        self._loss = NEVER_CONNECTED
        self._is_loss_told = False
        self._unread_since_s: float | None = self._clock()
        """None: the stream is known to be well. An open one is once it is heard, or has held: some refuse by closing what they opened."""
        self._opened_s: float | None = None
        """The connection of now, or the one just lost."""
        self._due_s = 0.0

    def __repr__(self) -> str:
        return f"<Session {self.instance.id} {self.state.value} {self.filing!r}>"

    @property
    def instance(self) -> Instance:
        return self.filing.instance

    @property
    def shard(self) -> Shard:
        return self.filing.shard

    @property
    def is_over(self) -> bool:
        return self.state is State.LEFT and not self._todo and self.filing.is_at_rest

    def unread(self) -> Unread | None:
        """None where it is read, and where it ends by our will."""
        if self.state is State.SILENT:
            return Unread(self.heard_s, CloseReason.SILENT)
        if self.state not in {State.CONNECTING, State.WAITING} or self._unread_since_s is None:
            return None
        return Unread(self._unread_since_s, None if self._loss is NEVER_CONNECTED else self._loss.reason)

    # -- news ----------------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Moves the table; what follows from it is done by the session's task."""
        before = self.state
        self.state, actions = step(before, event)
        if self.state is before and not actions:
            return
        if event in {Event.ABORT, Event.LAPSED}:
            self.was_aborted = True
        elif event is Event.LEAVE:
            self._close_gap()  # whoever reads next does not know since when nobody did
        if before in LISTENING and (self.state not in READING or event is Event.LAPSED):
            self._unread_since_s = self._clock() if self._unread_since_s is None else self._unread_since_s
            self._note_dark(event)
        elif self.state is State.LEFT and self.dark is not None and before is State.LEAVING:
            self.dark = self.dark._replace(since_s=self.heard_s)  # its lease had lapsed, and more was read
        self._todo += actions
        self._wake()

    def owned(self) -> None:
        """The shard is ours from now on: receipts may be sent, and what is not read now is read by nobody."""
        self.filing.stir()
        if self.was_tried and self.state not in READING and self.dark is None and not self._connector.wants_receipts:
            self.dark = Dark(self._clock(), self._loss.reason)

    def look(self) -> None:
        """The shared sweep comes by: what time alone has changed. Only time awake counts: nobody is late for what we slept through."""
        if self.state in READING:
            self._note_held()
            awake_s = self._awake()
            quiet_s = awake_s - self._quiet_since_s
            full_s = 0.0 if self._full_since_s is None else awake_s - self._full_since_s
            if max(self.filing.waited_s(), full_s) > patience.STALL_S:
                self._fail(Event.STALLED, ConnectionClosed(CloseReason.STALLED, "what was read is not durable yet, see frames_wait"))
            elif quiet_s >= patience.CLOSE_AFTER_S:
                self._fail(Event.GIVEN_UP, ConnectionClosed(CloseReason.SILENT, f"nothing was heard for {quiet_s:.0f} s"))
            elif quiet_s >= patience.SILENT_AFTER_S:
                self.tell(Event.MUTE)
            elif quiet_s >= patience.PING_AFTER_S and not self._is_asked:
                self._is_asked = True
                self.tell(Event.QUIET)
            if self._full_since_s is not None and self.filing.has_room:
                self._wake()
        self.filing.stir()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    # -- the task ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until left, and all that was read is durable. A fault in an adapter is a lost connection.

        Cancelling closes the connection without a word; what is in hand stays there, for whoever asks what was not durable.
        """
        try:
            self.tell(Event.START)
            while not self.is_over:
                try:
                    await self._next()
                except Exception as exc:
                    log.exception("session_failed", instance=self.instance.id, next_step="report it; it is connected again")
                    self._fail(Event.LOST, ConnectionClosed(CloseReason.PROTOCOL, type(exc).__name__))
        finally:
            with anyio.CancelScope(shield=True):  # bounded inside
                await self._close()

    async def _next(self) -> None:
        if self._todo:
            await self._do(self._todo.pop(0))
        elif self.state is State.WAITING:
            await self._wait()
        elif self._has_ended or self.state is State.LEFT:
            await self._rest()
        else:
            await self._read()

    async def _do(self, action: Action) -> None:
        match action:
            case Action.CONNECT:
                await self._connect()
            case Action.BACK_OFF:
                self._back_off()
            case Action.CLOSE:
                await self._close()
            case Action.PING | Action.SAY_GOODBYE:
                await self._say(action)

    async def _connect(self) -> None:
        if self.state is not State.CONNECTING:
            return
        try:
            with anyio.CancelScope() as self._waiting:
                async with self._around.turn(self._connector):
                    after = await self.filing.resume_id()
                    self._connection = await self._connector.connect(self.instance, after=after, timeout_s=patience.CONNECT_S)
        except ConnectionClosed as closed:
            self._lost(closed)
        finally:
            self._waiting = None
        if self._connection is not None:
            self._opened()

    def _opened(self) -> None:
        self._opened_s = self.heard_s = self._clock()
        self._quiet_since_s = self._awake()
        self._is_asked = False
        self.was_tried = True
        self.tell(Event.OPENED)
        if self.state is State.OPEN:
            self.filing.connection = self._connection
            self.filing.stir()
            self._close_gap()

    async def _say(self, action: Action) -> None:
        """A connection that is gone already is found so by reading."""
        connection = self._connection
        if connection is None:
            return
        try:
            with anyio.CancelScope() as self._waiting:
                await (connection.ping() if action is Action.PING else connection.leave())
        except ConnectionClosed as closed:
            self._lost(closed)
        finally:
            self._waiting = None

    async def _read(self) -> None:
        """The next frame, once there is room for it."""
        connection, frame = self._connection, None
        assert connection is not None
        if self.filing.has_room:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = self._awake()
        try:
            with anyio.CancelScope() as self._waiting:
                if self._full_since_s is not None:
                    await anyio.sleep_forever()  # until something became durable, or the sweep finds that nothing does
                frame = await connection.receive()
                self._heard()
        except ConnectionClosed as closed:
            self._lost(closed)
        finally:
            self._waiting = None
        if frame is not None:
            self.filing.take(frame)
            self._around.desk.chronicle.heard(self.instance)
        else:
            await anyio.lowlevel.checkpoint()  # signs of life that lie ready by the thousand would hold the loop

    def _heard(self) -> None:
        self.heard_s = self._clock()
        self._quiet_since_s = self._awake()
        self._is_asked = False
        self._note_well()
        self.tell(Event.HEARD)

    async def _wait(self) -> None:
        """Until it is time, and everything read is durable: what comes next is then known, and there is room for it."""
        with anyio.CancelScope() as self._waiting:
            if self._clock() < self._due_s:
                await anyio.sleep(self._due_s - self._clock())
            elif not self.filing.is_at_rest:
                await anyio.sleep_forever()
            else:
                self.tell(Event.DUE)
        self._waiting = None

    async def _rest(self) -> None:
        """Nothing more is read: what was becomes durable, and while there is a connection its receipts are sent as far as they may."""
        with anyio.CancelScope() as self._waiting:
            if self.filing.is_at_rest:
                self.tell(Event.ENDED)
            else:
                await anyio.sleep_forever()
        self._waiting = None

    async def _close(self) -> None:
        connection, self._connection, self.filing.connection = self._connection, None, None
        self._full_since_s = None
        if connection is not None:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await connection.close()

    # -- losses --------------------------------------------------------------------------------------------------------

    def _lost(self, closed: ConnectionClosed) -> None:
        """There is no connection (any more). One that ended after our goodbye has done what it should."""
        if self.state is State.LEAVING and closed.reason is CloseReason.LEFT:
            self._has_ended = True
        elif closed.reason is CloseReason.REPLACED and not self._around.desk.owns(self.shard):
            self.was_superseded = True
            self._fail(Event.SUPERSEDED, closed)
        else:
            self._fail(Event.LOST, closed)

    def _fail(self, event: Event, closed: ConnectionClosed) -> None:
        self.was_tried = True
        self._loss = closed
        self.tell(event)

    def _back_off(self) -> None:
        """When to try again."""
        loss, now_s = self._loss, self._clock()
        opened_s, self._opened_s = self._opened_s, None
        if opened_s is not None and now_s - opened_s >= patience.SETTLED_AFTER_S:
            self._failures = 0
        self._failures += 1
        again_in_s = patience.wait_s(loss.reason, self._failures, loss.retry_after_s, self._around.unit_random())
        self._due_s = now_s + again_in_s
        is_told = self._around.desk.chronicle.lost(self.instance, loss, self._failures, again_in_s, was_open=opened_s is not None)
        self._is_loss_told = self._is_loss_told or is_told

    def _note_held(self) -> None:
        """Nothing may have been heard of it, but the connection has stood for long enough."""
        if self.state is State.OPEN and self._opened_s is not None and self._clock() - self._opened_s >= patience.SETTLED_AFTER_S:
            self._note_well()

    def _note_well(self) -> None:
        since_s, self._unread_since_s = self._unread_since_s, None
        if since_s is not None and self._is_loss_told:
            self._is_loss_told = False
            self._around.desk.chronicle.reads_again(self.instance, self._clock() - since_s)

    def _note_dark(self, event: Event) -> None:
        """From here on nobody reads; whether that leaves a hole is up to the gateway, and to whether somebody else reads."""
        is_aborted = event in {Event.ABORT, Event.LAPSED}
        if not self._connector.wants_receipts and (is_aborted or self._around.desk.owns(self.shard)):
            self.dark = Dark(self.heard_s, CloseReason.LEASE_LOST if is_aborted else self._loss.reason)

    def _close_gap(self) -> None:
        dark, self.dark = self.dark, None
        if dark is not None:
            self._around.desk.chronicle.gap(Gap(self.instance, dark.since_s, self._clock(), dark.reason))
