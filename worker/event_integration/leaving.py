"""How deliveries leave memory without an outcome: parked, kept aside, left to the journal, or turned into claims.

For whoever ends or doubts a tenure (shutdown, handover, a lease in doubt), for the checkpointer's wide gaps and for lanes in excess.

`hold_as_claims` and the pipeline's `_finish` meet in `Attempt.claiming`: an attempt may end while its claim is being written; then
its outcome waits in `Attempt.early` for the claim's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial

import anyio

from worker.client_registry.tenure import Tenure, TenureState
from worker.domain.deadline import Deadline
from worker.domain.ids import Position, Shard, WebhookId
from worker.event_buffer.deliveries import Chat, Delivery
from worker.event_buffer.lanes import EventBuffer, Lane
from worker.event_integration.attempts import Attempt, UnderWay
from worker.event_integration.pipeline import Pipeline
from worker.event_integration.retry_queue import Parked
from worker.event_integration.settling import CLAIM_GRACE_S, Settling


class Leaving:
    """Knows the lanes, the attempts under way and the settling; starts nothing."""

    def __init__(
        self, buffer: EventBuffer, under_way: UnderWay, settling: Settling, pipeline: Pipeline, clock: Callable[[], float]
    ) -> None:
        self._buffer = buffer
        self._under_way = under_way
        self._settling = settling
        self._pipeline = pipeline
        self._clock = clock
        self._aside: dict[Shard, list[Delivery]] = {}

    def suspend(self, tenure: Tenure) -> None:
        """The lease is in doubt: what waits leaves the lanes and is kept aside; attempts under way go on."""
        self._aside[tenure.shard] = self._buffer.remove(tenure)

    def go_on(self, tenure: Tenure) -> None:
        """The lease came back and nobody else held it: what was kept aside goes to the front of its lanes."""
        aside = self._aside.pop(tenure.shard, [])
        for delivery in reversed([d for d in aside if d.chat is None]):
            self._buffer.put_back(delivery)
        for delivery in aside:
            if delivery.chat is not None and delivery.chat.parked:
                self._settling.park(delivery)
            elif delivery.chat is not None:
                self._buffer.line_up(self._buffer.lane(delivery.webhook_id), delivery)
        self._pipeline.serve_all()

    def forget(self, tenure: Tenure) -> None:
        """The tenure has ended: the journal has what it held; outcomes of attempts under way are dropped (claims settle by themselves)."""
        for delivery in (*self._aside.pop(tenure.shard, []), *self._buffer.remove(tenure)):
            self._settling.leave_to_journal(delivery)

    async def give_up(self, tenure: Tenure, *, deadline: Deadline) -> tuple[int, list[WebhookId]]:
        """Nothing of a tenure stays in memory only. Answers how many attempts became no claim, and whose deliveries were parked.

        The lanes are emptied first: an attempt that began while the claims are written would be nobody's, and come twice. What a begun
        event still wants is parked (order), the rest is left to the journal. Cancelling leaves nothing in between.
        """
        withdrawn = self._buffer.remove(tenure)
        try:
            unconfirmed = await self.hold_as_claims(self._under_way.of(tenure), deadline=deadline)
        finally:
            parked = self._part_with(tenure, withdrawn)
        return unconfirmed, parked

    def _part_with(self, tenure: Tenure, withdrawn: Sequence[Delivery]) -> list[WebhookId]:
        begun = tenure.completion.begun_positions()
        if tenure.state is not TenureState.ACTIVE:
            begun = set()
        taken_along = _last_begun(withdrawn, begun)
        parked = []
        for delivery in withdrawn:
            position, chat = delivery.event.position, delivery.chat
            if position in begun if chat is None else position <= taken_along.get(chat, 0):
                self._settling.park(delivery)
                parked.append(delivery.webhook_id)
            else:
                self._settling.leave_to_journal(delivery)
        return parked

    def spill(self) -> None:
        """Five times a second: lanes that hold more than their endpoints keep up with give their newest to the retry queue."""
        now_s = self._clock()
        if self._buffer.is_half_full(now_s):
            for lane in self._buffer.spilling(now_s):
                self._spill(lane, self._buffer.excess(lane, now_s))

    def _spill(self, lane: Lane, excess: int) -> None:
        """Where order is kept whole chats go, those that hold most first; one whose first is under way once that is a claim."""
        going, held = _longest(lane, excess)
        for first in self._buffer.take_first_of(lane, going):
            self._settling.park(first)
        for attempt in self._under_way.ahead_of(going):
            if attempt.claiming is None and attempt.delivery.claim is None:
                self._ask_for_claim(attempt)
        for delivery in self._buffer.take_newest(lane, max(0, excess - held)):
            self._settling.park(delivery)

    async def park_before(self, tenure: Tenure, position: Position, *, deadline: Deadline) -> None:
        """The gap is too wide: a tenure's deliveries from before `position` are parked, its attempts from there become claims."""
        for delivery in self._buffer.remove(tenure, before=position):
            self._settling.park(delivery)
        held = [a for a in self._under_way.of(tenure) if a.delivery.event.position < position]
        await self.hold_as_claims(held, deadline=deadline)

    async def hold_as_claims(self, attempts: Sequence[Attempt], *, deadline: Deadline) -> int:
        """Turns attempts under way into claims; they go on. Answers how many could not be (they stay in the journal).

        An attempt that ends meanwhile is settled by its new claim. After a stale token or an absent store the attempts are as before.
        """
        for attempt in attempts:
            if attempt.claiming is None:
                self._ask_for_claim(attempt)
        asked = [attempt.claiming for attempt in attempts if attempt.claiming is not None]
        if asked:
            with anyio.move_on_after(deadline.left_s(self._clock())):
                await asyncio.wait(asked)
        return sum(attempt.delivery.claim is None for attempt in attempts)

    def _ask_for_claim(self, attempt: Attempt) -> None:
        visible_in_s = attempt.deadline.left_s(asyncio.get_running_loop().time()) + CLAIM_GRACE_S
        attempt.claiming = self._settling.park_as_claim(attempt.delivery, visible_in_s=visible_in_s)
        if attempt.claiming is not None:
            attempt.claiming.add_done_callback(partial(self._claim_answered, attempt))

    def _claim_answered(self, attempt: Attempt, answer: asyncio.Future[Parked | None]) -> None:
        """However late: the outcome that waits for this claim is settled now, by it or (where there is none) as before."""
        attempt.claiming = None
        parked = None if answer.cancelled() or answer.exception() is not None else answer.result()
        claim = None if parked is None else parked.claim
        delivery = attempt.delivery
        if claim is not None:
            delivery.claim = claim
            delivery.event.tenure.completion.relieve(delivery.event.position, delivery.webhook_id)
            self._settling.became_claim(delivery)
        if attempt.early is not None:
            self._pipeline.settle(delivery, *attempt.early)
            attempt.early = None


def _longest(lane: Lane, count: int) -> tuple[set[Chat], int]:
    """As few chats with a line as hold so many deliveries together (or all of them), and how many they hold."""
    going: set[Chat] = set()
    held = 0
    for chat in sorted(lane.lines, key=lambda chat: len(chat.line), reverse=True):
        if held >= count:
            break
        going.add(chat)
        held += len(chat.line) + 1
    return going, held


def _last_begun(withdrawn: Iterable[Delivery], begun: Container[Position]) -> dict[Chat, Position]:
    """Of each chat, up to where it is parked: whatever is parked takes the earlier ones of its chat along.

    A chat whose attempt under way is no claim (the store did not answer) stays in the journal: nobody may get ahead of that one.
    """
    last: dict[Chat, Position] = {}
    for delivery in withdrawn:
        chat = delivery.chat
        if chat is not None and delivery.event.position in begun and (chat.ahead is None or chat.ahead.claim is not None):
            last[chat] = max(delivery.event.position, last.get(chat, delivery.event.position))
    return last
