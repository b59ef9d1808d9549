"""The buffer's counts never drift, whatever is put, taken, parked, put back or let go; a lane's spill takes its newest."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.client_registry.tenure import Tenure
from worker.domain.event import Event, EventType
from worker.domain.ids import DeliveryId, EventKey, InstanceId, Position, Shard, TenantId, Token, WebhookId
from worker.domain.record import decode, encode
from worker.event_buffer.deliveries import BufferedEvent, Delivery
from worker.event_buffer.lanes import EventBuffer
from worker.journal.completion import Completion
from worker.journal.port import Progress

RECORD = decode(
    encode(
        Event(
            event_key=EventKey("k"),
            gateway="generic",
            transport="webhook",
            tenant_id=TenantId("acme"),
            instance_id=InstanceId("i"),
            gateway_instance="i",
            type=EventType.MESSAGE,
            received_at="2026-11-22T07:45:38.300Z",
            raw=b"{}",
        )
    )
)
HOOKS = [WebhookId("a"), WebhookId("b"), WebhookId("c")]


def tenure(shard: int = 0) -> Tenure:
    progress = Progress(prefix=Position(1), done=frozenset(), tail=Position(1))
    return Tenure(Shard(shard), Token(1), Completion(Shard(shard), progress), granted_at_s=0.0, valid_until_s=10.0)


def event(owner: Tenure, position: int, *, size: int = 10) -> BufferedEvent:
    return BufferedEvent(owner, Position(position), RECORD, size, 0.0)


def delivery(of: BufferedEvent, hook: WebhookId) -> Delivery:
    return Delivery(of, hook, DeliveryId(f"{of.position}-{hook}"))


def buffer() -> EventBuffer:
    return EventBuffer(max_events=100, max_bytes=10_000, min_lane_events=8)


def positions(deliveries: list[Delivery]) -> list[int]:
    return [one.event.position for one in deliveries]


def test_an_event_counts_once_however_many_webhooks_want_it_until_the_last_lets_go() -> None:
    it, one = buffer(), event(tenure(), 1)
    first, second = delivery(one, HOOKS[0]), delivery(one, HOOKS[1])
    it.put(first)
    it.put(second)
    assert (it.events, it.deliveries, it.bytes, it.waiting) == (1, 2, 10, 2)
    it.let_go(it.take(it.lane(HOOKS[0])))
    assert (it.events, it.deliveries, it.bytes, it.waiting) == (1, 1, 10, 1)
    it.let_go(it.take(it.lane(HOOKS[1])))
    assert (it.events, it.deliveries, it.bytes, it.waiting) == (0, 0, 0, 0)


def test_a_lane_gives_its_oldest_and_spills_its_newest_in_order() -> None:
    it, owner = buffer(), tenure()
    for position in range(1, 7):
        lane = it.put(delivery(event(owner, position), HOOKS[0]))
    assert it.take(lane).event.position == 1
    assert positions(it.take_newest(lane, 2)) == [5, 6]
    assert positions(list(lane.waiting)) == [2, 3, 4]
    assert positions(it.take_newest(lane, 99)) == [2, 3, 4]
    assert it.waiting == 0


def test_what_is_put_back_stands_before_what_came_later() -> None:
    it, owner = buffer(), tenure()
    for position in (1, 2, 3):
        it.put(delivery(event(owner, position), HOOKS[0]))
    removed = it.remove(owner)
    it.put(delivery(event(owner, 4), HOOKS[0]))
    for one in reversed(removed):
        it.put_back(one)
    assert positions(list(it.lane(HOOKS[0]).waiting)) == [1, 2, 3, 4]
    assert it.waiting == it.deliveries == 4


def test_remove_takes_one_tenures_deliveries_and_leaves_the_others_in_their_order() -> None:
    it, mine, yours = buffer(), tenure(0), tenure(1)
    for position in (1, 2, 3):
        it.put(delivery(event(mine, position), HOOKS[0]))
        it.put(delivery(event(yours, position + 10), HOOKS[0]))
        it.put(delivery(event(mine, position + 20), HOOKS[1]))
    assert positions(it.remove(mine, before=Position(3))) == [1, 2]
    assert sorted(positions(it.remove(mine))) == [3, 21, 22, 23]
    assert positions(list(it.lane(HOOKS[0]).waiting)) == [11, 12, 13]
    assert it.waiting == 3


def filled(it: EventBuffer, hook: WebhookId, count: int, *, owner: Tenure, first: int = 1) -> None:
    for position in range(first, first + count):
        it.put(delivery(event(owner, position), hook))


def test_a_lane_that_completes_nothing_spills_all_it_holds_once_the_buffer_is_more_than_half_full() -> None:
    it, owner = buffer(), tenure()
    filled(it, HOOKS[0], 10, owner=owner)
    lane = it.lane(HOOKS[0])
    assert it.excess(lane, 3.0) == 0, "not half full"
    filled(it, HOOKS[0], 20, owner=owner, first=11)
    assert it.is_half_full(3.0)
    assert it.excess(lane, 3.0) == 30
    assert it.spilling(3.0) == [lane]


def test_who_has_just_got_a_backlog_is_not_judged_yet() -> None:
    it = buffer()
    filled(it, HOOKS[0], 30, owner=tenure())
    assert it.excess(it.lane(HOOKS[0]), 0.01) == 0
    assert it.spilling(0.01) == []


def test_a_lane_keeps_what_it_completed_lately_and_spills_beyond_it() -> None:
    it = buffer()
    filled(it, HOOKS[0], 60, owner=tenure())
    lane = it.lane(HOOKS[0])
    for _ in range(20):
        it.note_completed(lane, 3.5)
    assert it.excess(lane, 4.0) == 40
    assert it.excess(lane, 9.0) == 60, "long ago is not lately"


def test_an_empty_lane_has_nothing_in_excess() -> None:
    it = buffer()
    filled(it, HOOKS[0], 60, owner=tenure())
    assert it.excess(it.lane(HOOKS[1]), 10.0) == 0


def test_the_reader_may_fill_two_seconds_of_pace_between_a_quarter_and_all() -> None:
    it = buffer()
    assert (it.target(1.0), it.room(1.0)) == (25, 25)
    lane = it.lane(HOOKS[0])
    for _ in range(100):
        it.note_completed(lane, 1.0)
    assert it.target(1.5) == 50
    for _ in range(1_000):
        it.note_completed(lane, 1.0)
    assert it.target(1.5) == 100
    filled(it, HOOKS[0], 120, owner=tenure())
    assert (it.room(1.5), it.free_deliveries) == (0, 0)


def test_bytes_fill_the_buffer_too() -> None:
    it = buffer()
    it.put(delivery(event(tenure(), 1, size=6_000), HOOKS[0]))
    assert it.is_half_full(0.0)
    assert it.free_bytes == 4_000
    it.put(delivery(event(tenure(), 2, size=6_000), HOOKS[0]))
    assert it.free_bytes == 0


def test_what_it_shows_is_what_it_holds() -> None:
    it = buffer()
    filled(it, HOOKS[0], 3, owner=tenure())
    it.take(it.lane(HOOKS[0]))
    shown = it.statistics()
    assert (shown["events"], shown["deliveries"], shown["waiting"], shown["bytes"], shown["lanes"]) == (3, 3, 2, 30, 1)
    assert "events=3" in repr(it)


class Counting(RuleBasedStateMachine):
    """Lists of what is where are the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.it = buffer()
        self.tenures = [tenure(0), tenure(1)]
        self.position = 0
        self.outside: list[Delivery] = []
        """Held, in no lane: under way, or being parked."""

    @rule(hooks=st.lists(st.sampled_from(HOOKS), unique=True, min_size=1), owner=st.integers(0, 1), size=st.integers(0, 500))
    def put(self, hooks: list[WebhookId], owner: int, size: int) -> None:
        self.position += 1
        one = event(self.tenures[owner], self.position, size=size)
        for hook in hooks:
            self.it.put(delivery(one, hook))

    @rule(owner=st.integers(0, 1), hook=st.sampled_from(HOOKS))
    def hold(self, owner: int, hook: WebhookId) -> None:
        self.position += 1
        self.outside.append(delivery(event(self.tenures[owner], self.position), hook))
        self.it.hold(self.outside[-1])

    @rule(hook=st.sampled_from(HOOKS))
    def take(self, hook: WebhookId) -> None:
        if self.it.lane(hook).waiting:
            self.outside.append(self.it.take(self.it.lane(hook)))

    @rule(hook=st.sampled_from(HOOKS), count=st.integers(0, 5))
    def spill(self, hook: WebhookId, count: int) -> None:
        self.outside += self.it.take_newest(self.it.lane(hook), count)

    @rule(owner=st.integers(0, 1), before=st.none() | st.integers(0, 30))
    def remove(self, owner: int, before: int | None) -> None:
        self.outside += self.it.remove(self.tenures[owner], None if before is None else Position(before))

    @rule()
    def put_back(self) -> None:
        if self.outside:
            self.it.put_back(self.outside.pop())

    @rule()
    def let_go(self) -> None:
        if self.outside:
            self.it.let_go(self.outside.pop())

    @invariant()
    def the_counts_are_what_is_there(self) -> None:
        waiting = [one for lane in self.it.lanes() for one in lane.waiting]
        held = waiting + self.outside
        events = {id(one.event): one.event for one in held}
        assert self.it.waiting == len(waiting)
        assert self.it.deliveries == len(held)
        assert self.it.events == len(events)
        assert self.it.bytes == sum(one.size for one in events.values())


TestCounting = Counting.TestCase
