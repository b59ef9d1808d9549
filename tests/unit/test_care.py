"""How much care a tenure takes, by what it is told of those before it."""

from __future__ import annotations

from typing import Any

import pytest

from worker.domain.ids import Position, WebhookId
from worker.journal.care import NOBODY, Care, Look, care_for, careful_events
from worker.journal.port import Done, Doubt, Progress


def at(position: int) -> Position:
    return Position(position)


def progress(*done: Done, **doubt: Any) -> Progress:
    return Progress(prefix=at(5), done=frozenset(done), tail=at(500), doubt=Doubt(**doubt))


def cared(*done: Done, **doubt: Any) -> Care:
    care = care_for(progress(*done, **doubt))
    assert care is not None
    return care


@pytest.mark.parametrize(("starts", "events"), [(0, 0), (1, 0), (3, 0), (4, 100), (5, 200), (6, 400), (11, 12_800), (1_000, 12_800)])
def test_three_tenures_without_progress_make_the_next_careful_and_each_in_vain_twice_as_far(starts: int, events: int) -> None:
    assert careful_events(Doubt(starts=starts)) == events


def test_without_doubt_nothing_is_read_carefully() -> None:
    assert care_for(progress(Done(at(7), WebhookId("crm")), starts=3)) is None


def test_careful_reading_ends_after_its_events() -> None:
    care = cared(starts=4)
    for position in range(5, 105):
        assert care.look(at(position)) is Look.CAREFULLY
        assert not care.is_over(at(position))
        care.note_survived()
    assert care.look(at(105)) is Look.PLAINLY
    assert care.is_over(at(105))


def test_as_far_as_the_suspect_all_is_read_carefully_and_it_too() -> None:
    care = cared(starts=1, suspect=at(300), strikes=1)
    for position in range(5, 301):
        assert care.look(at(position)) is Look.CAREFULLY
        care.note_survived()
    assert care.look(at(301)) is Look.PLAINLY
    assert not care.is_over(at(300))
    assert care.is_over(at(301))


def test_a_suspect_with_two_strikes_is_poison() -> None:
    care = cared(starts=5, suspect=at(7), strikes=2)
    assert [care.look(at(position)) for position in (6, 7, 8)] == [Look.CAREFULLY, Look.POISON, Look.CAREFULLY]


def test_what_was_buried_is_not_opened_again() -> None:
    care = cared(Done(at(9), NOBODY))
    assert [care.look(at(position)) for position in (8, 9, 10)] == [Look.PLAINLY, Look.BURIED, Look.PLAINLY]
    assert not care.is_over(at(9))
    assert care.is_over(at(10))
