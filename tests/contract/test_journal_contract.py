"""The journal, as ingest and the reader rely on it (design 3 "Journal", `journal/port.py`)."""

from __future__ import annotations

import time

import anyio
import pytest

from tests.contract.samples import OTHER_SHARD, SHARD, SHARDS, OpenStore, Store, append, event, eventually
from worker.domain.ids import Position
from worker.journal.port import Appended, Segment

pytestmark = pytest.mark.anyio


async def read_now(store: Store, cursor: int = 1, *, max_segments: int = 100) -> list[Segment]:
    return await store.journal.read({SHARD: Position(cursor)}, max_segments=max_segments, block_s=0)


def contents(segments: list[Segment]) -> list[tuple[int, list[bytes]]]:
    return [(segment.first, list(segment.records)) for segment in segments]


async def test_positions_begin_at_one_and_rise_in_the_order_given(store: Store) -> None:
    assert await append(store, "a", "b") == [1, 2]
    assert await append(store, "c") == [3]


async def test_each_shard_counts_for_itself(store: Store) -> None:
    await append(store, "a", "b")
    assert await append(store, "c", shard=OTHER_SHARD) == [1]


async def test_what_was_appended_is_read_back_whole_and_in_segments(store: Store) -> None:
    await append(store, "a", "b")
    await append(store, "c")
    assert contents(await read_now(store)) == [(1, [b"a", b"b"]), (3, [b"c"])]


async def test_records_are_bytes_and_nothing_but_bytes(store: Store) -> None:
    record = bytes(range(256)) * 10
    await store.journal.append(SHARD, [event("binary", record=record)])
    assert contents(await read_now(store)) == [(1, [record])]


async def test_the_largest_segment_keeps_its_order(store: Store) -> None:
    keys = [f"key {number}" for number in range(256)]
    await append(store, *keys)
    [(first, records)] = contents(await read_now(store))
    assert first == 1
    assert records == [key.encode() for key in keys]


async def test_a_second_append_of_the_same_key_is_a_duplicate_and_says_where_the_first_stands(store: Store) -> None:
    await append(store, "a", "b")
    assert await store.journal.append(SHARD, [event("b")]) == [Appended(Position(2), duplicate=True)]
    assert contents(await read_now(store)) == [(1, [b"a", b"b"])]


async def test_only_the_new_events_of_a_call_are_written_and_they_stand_side_by_side(store: Store) -> None:
    await append(store, "old")
    answers = await store.journal.append(SHARD, [event("x", record=b"x"), event("old"), event("y", record=b"y")])
    assert answers == [Appended(Position(2), False), Appended(Position(1), True), Appended(Position(3), False)]
    assert contents(await read_now(store, 2)) == [(2, [b"x", b"y"])]


async def test_a_key_seen_earlier_in_the_same_call_counts_as_remembered(store: Store) -> None:
    answers = await store.journal.append(
        SHARD, [event("twice", record=b"first"), event("twice", record=b"second"), event("z", record=b"z")]
    )
    assert answers == [Appended(Position(1), False), Appended(Position(1), True), Appended(Position(2), False)]
    assert contents(await read_now(store)) == [(1, [b"first", b"z"])]


async def test_an_event_without_identity_is_never_a_duplicate(store: Store) -> None:
    presence = event("none", remembered=False)
    first = await store.journal.append(SHARD, [presence, presence])
    second = await store.journal.append(SHARD, [presence])
    assert [answer.position for answer in first + second] == [1, 2, 3]
    assert not any(answer.duplicate for answer in first + second)


async def test_the_same_key_in_another_shard_is_another_event(store: Store) -> None:
    await append(store, "a")
    assert await store.journal.append(OTHER_SHARD, [event("a")]) == [Appended(Position(1), duplicate=False)]


async def test_an_empty_append_writes_nothing(store: Store) -> None:
    assert await store.journal.append(SHARD, []) == []
    assert await read_now(store) == []


async def test_a_cursor_inside_a_segment_gets_the_whole_segment(store: Store) -> None:
    await append(store, "a", "b", "c")
    await append(store, "d")
    assert contents(await read_now(store, 2)) == [(1, [b"a", b"b", b"c"]), (4, [b"d"])]


async def test_a_cursor_on_the_last_event_of_a_segment_still_gets_it_and_one_further_does_not(store: Store) -> None:
    await append(store, "a", "b", "c")
    await append(store, "d")
    assert [segment.first for segment in await read_now(store, 3)] == [1, 4]
    assert [segment.first for segment in await read_now(store, 4)] == [4]


async def test_a_reader_takes_at_most_as_many_segments_as_it_asks_for_oldest_first(store: Store) -> None:
    for key in "abcde":
        await append(store, key)
    assert [segment.first for segment in await read_now(store, 2, max_segments=2)] == [2, 3]


async def test_cursors_of_many_shards_are_read_in_one_call(store: Store) -> None:
    await append(store, "a", "b")
    await append(store, "c", shard=OTHER_SHARD)
    segments = await store.journal.read({SHARD: Position(2), OTHER_SHARD: Position(1)}, max_segments=10, block_s=0)
    assert sorted((segment.shard, segment.first) for segment in segments) == [(SHARD, 1), (OTHER_SHARD, 1)]


async def test_one_shard_that_has_something_is_not_held_up_by_one_that_has_not(store: Store) -> None:
    await append(store, "c", shard=OTHER_SHARD)
    with anyio.fail_after(15):
        segments = await store.journal.read({SHARD: Position(1), OTHER_SHARD: Position(1)}, max_segments=10, block_s=20)
    assert [(segment.shard, segment.first) for segment in segments] == [(OTHER_SHARD, 1)]


async def test_reading_nothing_ends_after_the_time_it_may_block(store: Store) -> None:
    with anyio.fail_after(15):
        assert await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0.05) == []


async def test_a_blocked_reader_is_woken_by_an_append(store: Store) -> None:
    await append(store, "behind the cursor")
    read: list[Segment] = []

    async def reader() -> None:
        read.extend(await store.journal.read({SHARD: Position(2), OTHER_SHARD: Position(1)}, max_segments=10, block_s=20))

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await append(store, "news")
    assert contents(read) == [(2, [b"news"])]


async def test_cancelling_a_blocked_reader_loses_nothing(store: Store) -> None:
    """The cursor is the caller's: whatever an interrupted read may have fetched is fetched again."""
    for turn in range(5):
        with anyio.move_on_after(0.01):
            await store.journal.read({SHARD: Position(turn + 1)}, max_segments=10, block_s=20)
        await append(store, f"event {turn}")
    assert [segment.first for segment in await read_now(store)] == [1, 2, 3, 4, 5]


async def test_concurrent_appends_get_positions_of_their_own(store: Store) -> None:
    taken: list[Position] = []

    async def writer(name: int) -> None:
        taken.extend(await append(store, f"{name} first", f"{name} second"))

    async with anyio.create_task_group() as tasks:
        for name in range(20):
            tasks.start_soon(writer, name)
    assert sorted(taken) == list(range(1, 41))


async def test_the_same_key_appended_by_many_at_once_is_written_once(store: Store) -> None:
    """WAHA, a balancer and a retrying proxy may all bring the same event in the same millisecond, to different workers."""
    answers: list[Appended] = []

    async def writer() -> None:
        answers.extend(await store.journal.append(SHARD, [event("same")]))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(writer)
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 9
    assert {answer.position for answer in answers} == {1}


async def test_a_key_is_remembered_for_at_least_the_window_and_then_forgotten(open_store: OpenStore) -> None:
    window_s = 0.3
    async with open_store(dedupe_window_s=window_s) as store:
        told_at_s = time.monotonic()
        await append(store, "a")

        async def is_told_as_news() -> bool:
            [answer] = await store.journal.append(SHARD, [event("a")])
            return not answer.duplicate

        await eventually(is_told_as_news)
        assert time.monotonic() - told_at_s >= window_s


async def test_forgetting_starts_with_the_oldest_keys_when_there_are_too_many(open_store: OpenStore) -> None:
    """Remembered things give way; they never close the door."""
    async with open_store(dedupe_max_keys=20 * SHARDS) as store:
        keys = [f"key {number}" for number in range(40)]
        for key in keys:
            await append(store, key)
        newest = await store.journal.append(SHARD, [event(key) for key in keys[-10:]])
        assert [answer.duplicate for answer in newest] == [True] * 10
        assert [answer.duplicate for answer in await store.journal.append(SHARD, [event(keys[0])])] == [False]
