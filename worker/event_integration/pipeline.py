"""The pipeline: an event that was read becomes deliveries in lanes, a lane's oldest becomes an attempt, its outcome is settled.

```
 take_in ──▶ lane ──admit──▶ attempt ──▶ outcome ──▶ settling
   (reader)    │ open, suspect without a place, behind its pace
               ▼
 resume ────▶ (attempt)            retry queue
   (retry pump)
```

Decides nothing itself: routing, admission and outcome are pure and live next door.
Hot path: one asyncio task per attempt; nobody's endpoint is awaited by anybody else.

A delivery is in exactly one place: a lane, under way (`attempts.py`), aside while its lease is in doubt (`leaving.py`), or in `Settling`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from worker.client_registry.tenure import Tenure
from worker.domain.catalog import Catalog, Webhook
from worker.domain.deadline import Deadline
from worker.domain.errors import CorruptRecord, place_of
from worker.domain.ids import EventKey, Position, TenantId, delivery_id
from worker.domain.record import decode, sealed
from worker.event_buffer.deliveries import BufferedEvent, Delivery
from worker.event_buffer.lanes import EventBuffer, Lane
from worker.event_integration.attempts import Attempt, UnderWay
from worker.event_integration.building import Builder
from worker.event_integration.bulkheads import Bulkheads, SlotResult, Verdict
from worker.event_integration.chat_order import ChatOrder
from worker.event_integration.observing import Observer
from worker.event_integration.outcome import DELIVERED, Dead, Delivered, Outcome, RetryAt, RetryPolicy, decide, describe
from worker.event_integration.retry_queue import Claimed, DeadReason
from worker.event_integration.routing import Router
from worker.event_integration.settling import Settling
from worker.event_integration.standing import Standing
from worker.event_integration.transport import Answer, Cause, Failure, Stage, Transport
from worker.journal.care import NOBODY

log = structlog.get_logger()

SUSPECT_PARK_S = 1.0
TRIES_PER_FREED_SLOT = 8
DELETED = "the webhook was deleted"
PUT_ASIDE_AT_ONCE = 200
ASK_AGAIN_S = 0.02
"""A lane told to wait is not asked about for each event that joins it: a freed slot wakes it, or whoever joins later than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`monotonic_s` decides, `wall_s` (seconds since the epoch) is stamped on requests, `unit_random` jitters."""

    monotonic_s: Callable[[], float]
    wall_s: Callable[[], float]
    unit_random: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the pipeline is made of."""

    catalog: Catalog
    chats: ChatOrder
    buffer: EventBuffer
    under_way: UnderWay
    bulkheads: Bulkheads
    transport: Transport
    settling: Settling
    policy: RetryPolicy
    clocks: Clocks
    observer: Observer
    standing: Standing


class Unopened(NamedTuple):
    """A record that nobody could, or may, look into."""

    position: Position
    tenant_id: TenantId
    data: bytes


class Pipeline:
    """Not thread-safe. Everything but an attempt is synchronous; attempts run in tasks, kept in `under_way`."""

    def __init__(self, parts: Parts) -> None:
        self._catalog = parts.catalog
        self._chats = parts.chats
        self._ordered = parts.chats.webhooks
        self._buffer = parts.buffer
        self._buffer.on_ready = self._stepped_up
        self._bulkheads = parts.bulkheads
        self._transport = parts.transport
        self._settling = parts.settling
        self._policy = parts.policy
        self._clocks = parts.clocks
        self._observer = parts.observer
        self.router = Router(parts.catalog)
        self.builder = Builder(parts.clocks.wall_s)
        self.under_way = parts.under_way
        self._hungry: deque[Lane] = deque()
        self._finishing: Lane | None = None
        """Whose attempt is being settled: it is served after that, whoever steps up in it."""
        self.standing = parts.standing
        self.disabled, self.paused = parts.standing.disabled, parts.standing.paused
        self.cutoff_s: float | None = None
        """While draining: no attempt runs beyond this instant."""
        self.accepts_suspects = True
        """False while draining alone: a webhook that is suspect or whose circuit is open starts nothing more."""
        self.is_closing = False

    # -- in --------------------------------------------------------------------------------------------------------

    def take_in(self, tenure: Tenure, position: Position, data: bytes, now_s: float) -> None:
        """An event from the journal: routed, and its deliveries put into their lanes. Never raises for what is in it."""
        try:
            record = decode(data)
            webhooks = self.router.routes(record)
        except Exception as exc:  # noqa: BLE001 -- a fault of ours with this one event must not end the shard's reader (design 3)
            why = str(exc) if isinstance(exc, CorruptRecord) else f"not routed: {place_of(exc)}"
            self.bury(tenure, Unopened(position, TenantId("-"), data), DeadReason.INTERNAL_ERROR, why)
            return
        wanted = self.router.owed(record, webhooks, self.standing.owed_until) if self.disabled or self._catalog.departed else webhooks
        if self._ordered and record.chat_aliases:
            self._chats.learn(tenure.shard, record)
        left = tenure.completion.begin(position, record.tenant_id, len(data), [w.id for w in wanted])
        if not left:
            if not wanted:
                self._observer.unrouted(record)
            return
        self.builder.expect(record, wanted)
        event = BufferedEvent(tenure, position, record, len(data), now_s)
        for webhook_id in left:
            chat = self._chats.chat_of(tenure, webhook_id, record) if webhook_id in self._ordered else None
            delivery = Delivery(event, webhook_id, delivery_id(record.event_key, webhook_id), chat)
            lane = self._buffer.put(delivery)
            if chat is not None and chat.parked:
                self._settling.park(delivery)
            elif now_s >= lane.asked_again_s:
                self._serve(lane, now_s)

    def resume(self, tenure: Tenure, claimed: Claimed) -> None:
        """A claimed delivery: attempted now, or handed back where the world has changed since it was asked for."""
        now_s = self._clocks.monotonic_s()
        try:
            record, unreadable = decode(claimed.record), None
        except CorruptRecord as exc:
            record, unreadable = sealed(claimed.record, claimed.event_key), str(exc)
        event = BufferedEvent(tenure, claimed.position, record, len(claimed.record), now_s)
        chat = None if claimed.chat is None else self._chats.claimed(tenure, claimed.webhook_id, claimed.chat)
        delivery = Delivery(event, claimed.webhook_id, claimed.delivery_id, chat)
        delivery.attempts = claimed.attempts
        delivery.claim = claimed.claim
        delivery.parked_for_s = claimed.parked_for_s
        self._buffer.hold(delivery)
        if unreadable is None:
            self._admit_retry(delivery, now_s)
        else:
            self._settling.dead(delivery, DeadReason.INTERNAL_ERROR, error=unreadable, attempted=False)

    def _admit_retry(self, delivery: Delivery, now_s: float) -> None:
        webhook = self._catalog.webhooks.get(delivery.webhook_id)
        if webhook is None or webhook.tenant_id != delivery.event.record.tenant_id:
            self._settling.dead(delivery, DeadReason.WEBHOOK_DELETED, error=DELETED, attempted=False)
        elif webhook.id in self.disabled:
            self._settling.dead(delivery, DeadReason.WEBHOOK_DISABLED, error=self.disabled[webhook.id].why, attempted=False)
        elif webhook.id in self.paused:
            self._settling.hand_back(delivery, 0.0)
        else:
            admission = self._bulkheads.admit(webhook, now_s, retry=True, firsts_wait=self._buffer.waiting > 0)
            if admission.verdict is Verdict.START and not self.is_closing:
                self._start(delivery, self._buffer.lane(webhook.id), webhook, now_s)
            else:
                self._settling.hand_back(delivery, max(SUSPECT_PARK_S, admission.reopen_in_s))

    def bury(self, tenure: Tenure, unopened: Unopened, reason: DeadReason, why: str) -> None:
        """A record that cannot, or must not, be opened belongs to no webhook we can know: one dead letter, its bytes kept."""
        position, tenant_id, data = unopened
        if not tenure.completion.begin(position, tenant_id, len(data), [NOBODY]):
            return  # an earlier owner has buried it
        record = sealed(data, EventKey(f"unreadable:{tenure.shard}:{position}"), tenant_id)
        event = BufferedEvent(tenure, position, record, len(data), self._clocks.monotonic_s())
        delivery = Delivery(event, NOBODY, delivery_id(EventKey(event.record.event_key), NOBODY))
        self._buffer.hold(delivery)
        self._settling.dead(delivery, reason, error=why, attempted=False)

    # -- lanes to attempts -----------------------------------------------------------------------------------------

    def _serve(self, lane: Lane, now_s: float) -> None:
        """Starts what of this lane can start now; parks what must not wait in memory."""
        webhook = self._catalog.webhooks.get(lane.webhook_id)
        while lane.waiting:
            delivery = lane.waiting[0]
            if self.is_closing:
                return
            if not delivery.event.tenure.may_write(now_s):
                self._queue_up(lane)  # renewed or suspended within moments; nobody else would come back for this lane
                return
            if webhook is None or webhook.id in self.disabled:
                why = DELETED if webhook is None else self.disabled[webhook.id].why
                reason = DeadReason.WEBHOOK_DELETED if webhook is None else DeadReason.WEBHOOK_DISABLED
                self._bury_with_line(self._buffer.take(lane), reason, why)
                continue
            if webhook.id in self.paused:
                self._put_aside(lane)
                return
            admission = self._bulkheads.admit(webhook, now_s, retry=False, firsts_wait=False)
            if admission.verdict is Verdict.START and (self.accepts_suspects or not self._bulkheads.is_suspect(webhook.id)):
                self._start(self._buffer.take(lane), lane, webhook, now_s)
            elif admission.verdict is Verdict.WAIT:
                self._wait(lane, now_s)
                return
            else:
                self._settling.park(self._buffer.take(lane), due_in_s=max(SUSPECT_PARK_S, admission.reopen_in_s))

    def _put_aside(self, lane: Lane) -> None:
        """Of a paused webhook; a long lane in several turns, between which the loop serves others."""
        for _ in range(min(PUT_ASIDE_AT_ONCE, len(lane.waiting))):
            self._settling.park(self._buffer.take(lane))
        if lane.waiting:
            self._queue_up(lane)

    def _bury_with_line(self, delivery: Delivery, reason: DeadReason, why: str) -> None:
        """Nobody will be asked any more: whoever waits behind it in its chat has nothing to wait for."""
        line = self._buffer.take_line(delivery.chat) if delivery.chat is not None else ()
        for each in (delivery, *line):
            self._settling.dead(each, reason, error=why, attempted=False)

    def _wait(self, lane: Lane, now_s: float) -> None:
        """A lane whose own slots are busy is woken by them; one that waits for somebody else's queues up."""
        if lane.in_flight == 0:
            self._queue_up(lane)
        lane.asked_again_s = now_s + ASK_AGAIN_S

    def _stepped_up(self, lane: Lane) -> None:
        if lane is not self._finishing:
            self._queue_up(lane)

    def _queue_up(self, lane: Lane) -> None:
        if not lane.is_hungry:
            lane.is_hungry = True
            self._hungry.append(lane)

    def serve_hungry(self, tries: int = TRIES_PER_FREED_SLOT) -> None:
        """Gives lanes that wait for a slot of somebody else their turn, in the order they came."""
        now_s = self._clocks.monotonic_s()
        for _ in range(min(tries, len(self._hungry))):
            lane = self._hungry.popleft()
            lane.is_hungry = False
            self._serve(lane, now_s)

    def serve_all(self) -> None:
        """Every lane once: after a tenure was resumed, or when draining, a pause or a disable changes the rules."""
        now_s = self._clocks.monotonic_s()
        for lane in list(self._buffer.lanes()):
            lane.asked_again_s = 0.0
            self._serve(lane, now_s)

    def _start(self, delivery: Delivery, lane: Lane, webhook: Webhook, now_s: float) -> None:
        slot = self._bulkheads.begin(webhook, now_s, retry=delivery.claim is not None)
        patience_s = webhook.deadline_s if self.cutoff_s is None else min(webhook.deadline_s, max(0.0, self.cutoff_s - now_s))
        loop = asyncio.get_running_loop()
        # On the loop's clock: ours counts a suspended machine, the loop's does not, and the loop's is what the transport sweeps by.
        attempt = Attempt(delivery, webhook, slot, now_s, Deadline("webhook_attempt", loop.time() + patience_s))
        self.under_way.add(attempt)
        lane.in_flight += 1
        attempt.task = loop.create_task(self._attempt(attempt))

    # -- attempts to outcomes --------------------------------------------------------------------------------------

    async def _attempt(self, attempt: Attempt) -> None:
        """One POST under its deadline. Ends in `_finish`, whatever happens."""
        stage = Stage.QUEUE
        try:
            request = await self.builder.build(attempt.webhook, attempt.delivery, attempt)
            stage = Stage.SEND
            result = await self._transport.deliver(request, attempt.deadline)
        except asyncio.CancelledError:
            self._abandon(attempt)
            raise
        except Exception as exc:  # noqa: BLE001 -- a fault of ours with this one event must not end the lane (design 3)
            result = Failure(stage=stage, cause=Cause.INTERNAL, detail=place_of(exc))
            self._report_fault(attempt, result)
        self._finish(attempt, result)

    def _report_fault(self, of: Attempt, result: Failure) -> None:
        log.error("attempt_failed_inside", cause=result.detail, webhook=of.webhook.id, event_key=of.delivery.event.record.event_key)

    def _finish(self, attempt: Attempt, result: Answer | Failure) -> None:
        """Decides, frees the slot, settles, and gives the slot to whoever waits."""
        now_s = self._clocks.monotonic_s()
        delivery = attempt.delivery
        outcome = self._outcome(attempt, result, now_s)
        is_ok = isinstance(outcome, Delivered)
        self._observer.attempted(attempt, result, outcome, now_s)
        freed_as = SlotResult.ANSWERED_OK if is_ok else SlotResult.FAILED
        if isinstance(result, Failure) and result.cause is Cause.FORBIDDEN:
            freed_as = SlotResult.CANCELLED  # never called: did its circuit open, its dead letters would trickle out for days
        lane = self._free(attempt, freed_as, now_s)
        self.standing.attempted(delivery.webhook_id, result, outcome)
        if is_ok:
            self._buffer.note_completed(lane, now_s)
        error = "" if is_ok else describe(result)
        if attempt.claiming is not None:
            attempt.early = (outcome, error)
        else:
            self._finishing = lane
            self.settle(delivery, outcome, error)
            self._finishing = None
        if lane.waiting:
            self._serve(lane, now_s)
        if self._hungry:
            self.serve_hungry()

    def _outcome(self, attempt: Attempt, result: Answer | Failure, now_s: float) -> Outcome:
        if isinstance(result, Answer) and 200 <= result.status < 300:  # noqa: PLR2004 (2xx: nothing to decide)
            return DELIVERED
        if isinstance(result, Failure) and result.cause is Cause.INTERNAL and result.stage is Stage.QUEUE:
            return Dead(DeadReason.INTERNAL_ERROR)  # ours, before the transport had it; a network attempt is never poison
        age_s = attempt.delivery.parked_for_s + now_s - attempt.delivery.event.read_at_s
        return decide(
            result,
            attempts_made=attempt.delivery.attempts + 1,
            age_s=age_s - self.standing.time_paused_s(attempt.webhook.id, age_s),
            policy=self._policy,
            unit_random=self._clocks.unit_random(),
            wall_now_s=self._clocks.wall_s(),
        )

    def settle(self, delivery: Delivery, outcome: Outcome, error: str) -> None:
        """Writes an outcome: to the tracker, the retry queue or the dead letters."""
        if isinstance(outcome, Delivered):
            self._settling.delivered(delivery)
        elif isinstance(outcome, RetryAt):
            reopen_in_s = self._bulkheads.circuit(delivery.webhook_id)[1]
            self._settling.retry(delivery, max(outcome.delay_s, reopen_in_s), error=error)
        else:
            self._settling.dead(delivery, outcome.reason, error=error)

    def _free(self, attempt: Attempt, result: SlotResult, now_s: float) -> Lane:
        self.under_way.remove(attempt)
        self._bulkheads.end(attempt.slot, result, now_s)
        lane = self._buffer.lane(attempt.webhook.id)
        lane.in_flight -= 1
        lane.asked_again_s = 0.0
        return lane

    def _abandon(self, attempt: Attempt) -> None:
        """Cancelled before an outcome: nothing counted. A claim is handed back at once, the rest stays in the journal."""
        now_s = self._clocks.monotonic_s()
        self._observer.abandoned(attempt, now_s)
        self._free(attempt, SlotResult.CANCELLED, now_s)
        if attempt.delivery.claim is not None:
            self._settling.hand_back(attempt.delivery, 0.0)
        else:
            self._settling.leave_to_journal(attempt.delivery)

    # -- the sweep -------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Every 20 ms: who has become suspect (what waits for them is parked), who may start now."""
        now_s = self._clocks.monotonic_s()
        for webhook_id in self._bulkheads.sweep(now_s):
            self._serve(self._buffer.lane(webhook_id), now_s)
        self.serve_hungry(256)

    # -- seen ------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return len(self.under_way)

    def is_held_up_by_suspects(self) -> bool:
        """Nothing waits, and every attempt under way is a suspect's: draining longer helps nobody healthy."""
        return self._buffer.waiting == 0 and all(self._bulkheads.is_suspect(a.webhook.id) for a in self.under_way)

    def oldest_age_s(self) -> float:
        """Of what was read and is neither delivered nor parked."""
        ages = [lane.waiting[0].event.read_at_s for lane in self._buffer.lanes() if lane.waiting]
        ages += [a.delivery.event.read_at_s for a in self.under_way]
        return self._clocks.monotonic_s() - min(ages) if ages else 0.0

    def statistics(self) -> dict[str, object]:
        return {
            "in_flight": self.in_flight,
            "hungry_lanes": len(self._hungry),
            "oldest_age_s": round(self.oldest_age_s(), 3),
            "disabled_webhooks": sorted(self.disabled),
            "paused_webhooks": sorted(self.paused),
            "bulkheads": dict(self._bulkheads.statistics()),
        }
