"""Guessing keys: how long an address waits, who is let in all the same, and that memory is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api import lock_out
from worker.api.lock_out import LockOut

PEER = "203.0.113.7"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> LockOut:
    return LockOut(clock)


def guess(door: LockOut, times: int, peer: str = PEER) -> list[float]:
    return [door.was_wrong(peer, f"guess-{n}") for n in range(times)]


def test_ten_wrong_keys_within_a_minute_lock_the_address_out(door: LockOut) -> None:
    assert guess(door, 10) == [0.0] * 9 + [1.0]
    assert door.wait_s(PEER, "any") == 1.0
    assert door.wait_s("203.0.113.8", "any") == 0.0


def test_ten_wrong_keys_in_more_than_a_minute_do_not(door: LockOut, clock: Clock) -> None:
    for _ in range(30):
        assert guess(door, 3) == [0.0] * 3
        clock.now_s += 20.0


def test_each_wrong_key_after_the_wait_doubles_it_up_to_a_minute(door: LockOut, clock: Clock) -> None:
    waits = guess(door, 10)[-1:]
    for _ in range(8):
        clock.now_s += waits[-1]
        assert door.wait_s(PEER, "any") == 0.0
        waits += guess(door, 1)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_minute_without_a_wrong_key_forgives(door: LockOut, clock: Clock) -> None:
    guess(door, 10)
    clock.now_s += 1.0 + 60.0
    assert guess(door, 9) == [0.0] * 9


def test_a_right_key_is_let_in_during_a_lock_out_where_it_was_right_before(door: LockOut) -> None:
    door.was_right("customer")
    guess(door, 10)
    assert door.wait_s(PEER, "customer") == 0.0
    assert door.wait_s(PEER, "not seen before") == 1.0


def test_a_key_that_was_deleted_is_a_wrong_one_like_any_other(door: LockOut) -> None:
    door.was_right("deleted")
    guess(door, 9)
    assert door.was_wrong(PEER, "deleted") == 1.0
    assert door.wait_s(PEER, "deleted") == 1.0


def test_a_right_key_forgives_no_guesses(door: LockOut) -> None:
    """Else somebody with one key of his own could guess for ever."""
    guess(door, 9)
    door.was_right("his own")
    assert guess(door, 1) == [1.0]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("", "", True),
        ("/run/a.socket", "/run/b.socket", False),
    ],
)
def test_addresses_of_one_customer_are_counted_together(door: LockOut, one: str, other: str, is_same: bool) -> None:
    guess(door, 9, one)
    assert guess(door, 1, other) == [1.0 if is_same else 0.0]


def test_memory_is_bounded_and_the_oldest_give_way(door: LockOut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_out, "MAX_PEERS", 10)
    monkeypatch.setattr(lock_out, "MAX_RIGHT_KEYS", 10)
    for n in range(100):
        guess(door, 10, f"203.0.113.{n}")
        door.was_right(f"key-{n}")
    assert door.statistics() == {"peers": 10, "locked_out": 10}
    assert door.wait_s("203.0.113.99", "key-89") == 1.0
    assert door.wait_s("203.0.113.99", "key-90") == 0.0


@given(st.lists(st.tuples(st.floats(0, 120), st.booleans()), max_size=80))
def test_nobody_ever_waits_longer_than_a_minute_and_whoever_is_right_never(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    door = LockOut(clock)
    door.was_right("customer")
    for passed_s, is_wrong in steps:
        clock.now_s += passed_s
        wait_s = door.was_wrong(PEER, "guess") if is_wrong else 0.0
        assert 0.0 <= wait_s <= 60.0
        assert wait_s == 0.0 or door.wait_s(PEER, "guess") == wait_s
        assert door.wait_s(PEER, "customer") == 0.0
