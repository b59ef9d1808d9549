"""One worker's sessions: to the journal first, then the receipt; what interrupts a stream, and what is then told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import anyio
import orjson
import pytest

from tests.component.rig import ACME, now_s, pass_time, until
from tests.component.sockets_world import another, forgets, keeps_events, shard_number, sockets_world
from worker.domain.ids import TenantId
from worker.domain.record import raw_body
from worker.ingest.door import Refusal
from worker.ingest.segments import WriterLimits
from worker.websocket import patience
from worker.websocket.filing import HAND_FRAMES
from worker.websocket.port import CloseReason, ConnectionClosed
from worker.websocket.states import State

pytestmark = pytest.mark.anyio

BETA = TenantId("beta")


# -- frames and receipts -----------------------------------------------------------------------------------------------


async def test_what_a_gateway_tells_is_journalled_in_its_order_and_says_how_it_came() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        texts = it.tell(500)
        await it.journalled(texts)
        assert await it.texts() == texts
        assert {record.envelope["transport"] for record in await it.records()} == {"sse"}


async def test_no_receipt_leaves_before_the_append_has_answered() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        texts = it.tell(3)
        await pass_time(3)
        assert it.receipts() == []
        it.store.faults.resume()
        await until(lambda: it.receipts() == texts, within_s=5, what="receipts")
        assert await it.texts() == texts


async def test_an_append_whose_answer_was_lost_is_made_again_and_told_once() -> None:
    async with sockets_world(keeps_events()) as it:
        it.own()
        await it.reading()
        it.store.faults.lose_next_answers(1)
        texts = it.tell(3)
        await until(lambda: it.receipts() == texts, within_s=5, what="receipts")
        assert await it.texts() == texts


async def test_no_receipt_leaves_while_the_shard_is_not_ours_and_all_do_once_it_is() -> None:
    async with sockets_world(keeps_events()) as it:
        it.streams.orchestrator.prepare(frozenset({shard_number()}))
        await it.reading()
        texts = it.tell(300)
        await it.journalled(texts)
        await pass_time(10)
        assert it.receipts() == []
        it.own()
        await until(lambda: it.receipts() == texts, within_s=5, what="receipts")
        assert it.streams.sessions.receipts.sent == 300


async def test_receipts_that_a_gateway_refuses_are_sent_again() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.refuse_receipts = True
        texts = it.tell(3)
        await it.journalled(texts)
        gateway.troubles.refuse_receipts = False
        await until(lambda: it.receipts() == texts, within_s=10, what="receipts")


async def test_a_receipt_for_what_the_gateway_has_forgotten_was_not_sent_and_is_not_owed() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        it.tell(3)
        gateway.kept.clear()
        kept = it.tell(2)
        it.store.faults.resume()
        await it.journalled(it.told)
        await it.streams.orchestrator.close(shard_number(), within_s=5)
        assert gateway.unacknowledged("phone-0") == []
        assert [receipt for receipt in it.receipts() if receipt in kept] == kept
        assert (it.streams.sessions.receipts.sent, it.streams.sessions.receipts.handed_over) == (2, 0)


async def test_a_frame_that_is_no_event_is_kept_whole_and_the_stream_goes_on() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.tell("phone-0", b"not json at all")
        gateway.tell("phone-0", b"[]")
        texts = it.tell(1)
        await it.journalled(texts)
        odd = [record for record in await it.records() if record.type == "unknown"]
        assert [(record.subtype, raw_body(record)[0]) for record in odd] == [("undecodable", b"not json at all"), ("undecodable", b"[]")]
        assert it.state() is State.OPEN
        assert it.lines("frame_not_of_this_gateway")


# -- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [CloseReason.BROKEN, CloseReason.SERVER_LEFT, CloseReason.PROTOCOL, CloseReason.TIMEOUT])
async def test_a_stream_that_resumes_loses_nothing_and_tells_no_gap(reason: CloseReason) -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        for _ in range(20):
            it.tell(5)
            gateway.drop(reason)
            it.tell(5)
            await it.reading()
        await it.journalled(it.told)
        assert await it.texts() == it.told
        await until(lambda: set(it.receipts()) == set(it.told), within_s=10, what="all receipts")
        assert it.gaps() == []


async def test_a_stream_that_forgets_tells_the_window_in_which_nobody_read() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        await pass_time(20)
        it.tell(1)
        heard_s = now_s()
        await pass_time(7)
        gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "away")
        gateway.drop(CloseReason.SERVER_LEFT)
        await pass_time(30)
        gateway.troubles.refuse = None
        await it.reading()
        (gap,) = it.gaps()
        assert (gap["instance"], gap["gateway"], gap["reason"]) == ("i0", "generic", "server_left")
        assert gap["seconds"] == pytest.approx(now_s() - heard_s, abs=0.2)
        assert gap["since"] < gap["until"]
        assert it.streams.statistics()["gaps"]["count"] == 1  # type: ignore[index]


async def test_silence_is_asked_then_shown_then_ended() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.is_hushed = True
        await it.comes_to(State.SILENT, within_s=patience.SILENT_AFTER_S + 5)
        assert it.streams.statistics()["silent"] == 1
        gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "away")
        await it.comes_to(State.WAITING, within_s=patience.CLOSE_AFTER_S)
        gateway.troubles.is_hushed, gateway.troubles.refuse = False, None
        await it.reading()
        assert [gap["reason"] for gap in it.gaps()] == ["silent"]


async def test_a_quiet_stream_that_answers_pings_is_left_in_peace() -> None:
    async with sockets_world(forgets()) as it:
        it.own()
        await it.reading()
        session = it.session()
        for _ in range(100):
            await pass_time(20)
            assert it.state() is State.OPEN
        assert it.session() is session
        assert len(it.gateway.connects) == 1


async def test_one_who_speaks_again_after_silence_is_taken_at_its_word() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.is_hushed = True
        await it.comes_to(State.SILENT, within_s=60)
        gateway.troubles.is_hushed = False
        it.tell(1)
        await it.comes_to(State.OPEN, within_s=1)
        assert it.gaps() == []


async def test_a_key_that_is_not_good_is_told_loudly_and_tried_seldom() -> None:
    gateway = forgets()
    gateway.troubles.refuse = ConnectionClosed(CloseReason.UNAUTHORIZED, "401")
    async with sockets_world(gateway) as it:
        it.own()
        await pass_time(3_600)
        tries = len(gateway.connects)
        assert 4 <= tries <= 12
        assert len(it.lines("socket_refused")) == tries
        assert "api_key" in it.lines("socket_refused")[0]["next_step"]


async def test_a_gateway_that_says_when_to_come_again_is_not_asked_before() -> None:
    gateway = forgets()
    gateway.troubles.refuse = ConnectionClosed(CloseReason.REFUSED, "429", retry_after_s=120)
    async with sockets_world(gateway) as it:
        it.own()
        await pass_time(1_000)
        times = [at_s for at_s, _ in gateway.connects]
        assert len(times) >= 4
        assert all(later - earlier >= 120 for earlier, later in pairwise(times))


async def test_whoever_is_replaced_asks_whether_the_shard_is_still_its_own() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.drop(CloseReason.REPLACED)
        await it.reading()  # ours: connected again
        it.owned.clear()  # somebody else's by now, and we have not been told
        it.streams.orchestrator._owned.clear()  # noqa: SLF001
        gateway.drop(CloseReason.REPLACED)
        await pass_time(600)
        assert gateway.reading("phone-0") == 0
        assert len(gateway.connects) == 2
        it.own()
        await it.reading()


# -- a journal that is away ----------------------------------------------------------------------------------------------


async def test_a_stall_closes_without_a_receipt_and_what_was_read_is_appended_when_the_journal_is_back() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.away = True
        texts = it.tell(20)
        await until(lambda: gateway.reading("phone-0") == 0, within_s=patience.STALL_S + 3, what="closed")
        await pass_time(300)
        assert gateway.reading("phone-0") == 0
        it.store.faults.away = False
        await it.journalled(texts)
        await it.reading()
        assert [gap["reason"] for gap in it.gaps()] == ["stalled"]


async def test_what_is_brought_again_and_again_counts_once_at_the_door() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.away = True
        it.tell(10)
        await pass_time(1)
        it.tell(10)
        await pass_time(30)
        assert it.door.waiting()[0] == 20
        it.store.faults.away = False
        await it.journalled(it.told)
        assert it.door.waiting()[0] == 20


async def test_what_there_was_no_room_for_counts_once_there_is() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        refused, it.door.refused = it.door.refused, lambda _tenant: Refusal.TENANT_BACKLOG_FULL  # type: ignore[method-assign, assignment]
        it.tell(10)
        await pass_time(20)
        assert it.door.waiting()[0] == 0
        it.door.refused = refused  # type: ignore[method-assign]
        it.store.faults.away = True  # where the figures cannot be read what was counted stays
        await pass_time(20)
        assert it.door.waiting()[0] == 10


async def test_a_short_absence_of_the_journal_interrupts_nothing() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.away = True
        texts = it.tell(20)
        await pass_time(patience.STALL_S - 2)
        it.store.faults.away = False
        await it.journalled(texts)
        assert len(gateway.connects) == 1


async def test_what_a_session_has_in_hand_is_bounded_and_the_rest_stays_with_the_gateway() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.store.faults.stall()
        texts = it.tell(5 * HAND_FRAMES)
        await pass_time(2)
        session = it.session()
        assert session is not None
        assert session.filing.held == HAND_FRAMES
        it.store.faults.resume()
        await it.journalled(texts)
        assert await it.texts() == texts


async def test_a_full_backlog_holds_the_stream_back_and_drops_nothing() -> None:
    gateway = keeps_events()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        it.door._memory_fill = 0.9  # noqa: SLF001 -- as the last refresh found it
        it.store.room.memory_fill = lambda: _is(0.9)  # type: ignore[method-assign]
        texts = it.tell(50)
        await pass_time(60)
        assert await it.texts() == []
        assert it.receipts() == []
        it.store.room.memory_fill = lambda: _is(0.1)  # type: ignore[method-assign]
        await it.journalled(texts)
        await until(lambda: set(it.receipts()) == set(texts), within_s=30, what="receipts")


async def _is(fill: float) -> float:
    await anyio.lowlevel.checkpoint()
    return fill


async def test_a_tenant_whose_hands_are_full_is_read_nowhere_and_holds_up_no_other() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        it.catalog.put(replace(another(77), tenant_id=BETA))
        await it.reading()
        it.streams.sessions._around.desk.hands.max_tenant_bytes = 100  # noqa: SLF001 -- a small one, to fill it with little
        full = {ACME}
        it.door.refused = lambda tenant: Refusal.TENANT_BACKLOG_FULL if tenant in full else None  # type: ignore[method-assign, assignment]
        texts = it.tell(3)
        it.catalog.put(another(78))
        await it.reading("phone-78")
        await until(lambda: not gateway.reading("phone-0") and not gateway.reading("phone-78"), within_s=15, what="closed")
        assert [line["reason"] for line in it.lines("socket_lost")] == ["stalled", "stalled"]
        await it.journalled(it.tell(5, "phone-77"))
        assert gateway.reading("phone-77") == 1
        full.clear()
        await it.journalled(texts)
        await it.reading()


async def test_a_frame_with_more_events_than_may_wait_at_once_is_appended_in_portions() -> None:
    gateway = forgets()
    async with sockets_world(gateway, writing=WriterLimits(shard_events=100)) as it:
        it.own()
        await it.reading()
        texts = [f"many-{n}" for n in range(1_000)]
        gateway.tell("phone-0", orjson.dumps([{"type": "message", "event_key": text, "text": text} for text in texts]))
        await until(lambda: it.metrics.ingest_events.cells.get(("acme", "message"), 0) == 1_000, within_s=30, what="all are appended")
        assert await it.texts() == texts
