"""Outcomes on their way into the store: what failed is parked, what was claimed is settled, what became dead is kept.

Owns every delivery from the moment its attempt has an outcome until the store (or the journal's tracker) has it. Parks
and settlements gather for a common beat (decision 0006); those of one shard go out in one script. A write whose fate is unknown, because
the store is away, is kept and written again; only an ended tenure, or for a claim ten minutes, make it moot: then the
journal or the retry queue still has the delivery.

Where order is kept a delivery enters the store after the earlier ones of its chat, never before: parks keep the journal's order, and
one whose write failed holds back those behind it.

Hot path for deliveries that succeed from the journal: those touch nothing here but memory (`delivered`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import anyio

from worker.client_registry.tenure import Tenure, TenureState
from worker.domain.deadline import Deadline
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import Position, Shard, TenantId, Token, WebhookId
from worker.event_buffer.deliveries import TRUST_NOTHING, Chat, Delivery
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.retry_queue import OF_THE_WEBHOOK, DeadReason, Parked, Parking, RetryQueue, Settled, Settlement
from worker.journal.group_commit import GroupCommit, GroupCommitClosed, GroupCommitFull, Limits

BATCH = Limits(max_items=64, max_bytes=1 << 20, capacity_items=20_000, capacity_bytes=256 << 20)
CLAIM_GRACE_S = 15.0
"""A claim stays invisible for its attempt's deadline and this much more: time to write the outcome."""
SETTLE_WITHIN_S = 600.0
"""How long the outcome of a claim is kept for a store that is away. A claim settles as long as nobody claimed it anew, also when its
visibility has ended: while the store was away for us alone another owner may have; then the answer is no, and nothing is changed."""
WRITE_AGAIN_S = 0.05
LINGER_S = 0.05
"""Outcomes wait so long for company: nobody waits for them, and each write alone would cost the store a sync."""
AWAY = (StoreUnavailable, StoreFull, GroupCommitFull)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Whom to tell. `stale`: a guarded write was refused; `parked`: something is due in so many seconds; `dead`: a new dead letter."""

    stale: Callable[[Tenure], None]
    parked: Callable[[Tenure, WebhookId, float], None]
    dead: Callable[[Delivery, DeadReason], None]


class _Unwritten:
    """A write to repeat once the store is back."""

    __slots__ = ("again", "delivery", "moot_at_s", "tenure")

    def __init__(self, tenure: Tenure, delivery: Delivery, again: Callable[[], None], moot_at_s: float | None) -> None:
        self.tenure = tenure
        self.delivery = delivery
        self.again = again
        self.moot_at_s = moot_at_s


class _Settling(NamedTuple):
    """An outcome of a claim on its way. `chat_asked`: what its chat looked like when it set out."""

    delivery: Delivery
    settlement: Settlement
    moot_at_s: float
    chat_asked: int


class Settling:
    """Writes outcomes; `run` in a task group drives it. Not thread-safe."""

    def __init__(self, retry_queue: RetryQueue, buffer: EventBuffer, *, shards: int, clock: Callable[[], float], hooks: Hooks) -> None:
        self._retry_queue = retry_queue
        self._buffer = buffer
        self._clock = clock
        self._hooks = hooks
        self._parks = {
            Shard(n): GroupCommit[tuple[Delivery, Parking], Parked | None](
                f"park in shard {n}", partial(self._flush_parks, Shard(n)), BATCH, linger_s=LINGER_S
            )
            for n in range(shards)
        }
        self._settles = {
            Shard(n): GroupCommit[Settlement, Settled](
                f"settle in shard {n}", partial(retry_queue.settle, Shard(n)), BATCH, linger_s=LINGER_S
            )
            for n in range(shards)
        }
        self._unwritten: list[_Unwritten] = []
        self._under_way = 0
        self._under_way_in: dict[Shard, int] = {}
        self._written = asyncio.Event()
        self.delivered_count = 0
        self.parked_count = 0
        self.dead_count = 0
        self.failed_count = 0

    @property
    def pending(self) -> int:
        """Writes under way or to be repeated."""
        return self._under_way + len(self._unwritten)

    async def run(self) -> None:
        """Drives the calls until cancelled."""
        async with anyio.create_task_group() as writers:
            for parks in self._parks.values():
                writers.start_soon(parks.run)
            for settles in self._settles.values():
                writers.start_soon(settles.run)

    def delivered(self, delivery: Delivery) -> None:
        """A 2xx: settled in memory (the next checkpoint says so), or by its claim."""
        self.delivered_count += 1
        if delivery.claim is not None:
            self._settle(delivery, delivered=True)
            return
        delivery.event.tenure.completion.finish(delivery.event.position, delivery.webhook_id)
        self._buffer.let_go(delivery)

    def retry(self, delivery: Delivery, delay_s: float, *, error: str) -> None:
        """An attempt failed and was counted; the next one is due after `delay_s`."""
        delivery.attempts += 1
        self.failed_count += 1
        if delivery.claim is not None:
            self._settle(delivery, retry_in_s=delay_s, error=error)
        else:
            self.park(delivery, due_in_s=delay_s, error=error)

    def hand_back(self, delivery: Delivery, delay_s: float) -> None:
        """Not attempted after all: back to where others can claim it, nothing counted."""
        if delivery.claim is not None:
            self._settle(delivery, retry_in_s=delay_s, counted=False)
        else:
            self.park(delivery, due_in_s=delay_s)

    def dead(self, delivery: Delivery, reason: DeadReason, *, error: str, attempted: bool = True) -> None:
        """No further attempt; kept as a dead letter with its reason."""
        if reason in OF_THE_WEBHOOK and delivery.attempts:
            error = ""  # the reason says what ended it; what the store remembers of the last attempt says more than we could
        delivery.attempts += attempted
        self.dead_count += 1
        self._hooks.dead(delivery, reason)
        if delivery.claim is not None:
            self._settle(delivery, dead=reason, error=error, counted=attempted)
        else:
            self.park(delivery, error=error, dead=reason)

    def park(self, delivery: Delivery, *, due_in_s: float = 0.0, error: str | None = None, dead: DeadReason | None = None) -> None:
        """Puts a delivery that still counts against the journal into the retry queue (or among the dead letters).

        Where order is kept, whoever waits behind it in its chat goes along: nothing of a chat starts here while any of it waits there.
        """
        chat = delivery.chat
        if chat is not None:
            chat.begin_writing(delivery, waits=dead is None)
        self._submit_park(delivery, self._parking(delivery, due_in_s=due_in_s, error=error, dead=dead))
        if chat is not None and dead is None:
            self._park_line(chat)

    def _park_line(self, chat: Chat) -> None:
        for later in self._buffer.take_line(chat):
            self.park(later)

    def became_claim(self, delivery: Delivery) -> None:
        """An attempt under way is a claim now; whoever waits behind it in its chat waits in the store, too."""
        if delivery.chat is not None:
            delivery.chat.became_claim()
            self._park_line(delivery.chat)

    def park_as_claim(self, delivery: Delivery, *, visible_in_s: float) -> asyncio.Future[Parked | None] | None:
        """An attempt under way becomes a claim: it goes on, and its outcome is settled by the claim, also after the lease has gone.

        The caller awaits the future and sets `delivery.claim`. None: as much waits as may wait; the delivery stays in the journal.
        """
        event = delivery.event
        parks = self._parks[event.tenure.shard]
        try:
            answer = parks.submit_nowait((delivery, self._parking(delivery, claim_for_s=visible_in_s)), event.size)
        except (GroupCommitFull, GroupCommitClosed):
            return None
        parks.hurry()
        return answer

    def leave_to_journal(self, delivery: Delivery) -> None:
        """Out of memory; the journal (or its claim's visibility) still has it."""
        self._buffer.let_go(delivery)

    async def wait_written(self, shard: Shard, deadline: Deadline) -> bool:
        """Until nothing of this shard is on its way to the store; False when the deadline came first."""
        with anyio.move_on_after(deadline.left_s(self._clock())) as scope:
            while self._under_way_in.get(shard, 0) or any(item.tenure.shard == shard for item in self._unwritten):
                self._written.clear()
                self._parks[shard].hurry()
                self._settles[shard].hurry()
                with anyio.move_on_after(WRITE_AGAIN_S):
                    await self._written.wait()
                self.write_again()
        return not scope.cancelled_caught

    def write_again(self) -> None:
        """Repeats what the store did not take, in the journal's order. Called every checkpoint interval, and while draining."""
        unwritten, self._unwritten = sorted(self._unwritten, key=_position), []
        now_s = self._clock()
        for item in unwritten:
            if item.tenure.state is TenureState.ENDED if item.moot_at_s is None else now_s >= item.moot_at_s:
                self._buffer.let_go(item.delivery)
            elif item.moot_at_s is None and not item.tenure.may_write(now_s):
                self._unwritten.append(item)
            else:
                item.again()

    def statistics(self) -> dict[str, int]:
        return {
            "delivered": self.delivered_count,
            "parked": self.parked_count,
            "dead": self.dead_count,
            "writes_under_way": self._under_way,
            "unwritten": len(self._unwritten),
        }

    def _parking(
        self,
        delivery: Delivery,
        *,
        due_in_s: float = 0.0,
        error: str | None = None,
        claim_for_s: float | None = None,
        dead: DeadReason | None = None,
    ) -> Parking:
        event = delivery.event
        return Parking(
            delivery_id=delivery.delivery_id,
            event_key=event.record.event_key,
            webhook_id=delivery.webhook_id,
            tenant_id=TenantId(event.record.tenant_id),
            position=event.position,
            record=event.record.data,
            attempts=delivery.attempts,
            due_in_s=due_in_s,
            chat=None if delivery.chat is None else delivery.chat.key,
            error=error,
            claim_for_s=claim_for_s,
            dead=dead,
        )

    def _submit_park(self, delivery: Delivery, parking: Parking) -> None:
        event = delivery.event
        if event.tenure.state is TenureState.ENDED:
            self._buffer.let_go(delivery)
            return
        try:
            future = self._parks[event.tenure.shard].submit_nowait((delivery, parking), event.size)
        except (GroupCommitFull, GroupCommitClosed):
            self._keep(delivery, partial(self._submit_park, delivery, parking))
            return
        self._began(event.tenure.shard)
        future.add_done_callback(partial(self._after_park, delivery, parking))

    def _after_park(self, delivery: Delivery, parking: Parking, future: asyncio.Future[Parked | None]) -> None:
        self._ended(delivery.event.tenure.shard)
        failure = None if future.cancelled() else future.exception()
        tenure = delivery.event.tenure
        is_held_back = failure is None and not future.cancelled() and future.result() is None
        if future.cancelled() or is_held_back or isinstance(failure, (*AWAY, GroupCommitClosed)):
            self._keep(delivery, partial(self._submit_park, delivery, parking))
            return
        if failure is None:
            self.parked_count += parking.dead is None
            tenure.completion.relieve(delivery.event.position, delivery.webhook_id, dead=parking.dead is not None)
            self._hooks.parked(tenure, delivery.webhook_id, parking.due_in_s)
        elif isinstance(failure, StaleToken):
            self._hooks.stale(tenure)
        self._buffer.let_go(delivery)
        if failure is not None and not isinstance(failure, StaleToken):
            raise failure

    async def _flush_parks(self, shard: Shard, items: list[tuple[Delivery, Parking]]) -> Sequence[Parked | None]:
        """One script for what waits; a batch never mixes tenures of different tokens (a stale one must not take a fresh one along)."""
        token = items[-1][0].event.tenure.token
        if any(delivery.event.tenure.token != token for delivery, _ in items):
            raise StoreUnavailable(
                f"park in shard {shard}: the tenure changed between submission and write; written again at the next interval"
            )
        if not any(delivery.chat for delivery, _ in items):
            return await self._retry_queue.park(shard, token, [parking for _, parking in items])
        return await self._park_in_order(shard, token, items)

    async def _park_in_order(self, shard: Shard, token: Token, items: list[tuple[Delivery, Parking]]) -> list[Parked | None]:
        """By position, and nobody before an earlier one of its chat. None: that one's write failed, this one waits for it.

        Only these wait: did the whole batch, then under load none would ever go out without somebody who has to wait.
        """
        here = {delivery for delivery, _ in items}
        ready = [item for item in items if item[0].chat is None or here.issuperset(item[0].chat.written_before(item[0]))]
        ready.sort(key=lambda item: item[1].position)
        parked = await self._retry_queue.park(shard, token, [parking for _, parking in ready]) if ready else []
        answers: dict[Delivery, Parked] = {}
        for (delivery, parking), answer in zip(ready, parked, strict=True):
            answers[delivery] = answer
            if delivery.chat is not None and parking.claim_for_s is None:
                delivery.chat.end_writing(delivery, is_relieved=answer.known_done and parking.dead is None)
        return [answers.get(delivery) for delivery, _ in items]

    def _settle(
        self,
        delivery: Delivery,
        *,
        delivered: bool = False,
        retry_in_s: float | None = None,
        counted: bool = True,
        dead: DeadReason | None = None,
        error: str | None = None,
    ) -> None:
        assert delivery.claim is not None
        settlement = Settlement(
            claim=delivery.claim,
            delivery_id=delivery.delivery_id,
            event_key=delivery.event.record.event_key,
            webhook_id=delivery.webhook_id,
            delivered=delivered,
            retry_in_s=retry_in_s,
            counted=counted,
            dead=dead,
            error=error,
        )
        asked = delivery.chat.asking() if delivery.chat is not None else TRUST_NOTHING
        self._submit_settlement(_Settling(delivery, settlement, self._clock() + SETTLE_WITHIN_S, asked))

    def _submit_settlement(self, item: _Settling) -> None:
        shard = item.delivery.event.tenure.shard
        try:
            future = self._settles[shard].submit_nowait(item.settlement)
        except (GroupCommitFull, GroupCommitClosed):
            self._keep(item.delivery, partial(self._submit_settlement, item), item.moot_at_s)
            return
        if item.delivery.chat is not None:
            self._settles[shard].hurry()  # the next of its chat waits for this
        self._began(shard)
        future.add_done_callback(partial(self._after_settlement, item))

    def _after_settlement(self, item: _Settling, future: asyncio.Future[Settled]) -> None:
        delivery, settlement = item.delivery, item.settlement
        self._ended(delivery.event.tenure.shard)
        failure = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(failure, (*AWAY, GroupCommitClosed)):
            self._keep(delivery, partial(self._submit_settlement, item), item.moot_at_s)
            return
        if failure is None:
            if delivery.chat is not None and future.result().is_settled and settlement.retry_in_s is None:
                delivery.chat.settled(delivery, future.result().chat_left, item.chat_asked)
            if settlement.retry_in_s is not None or (delivery.chat is not None and delivery.chat.parked):
                self._hooks.parked(delivery.event.tenure, delivery.webhook_id, settlement.retry_in_s or 0.0)
        self._buffer.let_go(delivery)
        if failure is not None:
            raise failure

    def _began(self, shard: Shard) -> None:
        self._under_way += 1
        self._under_way_in[shard] = self._under_way_in.get(shard, 0) + 1

    def _ended(self, shard: Shard) -> None:
        self._under_way -= 1
        self._under_way_in[shard] -= 1
        self._written.set()

    def _keep(self, delivery: Delivery, again: Callable[[], None], moot_at_s: float | None = None) -> None:
        self._unwritten.append(_Unwritten(delivery.event.tenure, delivery, again, moot_at_s))


def _position(item: _Unwritten) -> Position:
    return item.delivery.event.position
