"""How one worker's sessions end and what they leave: at a message boundary, aborted, or when the process does."""

from __future__ import annotations

import pytest

from tests.component.rig import now_s, pass_time, until
from tests.component.sockets_world import SHARDS, forgets, keeps_events, shard_number, sockets_world
from worker.domain.ids import Shard
from worker.websocket.port import CloseReason, ConnectionClosed

pytestmark = pytest.mark.anyio


async def test_a_shard_is_closed_at_a_message_boundary_with_everything_journalled_and_receipted() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        texts = it.tell(200)
        await it.streams.orchestrator.close(shard_number(), within_s=5)
        assert gateway.reading("phone-0") == 0
        assert await it.texts() == texts
        assert it.receipts() == texts
        assert it.streams.sessions.receipts.handed_over == 0


async def test_receipts_that_may_not_be_sent_any_more_are_counted_as_handed_over() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.owned.clear()
        texts = it.tell(7)
        await it.streams.orchestrator.close(shard_number(), within_s=5)
        assert await it.texts() == texts
        assert it.receipts() == []
        assert it.streams.sessions.receipts.handed_over == 7


async def test_closing_is_bounded_also_when_the_journal_hangs() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        texts = it.tell(7)
        await pass_time(0.5)
        started_s = now_s()
        await it.streams.orchestrator.close(shard_number(), within_s=2)
        assert now_s() - started_s == pytest.approx(2, abs=0.2)
        assert gateway.reading("phone-0") == 0
        it.store.faults.resume()
        await it.journalled(texts)
        assert it.receipts() == []


async def test_an_aborted_session_goes_without_a_goodbye_and_without_a_receipt() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        texts = it.tell(3)
        await pass_time(0.1)
        it.abort()
        await pass_time(0.1)
        assert gateway.reading("phone-0") == 0
        it.store.faults.resume()
        await it.journalled(texts)
        await pass_time(30)
        assert it.receipts() == []
        assert it.streams.sessions.receipts.handed_over == 3
        it.own()
        await until(lambda: set(it.receipts()) == set(texts), within_s=10, what="whoever reads next says so")


async def test_what_a_gateway_that_forgets_has_sent_already_is_read_also_where_the_lease_is_lost() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        await pass_time(20)
        texts = it.tell(1_000)
        it.abort()
        await it.journalled(texts)
        await until(lambda: it.session() is None, within_s=5, what="it is over")
        it.own()
        await it.reading()
        (gap,) = it.gaps()
        assert (gap["reason"], len(gateway.connects)) == ("lease_lost", 2)
        assert gap["seconds"] < 20, "from the last that was read"


async def test_a_lease_lost_and_found_again_tells_the_gap_it_left() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.tell(1)
        heard_s = now_s()
        await pass_time(5)
        it.abort()
        await pass_time(60)
        it.own()
        await it.reading()
        (gap,) = it.gaps()
        assert gap["reason"] == "lease_lost"
        assert gap["seconds"] == pytest.approx(now_s() - heard_s, abs=0.2)


async def test_a_prepared_session_that_was_cut_tells_no_gap_because_the_owner_reads() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.streams.orchestrator.prepare(frozenset(Shard(n) for n in range(SHARDS)))
        await it.reading()
        gateway.drop()
        await it.reading()
        assert it.gaps() == []


async def test_one_that_is_cut_when_the_shard_becomes_ours_tells_the_gap_from_then_on() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.streams.orchestrator.prepare(frozenset(Shard(n) for n in range(SHARDS)))
        await it.reading()
        gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "away")
        gateway.drop()
        await pass_time(10)
        it.own()
        owned_s = now_s()
        await pass_time(20)
        gateway.troubles.refuse = None
        await it.reading()
        (gap,) = it.gaps()
        assert gap["seconds"] == pytest.approx(now_s() - owned_s, abs=0.2)


async def test_what_was_read_and_never_became_durable_is_named_at_the_end_where_its_gateway_has_forgotten_it() -> None:
    for gateway, names in ((forgets(), True), (keeps_events(), False)):
        async with sockets_world(gateway) as it:
            it.own()
            await it.reading()
            it.store.faults.away = True
            it.tell(3)
            await pass_time(1)
            await it.streams.tear_down(2)
            assert len(set(it.streams.sessions.undurable())) == (3 if names else 0)


async def test_a_lease_lost_and_given_back_by_its_next_owner_tells_no_gap() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.abort()
        await pass_time(60)
        it.streams.orchestrator.prepare(frozenset(Shard(n) for n in range(SHARDS)))
        await it.reading()
        it.own()
        await pass_time(5)
        assert it.gaps() == []


async def test_leaving_while_nobody_reads_tells_the_gap_as_far_as_it_is_known() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "away")
        gateway.drop()
        await pass_time(30)
        await it.streams.orchestrator.close(shard_number(), within_s=5)
        (gap,) = it.gaps()
        assert gap["seconds"] == pytest.approx(30, abs=1)
