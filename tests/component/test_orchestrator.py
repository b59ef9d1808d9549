"""The orchestrator: which sessions run, as shards come and go and instances are registered, changed and deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.component.rig import pass_time, until
from tests.component.sockets_world import SHARDS, another, forgets, keeps_events, shard_number, sockets_world
from worker.domain.ids import Shard
from worker.orchestrator.streams import StreamLimits
from worker.orchestrator.waves import Pace
from worker.websocket.port import CloseReason, ConnectionClosed

pytestmark = pytest.mark.anyio

ALL = frozenset(Shard(n) for n in range(SHARDS))


async def test_only_the_instances_of_owned_shards_are_read() -> None:
    async with sockets_world(forgets(), instances=20) as it:
        it.own(1)
        await pass_time(5)
        read = {n for n in range(20) if it.gateway.reading(f"phone-{n}")}
        assert read == {n for n in range(20) if shard_number(f"i{n}") == 1}


async def test_an_instance_registered_at_run_time_is_read_and_one_that_is_deleted_is_not() -> None:
    async with sockets_world(forgets()) as it:
        it.own()
        row = another(77)
        it.catalog.put(row)
        await it.reading("phone-77")
        texts = it.tell(3, "phone-77")
        await it.journalled(texts)
        assert {record.instance_id for record in await it.records()} == {"i77"}
        it.catalog.drop(row)
        await until(lambda: it.gateway.reading("phone-77") == 0, within_s=5, what="it is left")


async def test_one_that_is_not_made_yet_or_has_no_broker_of_ours_is_not_read() -> None:
    async with sockets_world(forgets()) as it:
        it.own()
        it.catalog.put(replace(another(70), is_made=False))
        it.catalog.put(replace(another(71), broker="another"))
        it.catalog.put(replace(another(72), broker=None))
        it.catalog.put(replace(another(73), gateway="waha"))
        await pass_time(5)
        assert [name for _, name in it.gateway.connects] == ["phone-0"]
        it.catalog.put(another(70))
        await it.reading("phone-70")


async def test_a_row_that_changes_without_moving_keeps_its_stream() -> None:
    async with sockets_world(forgets()) as it:
        it.own()
        it.catalog.put(another(77))
        await it.reading("phone-77")
        it.catalog.put(replace(another(77), name="Sales"))
        await pass_time(5)
        assert [name for _, name in it.gateway.connects].count("phone-77") == 1


async def test_an_instance_that_moves_to_another_name_is_read_there() -> None:
    async with sockets_world(forgets()) as it:
        it.own()
        it.catalog.put(another(77))
        await it.reading("phone-77")
        it.catalog.put(replace(another(77), gateway_instance="phone-78"))
        await it.reading("phone-78")
        assert it.gateway.reading("phone-77") == 0


async def test_no_more_sessions_than_allowed_and_a_place_that_becomes_free_is_taken() -> None:
    async with sockets_world(forgets(), instances=10, limits=StreamLimits(max_sessions=4)) as it:
        it.own()
        await pass_time(5)
        names = [f"phone-{n}" for n in range(10)]
        assert sum(it.gateway.reading(name) for name in names) == 4
        assert it.streams.statistics()["over"] == 6
        assert it.lines("too_many_sessions")
        shard = next(shard for shard in ALL if any(shard_number(f"i{n}") == shard and it.gateway.reading(f"phone-{n}") for n in range(10)))
        await it.streams.orchestrator.close(shard, within_s=5)
        others = sum(shard_number(f"i{n}") != shard for n in range(10))
        await until(lambda: sum(it.gateway.reading(name) for name in names) == min(4, others), within_s=5, what="taken")


# -- make before break -------------------------------------------------------------------------------------------------


async def test_a_shard_is_prepared_once_every_session_reads_or_has_been_tried() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        assert it.streams.orchestrator.is_prepared(Shard((shard_number() + 1) % SHARDS))
        gateway.troubles.connect_s = 3
        it.streams.orchestrator.prepare(ALL)
        assert not it.streams.orchestrator.is_prepared(shard_number())
        await pass_time(2)
        assert not it.streams.orchestrator.is_prepared(shard_number())
        await pass_time(2)
        assert all(it.streams.orchestrator.is_prepared(shard) for shard in ALL)


async def test_a_gateway_that_refuses_holds_no_handover_up() -> None:
    gateway = forgets()
    gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "away")
    async with sockets_world(gateway) as it:
        it.streams.orchestrator.prepare(ALL)
        await until(lambda: it.streams.orchestrator.is_prepared(shard_number()), within_s=5, what="tried once")


async def test_what_was_prepared_goes_on_reading_when_it_becomes_ours_and_is_left_when_it_does_not() -> None:
    gateway = forgets()
    async with sockets_world(gateway, instances=8) as it:
        it.streams.orchestrator.prepare(ALL)
        await it.reading()
        it.own(shard_number())
        it.streams.orchestrator.prepare(frozenset())
        mine = {f"phone-{n}" for n in range(8) if shard_number(f"i{n}") == shard_number()}
        await until(lambda: {name for name in gateway.readers if gateway.reading(name)} == mine, within_s=5, what="the others are left")
        assert len(gateway.connects) == 8


async def test_where_a_gateway_bears_one_reader_only_it_is_read_from_when_the_shard_is_ours() -> None:
    gateway = keeps_events(allows_two_readers=False)
    async with sockets_world(gateway) as it:
        it.streams.orchestrator.prepare(ALL)
        await pass_time(5)
        assert gateway.connects == []
        assert it.streams.orchestrator.is_prepared(shard_number())
        it.own()
        await it.reading()


async def test_offered_twice_it_is_read_the_second_time_too() -> None:
    async with sockets_world(forgets()) as it:
        for _ in range(3):
            it.streams.orchestrator.prepare(ALL)
            await it.reading()
            it.streams.orchestrator.prepare(frozenset())
            await until(lambda: it.gateway.reading("phone-0") == 0, within_s=5, what="left")


# -- waves -------------------------------------------------------------------------------------------------------------


async def test_a_thousand_instances_do_not_connect_at_once() -> None:
    gateway = forgets()
    gateway.troubles.connect_s = 0.5
    async with sockets_world(gateway, instances=1_000, limits=StreamLimits(pace=Pace(per_s=100, at_a_time=20))) as it:
        it.own()
        await it.reading()
        times = [at_s for at_s, _ in gateway.connects]
        assert len(times) == 1_000
        assert gateway.peak_connecting == 20
        per_second = [sum(start <= at_s < start + 1 for at_s in times) for start in range(int(min(times)), int(max(times)) + 1)]
        assert max(per_second) <= 125


async def test_a_gateway_that_comes_back_meets_a_wave_too() -> None:
    gateway = forgets()
    async with sockets_world(gateway, instances=300, limits=StreamLimits(pace=Pace(per_s=50, at_a_time=10))) as it:
        it.own()
        await it.reading()
        gateway.connects.clear()
        gateway.drop(CloseReason.SERVER_LEFT)
        await it.reading()
        times = [at_s for at_s, _ in gateway.connects]
        assert max(sum(start <= at_s < start + 1 for at_s in times) for start in range(int(min(times)), int(max(times)) + 1)) <= 65
