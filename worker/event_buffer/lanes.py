"""Lanes: deliveries that wait for an attempt, one queue per webhook, all within one bound. No I/O; hot path.

Two different fulls (design 3, decision 0005). An endpoint that does not keep up makes *its own* lane spill (`excess`); a reader
that runs ahead of healthy endpoints is told to stop reading (`room`). The bound counts deliveries and the bytes of the events
they hold; an event is counted from its first delivery put until its last one is let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from worker.client_registry.tenure import Tenure
from worker.domain.ids import ClaimId, DeliveryId, Position, WebhookId
from worker.domain.record import Record

PACE_WINDOW_S = 4
AHEAD_S = 2
"""What the reader may be ahead of all endpoints together, in seconds of their pace."""
JUDGED_AFTER_S = 1.0
"""A lane is asked to spill once it has been backlogged for this long: before, its pace says nothing."""


class BufferedEvent:
    """An event in memory, shared by its deliveries; `users` counts those not let go yet."""

    __slots__ = ("position", "read_at_s", "record", "size", "tenure", "users")

    def __init__(self, tenure: Tenure, position: Position, record: Record, size: int, read_at_s: float) -> None:
        self.tenure = tenure
        self.position = position
        self.record = record
        self.size = size
        self.read_at_s = read_at_s
        self.users = 0


class Delivery:
    """An event for one webhook, waiting or under way. `claim` None: it still counts against the journal."""

    __slots__ = ("attempts", "claim", "delivery_id", "event", "parked_for_s", "slow_reported", "webhook_id")

    def __init__(self, event: BufferedEvent, webhook_id: WebhookId, delivery_id: DeliveryId) -> None:
        self.event = event
        self.webhook_id = webhook_id
        self.delivery_id = delivery_id
        self.attempts = 0
        self.claim: ClaimId | None = None
        self.parked_for_s = 0.0
        self.slow_reported = False


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

    __slots__ = ("asked_again_s", "backlogged_since_s", "in_flight", "is_hungry", "pace", "routed_ever", "waiting", "webhook_id")

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
        """When `waiting` was last empty."""


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

    def hold(self, delivery: Delivery) -> None:
        """Counts a delivery that enters memory (into a lane, or straight under way after a claim)."""
        event = delivery.event
        if event.users == 0:
            self.events += 1
            self.bytes += event.size
        event.users += 1
        self.deliveries += 1
        self.held_ever += 1

    def let_go(self, delivery: Delivery) -> None:
        """Counts a delivery that left memory: settled, parked, or left to the journal."""
        event = delivery.event
        event.users -= 1
        self.deliveries -= 1
        if event.users == 0:
            self.events -= 1
            self.bytes -= event.size

    def put(self, delivery: Delivery) -> Lane:
        """Holds the delivery at the end of its webhook's lane."""
        self.hold(delivery)
        lane = self.lane(delivery.webhook_id)
        lane.routed_ever += 1
        if not lane.waiting:
            lane.backlogged_since_s = delivery.event.read_at_s
        lane.waiting.append(delivery)
        self.waiting += 1
        return lane

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
        if not lane.waiting or backlogged_s < JUDGED_AFTER_S or not self.is_half_full(now_s):
            return 0
        # Who has had one second of work is not measured by what others did in four.
        completed = int(lane.pace.total(now_s) * max(1.0, PACE_WINDOW_S / backlogged_s))
        fair = self.target(now_s) // (2 * max(1, self._backlogged))
        allowed = max(completed, min(self._min_lane_events, fair)) if completed else 0
        return max(0, len(lane.waiting) - allowed)

    def spilling(self, now_s: float) -> list[Lane]:
        """The lanes with something in excess; counts the backlogged ones on the way. Looks at every lane: for the sweep, when half full."""
        waiting = [lane for lane in self._lanes.values() if lane.waiting]
        self._backlogged = len(waiting)
        return [lane for lane in waiting if self.excess(lane, now_s)]

    def take_newest(self, lane: Lane, count: int) -> list[Delivery]:
        """Removes the lane's newest, in journal order; still held."""
        taken = [lane.waiting.pop() for _ in range(min(count, len(lane.waiting)))]
        self.waiting -= len(taken)
        taken.reverse()
        return taken

    def put_back(self, delivery: Delivery) -> None:
        """A delivery that is still held returns to the front of its lane."""
        self.lane(delivery.webhook_id).waiting.appendleft(delivery)
        self.waiting += 1

    def remove(self, tenure: Tenure, before: Position | None = None) -> list[Delivery]:
        """Removes a tenure's waiting deliveries from all lanes (only those from before a position), each lane's in order; still held."""
        removed: list[Delivery] = []
        for lane in self._lanes.values():
            mine = [d for d in lane.waiting if d.event.tenure is tenure and (before is None or d.event.position < before)]
            if mine:
                gone = set(mine)
                lane.waiting = deque(d for d in lane.waiting if d not in gone)
                removed += mine
        self.waiting -= len(removed)
        return removed

    def statistics(self) -> dict[str, int]:
        return {
            "events": self.events,
            "deliveries": self.deliveries,
            "waiting": self.waiting,
            "bytes": self.bytes,
            "capacity_events": self.max_events,
            "lanes": len(self._lanes),
        }
