"""A chat in memory: who is ahead, who waits behind, and when the store's word about what waits there is believed."""

from __future__ import annotations

from tests.unit.test_lanes import HOOKS, buffer, event, positions, tenure
from worker.client_registry.tenure import Tenure
from worker.domain.ids import DeliveryId
from worker.event_buffer.deliveries import Chat, Delivery
from worker.event_buffer.lanes import EventBuffer, Lane

CRM = HOOKS[0]


class Talk:
    """One chat of one webhook in a buffer of its own."""

    def __init__(self) -> None:
        self.owner: Tenure = tenure()
        self.buffer: EventBuffer = buffer()
        self.forgotten = 0
        self.chat = Chat("i ana", self._forget)
        self.ready: list[Lane] = []
        self.buffer.on_ready = self.ready.append

    def _forget(self) -> None:
        self.forgotten += 1

    def put(self, position: int) -> Delivery:
        one = Delivery(event(self.owner, position), CRM, DeliveryId(f"{position}"), self.chat)
        self.buffer.put(one)
        return one

    @property
    def lane(self) -> Lane:
        return self.buffer.lane(CRM)


def test_only_the_first_of_a_chat_stands_in_the_lane() -> None:
    it = Talk()
    for position in (1, 2, 3):
        it.put(position)
    assert positions(list(it.lane.waiting)) == [1]
    assert (it.lane.behind, it.lane.backlog, it.buffer.waiting, it.buffer.deliveries) == (2, 3, 1, 3)


def test_when_one_leaves_memory_the_next_steps_up_and_the_pipeline_is_told() -> None:
    it = Talk()
    first, _second = it.put(1), it.put(2)
    assert it.buffer.take(it.lane) is first
    assert not it.lane.waiting
    it.buffer.let_go(first)
    assert positions(list(it.lane.waiting)) == [2]
    assert it.ready == [it.lane]
    assert (it.lane.behind, it.lane.lines) == (0, {})


def test_nobody_steps_up_while_the_chat_waits_in_the_store() -> None:
    it = Talk()
    first = it.put(1)
    it.put(2)
    it.buffer.take(it.lane)
    it.chat.begin_writing(first, waits=True)
    taken = it.buffer.take_line(it.chat)
    it.chat.end_writing(first, is_relieved=False)
    it.buffer.let_go(first)
    assert positions(taken) == [2]
    assert not it.lane.waiting
    assert it.chat.parked == 1


def test_a_tenures_deliveries_leave_with_those_behind_them_in_order() -> None:
    it = Talk()
    for position in (1, 2, 3):
        it.put(position)
    assert positions(it.buffer.remove(it.owner)) == [1, 2, 3]
    assert (it.buffer.waiting, it.lane.behind, it.chat.ahead) == (0, 0, None)


def test_a_chat_of_which_nothing_is_left_is_forgotten_and_one_that_waits_in_the_store_is_not() -> None:
    it = Talk()
    first = it.put(1)
    it.buffer.take(it.lane)
    it.chat.begin_writing(first, waits=True)
    it.chat.end_writing(first, is_relieved=False)
    it.buffer.let_go(first)
    assert it.forgotten == 0
    other = it.put(2)
    it.chat.settled(first, 0, it.chat.asking())
    it.buffer.let_go(other)
    assert it.forgotten == 1


def test_the_stores_count_is_believed_where_nothing_was_parked_since_it_was_asked() -> None:
    it = Talk()
    one = it.put(1)
    it.chat.parked = 7
    it.chat.settled(one, 2, it.chat.asking())
    assert it.chat.parked == 2


def test_a_count_from_before_a_park_says_nothing_about_it() -> None:
    it = Talk()
    claimed, one = it.put(0), it.put(1)
    it.chat.parked = 1
    asked = it.chat.asking()
    it.chat.begin_writing(one, waits=True)
    it.chat.end_writing(one, is_relieved=False)
    it.chat.settled(claimed, 0, asked)
    assert it.chat.parked == 1


def test_a_count_asked_for_while_a_park_was_on_its_way_is_not_believed_either() -> None:
    """They go by different connections: the store may have answered before that park arrived."""
    it = Talk()
    claimed, one = it.put(0), it.put(1)
    it.chat.parked = 1
    it.chat.begin_writing(one, waits=True)
    asked = it.chat.asking()
    it.chat.end_writing(one, is_relieved=False)
    it.chat.settled(claimed, 0, asked)
    assert it.chat.parked == 1


def test_what_had_been_settled_before_it_was_parked_does_not_wait() -> None:
    it = Talk()
    one = it.put(1)
    it.chat.begin_writing(one, waits=True)
    it.chat.end_writing(one, is_relieved=True)
    assert it.chat.parked == 0


def test_one_that_was_claimed_and_settled_while_the_answer_of_its_own_park_was_lost_is_taken_off_once() -> None:
    it = Talk()
    first, second = it.put(1), it.put(2)
    it.chat.begin_writing(first, waits=True)
    it.chat.begin_writing(second, waits=True)
    as_claimed = Delivery(first.event, CRM, first.delivery_id, it.chat)
    it.chat.settled(as_claimed, 0, it.chat.asking())
    it.chat.end_writing(first, is_relieved=True)
    assert it.chat.parked == 1
