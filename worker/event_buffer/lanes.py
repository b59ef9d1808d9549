"""Lanes: deliveries that wait for an attempt, one queue per webhook, all within one bound. No I/O; hot path.

Two different fulls (design 3, decision 0005). An endpoint that does not keep up makes *its own* lane spill (`excess`); a reader
that runs ahead of healthy endpoints is told to stop reading (`room`). The bound counts deliveries and the bytes of the events
they hold; an event is counted from its first delivery put until its last one is let go.

Where a webhook wants order a lane holds only the first of each chat; the others stand in the chat's line (`deliveries.py`) and step up as
those before them leave memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from worker.client_registry.tenure import Tenure
from worker.domain.ids import Position, WebhookId
from worker.event_buffer.deliveries import Chat, Delivery

PACE_WINDOW_S = 4
AHEAD_S = 2
"""What the reader may be ahead of all endpoints together, in seconds of their pace."""
JUDGED_AFTER_S = 1.0
"""A lane is asked to spill once it has been backlogged for this long: before, its pace says nothing."""


class Pace:
    """Deliveries completed in the last four seconds and the running one."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = [0] * (PACE_WINDOW_S + 1)
        self._second = 0

    def count(self, now_s: float) -> None:
        if now_s >= self._second + 1:
            self._turn(int(now_s))
        self._counts[self._second % (PACE_WINDOW_S + 1)] += 1

    def total(self, now_s: float) -> int:
        self._turn(int(now_s))
        return sum(self._counts)

    def _turn(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - PACE_WINDOW_S), second + 1):
            self._counts[passed % len(self._counts)] = 0
        self._second = max(self._second, second)


class Lane:
    """One webhook's waiting deliveries, oldest first, and its pace."""

    __slots__ = (
        "asked_again_s",
        "backlogged_since_s",
        "behind",
        "in_flight",
        "is_hungry",
        "lines",
        "pace",
        "routed_ever",
        "waiting",
        "webhook_id",
    )

    def __init__(self, webhook_id: WebhookId) -> None:
        self.webhook_id = webhook_id
        self.waiting: deque[Delivery] = deque()
        self.in_flight = 0
        self.is_hungry = False
        """In the pipeline's queue of lanes that wait for somebody else's slot."""
        self.asked_again_s = 0.0
        """It was told to wait: what joins it before this instant waits too, unasked."""
        self.pace = Pace()
        self.routed_ever = 0
        self.backlogged_since_s = 0.0
        """When nothing waited last."""
        self.lines: dict[Chat, None] = {}
        """Chats in which somebody waits behind another."""
        self.behind = 0
        """Deliveries in those lines."""

    @property
    def backlog(self) -> int:
        return len(self.waiting) + self.behind


class EventBuffer:
    """All lanes of a worker. `put` never refuses: the reader asks for `room` before it reads, one round of segments is the overshoot."""

    def __init__(self, *, max_events: int, max_bytes: int, min_lane_events: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._min_lane_events = min_lane_events
        self._lanes: dict[WebhookId, Lane] = {}
        self.deliveries = 0
        """Waiting or under way."""
        self.waiting = 0
        self.events = 0
        self.bytes = 0
        self._pace = Pace()
        self._backlogged = 1
        self.held_ever = 0
        """Deliveries held since the start."""
        self.on_ready: Callable[[Lane], None] = lambda _lane: None
        """Called when somebody stepped up into a lane."""

    def __repr__(self) -> str:
        return f"<EventBuffer events={self.events} deliveries={self.deliveries} bytes={self.bytes} lanes={len(self._lanes)}>"

    @property
    def free_bytes(self) -> int:
        return max(0, self.max_bytes - self.bytes)

    @property
    def free_deliveries(self) -> int:
        return max(0, self.max_events - self.deliveries)

    def target(self, now_s: float) -> int:
        """What the reader may fill the buffer to: two seconds of the pace of all, between a quarter and all of the bound."""
        ahead = self._pace.total(now_s) * AHEAD_S // PACE_WINDOW_S
        return max(self.max_events // 4, min(self.max_events, ahead))

    def room(self, now_s: float) -> int:
        """Deliveries the reader may add now."""
        return max(0, self.target(now_s) - self.deliveries)

    def is_half_full(self, now_s: float) -> bool:
        return self.deliveries * 2 > self.target(now_s) or self.bytes * 2 > self.max_bytes

    def lane(self, webhook_id: WebhookId) -> Lane:
        lane = self._lanes.get(webhook_id)
        if lane is None:
            lane = self._lanes[webhook_id] = Lane(webhook_id)
        return lane

    def lanes(self) -> Iterable[Lane]:
        return self._lanes.values()

    def stir(self, webhook_id: WebhookId) -> None:
        """Its webhook has changed: who waits in its lane is looked at again."""
        lane = self._lanes.get(webhook_id)
        if lane is not None and lane.waiting:
            self.on_ready(lane)

    def forget(self, webhook_id: WebhookId) -> None:
        """It was deleted: its lane goes, unless something of it is still here."""
        lane = self._lanes.get(webhook_id)
        if lane is not None and not (lane.backlog or lane.in_flight or lane.is_hungry):
            del self._lanes[webhook_id]

    def hold(self, delivery: Delivery) -> None:
        """Counts a delivery that enters memory (into a lane, or straight under way after a claim)."""
        event = delivery.event
        if event.users == 0:
            self.events += 1
            self.bytes += event.size
        event.users += 1
        self.deliveries += 1
        self.held_ever += 1
        if delivery.chat is not None:
            delivery.chat.users += 1

    def let_go(self, delivery: Delivery) -> None:
        """Counts a delivery that left memory: settled, parked, or left to the journal."""
        event = delivery.event
        event.users -= 1
        self.deliveries -= 1
        if event.users == 0:
            self.events -= 1
            self.bytes -= event.size
        if delivery.chat is not None:
            self._step_up(delivery.chat, delivery)

    def put(self, delivery: Delivery) -> Lane:
        """Holds a new delivery and lines it up, unless its chat waits in the store: then the caller parks it, behind the others."""
        self.hold(delivery)
        lane = self.lane(delivery.webhook_id)
        lane.routed_ever += 1
        if delivery.chat is None or not delivery.chat.parked:
            self.line_up(lane, delivery)
        return lane

    def line_up(self, lane: Lane, delivery: Delivery) -> None:
        """At the end of its lane, or of its chat's line behind another. It is held already."""
        if not lane.backlog:
            lane.backlogged_since_s = delivery.event.read_at_s
        chat = delivery.chat
        if chat is not None and chat.ahead is not None:
            chat.line.append(delivery)
            lane.lines[chat] = None
            lane.behind += 1
            return
        if chat is not None:
            chat.ahead = delivery
        lane.waiting.append(delivery)
        self.waiting += 1

    def take_line(self, chat: Chat) -> list[Delivery]:
        """Whoever waits behind another in this chat, in order; still held."""
        line = list(chat.line)
        if line:
            lane = self._lanes[line[0].webhook_id]
            del lane.lines[chat]
            lane.behind -= len(line)
            chat.line.clear()
        return line

    def _step_up(self, chat: Chat, gone: Delivery) -> None:
        """One of the chat left memory: whoever stands first in line takes its place, unless the chat waits in the store."""
        chat.leave(gone)
        if chat.ahead is None and chat.line and not chat.parked:
            lane = self._lanes[gone.webhook_id]
            first = chat.ahead = chat.line.popleft()
            if not chat.line:
                del lane.lines[chat]
            lane.behind -= 1
            lane.waiting.append(first)
            self.waiting += 1
            self.on_ready(lane)

    def take(self, lane: Lane) -> Delivery:
        """The lane's oldest; still held. Raises `IndexError` when the lane is empty."""
        delivery = lane.waiting.popleft()
        self.waiting -= 1
        return delivery

    def note_completed(self, lane: Lane, now_s: float) -> None:
        """A delivery of this lane was completed: its pace, and that of all."""
        lane.pace.count(now_s)
        self._pace.count(now_s)

    def excess(self, lane: Lane, now_s: float) -> int:
        """How many of the lane's newest must spill: beyond its pace, and only while the buffer is more than half full.

        `min_lane_events` are left to every lane as long as half of the buffer can hold that many for each; none to a lane that
        completed nothing lately.
        """
        backlogged_s = now_s - lane.backlogged_since_s
        if not lane.backlog or backlogged_s < JUDGED_AFTER_S or not self.is_half_full(now_s):
            return 0
        # Who has had one second of work is not measured by what others did in four.
        completed = int(lane.pace.total(now_s) * max(1.0, PACE_WINDOW_S / backlogged_s))
        fair = self.target(now_s) // (2 * max(1, self._backlogged))
        allowed = max(completed, min(self._min_lane_events, fair)) if completed else 0
        return max(0, lane.backlog - allowed)

    def spilling(self, now_s: float) -> list[Lane]:
        """The lanes with something in excess; counts the backlogged ones on the way. Looks at every lane: for the sweep, when half full."""
        waiting = [lane for lane in self._lanes.values() if lane.backlog]
        self._backlogged = len(waiting)
        return [lane for lane in waiting if self.excess(lane, now_s)]

    def take_newest(self, lane: Lane, count: int) -> list[Delivery]:
        """Removes the lane's newest, in journal order; still held."""
        taken = [lane.waiting.pop() for _ in range(min(count, len(lane.waiting)))]
        self.waiting -= len(taken)
        taken.reverse()
        return taken

    def take_first_of(self, lane: Lane, chats: AbstractSet[Chat]) -> list[Delivery]:
        """Removes from the lane whoever is ahead of one of these chats and not under way, in journal order; still held."""
        taken = [delivery for delivery in lane.waiting if delivery.chat in chats] if chats else []
        if taken:
            lane.waiting = deque(delivery for delivery in lane.waiting if delivery.chat not in chats)
            self.waiting -= len(taken)
        return taken

    def put_back(self, delivery: Delivery) -> None:
        """A delivery that is still held returns to the front of its lane."""
        self.lane(delivery.webhook_id).waiting.appendleft(delivery)
        self.waiting += 1

    def remove(self, tenure: Tenure, before: Position | None = None) -> list[Delivery]:
        """Removes a tenure's waiting deliveries from all lanes, each chat's in order; still held.

        With `before` only those in the lanes from before that position: what stands in line behind one of them goes where it goes.
        """
        removed: list[Delivery] = []
        for lane in self._lanes.values():
            mine = [d for d in lane.waiting if d.event.tenure is tenure and (before is None or d.event.position < before)]
            if mine:
                gone = set(mine)
                lane.waiting = deque(d for d in lane.waiting if d not in gone)
                self.waiting -= len(mine)
                removed += mine
            for delivery in mine:
                if delivery.chat is not None:
                    delivery.chat.ahead = None
            if before is None:
                removed += self._remove_lines(lane, tenure)
        return removed

    def _remove_lines(self, lane: Lane, tenure: Tenure) -> list[Delivery]:
        """A chat is one instance's, so a line is one tenure's."""
        return [delivery for chat in list(lane.lines) if chat.line[0].event.tenure is tenure for delivery in self.take_line(chat)]

    def statistics(self) -> dict[str, int]:
        return {
            "events": self.events,
            "deliveries": self.deliveries,
            "waiting": self.waiting,
            "behind": sum(lane.behind for lane in self._lanes.values()),
            "bytes": self.bytes,
            "capacity_events": self.max_events,
            "lanes": len(self._lanes),
        }
