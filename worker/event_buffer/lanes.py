"""Lanes: deliveries that wait for an attempt, one queue per webhook, all within one bound. No I/O; hot path.

Two different fulls (design 3). An endpoint that does not keep up makes *its own* lane spill (`excess`); a reader that runs
ahead of healthy endpoints is told to stop reading (`has_room`). The bound counts deliveries and the bytes of the events
they hold; an event is counted from its first delivery put until its last one is let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from worker.client_registry.tenure import Tenure
from worker.domain.ids import ClaimId, DeliveryId, Position, WebhookId
from worker.domain.record import Record

PACE_WINDOW_S = 4


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


class Lane:
    """One webhook's waiting deliveries, oldest first, and its pace: deliveries let through in the last seconds."""

    __slots__ = ("_pace", "_pace_at", "in_flight", "is_hungry", "waiting", "webhook_id")

    def __init__(self, webhook_id: WebhookId) -> None:
        self.webhook_id = webhook_id
        self.waiting: deque[Delivery] = deque()
        self.in_flight = 0
        self.is_hungry = False
        """In the pipeline's queue of lanes that wait for somebody else's slot."""
        self._pace = [0] * (PACE_WINDOW_S + 1)
        self._pace_at = 0

    def note_completed(self, now_s: float) -> None:
        self._turn(int(now_s))
        self._pace[self._pace_at % len(self._pace)] += 1

    def completed_lately(self, now_s: float) -> int:
        """Deliveries completed in the last four seconds and the running one."""
        self._turn(int(now_s))
        return sum(self._pace)

    def _turn(self, second: int) -> None:
        for passed in range(max(self._pace_at + 1, second - PACE_WINDOW_S), second + 1):
            self._pace[passed % len(self._pace)] = 0
        self._pace_at = max(self._pace_at, second)


class EventBuffer:
    """All lanes of a worker. `put` never refuses: the reader asks `has_room` before it reads, and one segment is the overshoot."""

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

    def __repr__(self) -> str:
        return f"<EventBuffer events={self.events} deliveries={self.deliveries} bytes={self.bytes} lanes={len(self._lanes)}>"

    @property
    def has_room(self) -> bool:
        return self.deliveries < self.max_events and self.bytes < self.max_bytes

    @property
    def is_half_full(self) -> bool:
        return self.deliveries * 2 > self.max_events or self.bytes * 2 > self.max_bytes

    @property
    def free_bytes(self) -> int:
        return max(0, self.max_bytes - self.bytes)

    @property
    def free_events(self) -> int:
        return max(0, self.max_events - self.deliveries)

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
        lane.waiting.append(delivery)
        self.waiting += 1
        return lane

    def take(self, lane: Lane) -> Delivery:
        """The lane's oldest; still held. Raises `IndexError` when the lane is empty."""
        delivery = lane.waiting.popleft()
        self.waiting -= 1
        return delivery

    def excess(self, lane: Lane, now_s: float) -> int:
        """How many of the lane's newest must spill: beyond its pace, and only while the buffer is more than half full."""
        over = len(lane.waiting) - self._min_lane_events
        if over <= 0 or not self.is_half_full:
            return 0
        return max(0, len(lane.waiting) - max(self._min_lane_events, lane.completed_lately(now_s)))

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
