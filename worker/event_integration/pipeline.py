"""The pipeline: an event that was read becomes deliveries in lanes, a lane's oldest becomes an attempt, its outcome is settled.

```
 take_in ──▶ lane ──admit──▶ attempt ──▶ outcome ──▶ settling
   (reader)    │ open, suspect without a place, behind its pace
               ▼
 resume ────▶ (attempt)            retry queue
   (retry pump)
```

Owns the attempts under way. Decides nothing itself: routing, admission and outcome are pure and live next door. Hot path:
one asyncio task per attempt; nobody's endpoint is awaited by anybody else.

A delivery is in exactly one place: a lane, under way (`_attempts`), or in `Settling`. `_finish` and `hold_as_claim` meet
in `Attempt.claiming`: an attempt may end while its claim is being written, and then its outcome waits for the claim's id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread
import structlog

from worker.client_registry.tenure import Tenure, TenureState
from worker.domain.catalog import Catalog, Webhook
from worker.domain.deadline import Deadline
from worker.domain.errors import CorruptRecord
from worker.domain.ids import EventKey, Position, Shard, TenantId, WebhookId, delivery_id
from worker.domain.record import decode, sealed
from worker.event_buffer.lanes import BufferedEvent, Delivery, EventBuffer, Lane
from worker.event_integration.bulkheads import Bulkheads, Slot, SlotResult, Verdict
from worker.event_integration.observing import Observer
from worker.event_integration.outcome import Dead, Delivered, Outcome, RetryAt, RetryPolicy, decide
from worker.event_integration.release import ReleaseRates
from worker.event_integration.request import PreparedWebhook
from worker.event_integration.retry_queue import Claimed, DeadReason, Parked
from worker.event_integration.routing import Router
from worker.event_integration.settling import CLAIM_GRACE_S, Settling
from worker.event_integration.transport import Answer, Cause, Failure, Request, Stage, Transport

log = structlog.get_logger()

SUSPECT_PARK_S = 1.0
OFF_LOOP_BYTES = 64 << 10
SLOW_EVENT_S = 5.0
TRIES_PER_FREED_SLOT = 8


class Attempt:
    """One POST under way. `claiming`: its claim is being written, so an outcome that comes first waits in `early`."""

    __slots__ = ("claiming", "deadline", "delivery", "early", "is_retry", "slot", "started_s", "task", "webhook")

    def __init__(self, delivery: Delivery, webhook: Webhook, slot: Slot, started_s: float, deadline: Deadline) -> None:
        self.delivery = delivery
        self.webhook = webhook
        self.slot = slot
        self.started_s = started_s
        self.deadline = deadline
        self.is_retry = delivery.claim is not None
        self.claiming = False
        self.early: tuple[Outcome, str] | None = None
        self.task: asyncio.Task[None] | None = None


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
    buffer: EventBuffer
    bulkheads: Bulkheads
    transport: Transport
    settling: Settling
    policy: RetryPolicy
    clocks: Clocks
    observer: Observer
    rates: ReleaseRates


class Pipeline:
    """Not thread-safe. Every method but `close` is synchronous; attempts run in tasks that it owns."""

    def __init__(self, parts: Parts) -> None:
        self._catalog = parts.catalog
        self._buffer = parts.buffer
        self._bulkheads = parts.bulkheads
        self._transport = parts.transport
        self._settling = parts.settling
        self._policy = parts.policy
        self._clocks = parts.clocks
        self._observer = parts.observer
        self._rates = parts.rates
        self._router = Router(parts.catalog)
        self._prepared: dict[WebhookId, PreparedWebhook] = {}
        self._attempts: dict[Delivery, Attempt] = {}
        self._hungry: deque[Lane] = deque()
        self._aside: dict[Shard, list[Delivery]] = {}
        self._slot_freed = asyncio.Event()
        self.disabled: set[WebhookId] = set()
        """Webhooks that said 410: routed to no more; what waits for them becomes dead letters."""
        self.cutoff_s: float | None = None
        """While draining: no attempt runs beyond this instant."""
        self.accepts_suspects = True
        """False while draining alone: a webhook that is suspect or whose circuit is open starts nothing more."""
        self.is_closing = False

    # -- in --------------------------------------------------------------------------------------------------------

    def take_in(self, tenure: Tenure, position: Position, data: bytes) -> None:
        """An event from the journal: routed, and its deliveries put into their lanes. Never raises for what is in it."""
        now_s = self._clocks.monotonic_s()
        try:
            record = decode(data)
            webhooks = self._router.routes(record)
        except CorruptRecord as exc:
            self._bury_unreadable(tenure, position, data, str(exc))
            return
        wanted = [w for w in webhooks if w.id not in self.disabled] if self.disabled else webhooks
        left = tenure.completion.begin(position, TenantId(record.tenant_id), len(data), [w.id for w in wanted])
        self._observer.read(record, routed=len(wanted))
        if not left:
            return
        event = BufferedEvent(tenure, position, record, len(data), now_s)
        for webhook_id in left:
            self._rates.count_routed(webhook_id, now_s)
            lane = self._buffer.put(Delivery(event, webhook_id, delivery_id(EventKey(record.event_key), webhook_id)))
            self._serve(lane, now_s)

    def resume(self, tenure: Tenure, claimed: Claimed) -> None:
        """A claimed delivery: attempted now, or handed back where the world has changed since it was asked for."""
        now_s = self._clocks.monotonic_s()
        event = BufferedEvent(tenure, claimed.position, decode(claimed.record), len(claimed.record), now_s)
        delivery = Delivery(event, claimed.webhook_id, claimed.delivery_id)
        delivery.attempts = claimed.attempts
        delivery.claim = claimed.claim
        delivery.parked_for_s = claimed.parked_for_s
        self._buffer.hold(delivery)
        webhook = self._catalog.webhooks.get(claimed.webhook_id)
        if webhook is None:
            self._settling.dead(delivery, DeadReason.WEBHOOK_DELETED, error="the webhook is not declared any more", attempted=False)
        elif webhook.id in self.disabled:
            self._settling.dead(delivery, DeadReason.WEBHOOK_DISABLED, error="the webhook answered 410", attempted=False)
        else:
            admission = self._bulkheads.admit(webhook, now_s, retry=True, firsts_wait=self._buffer.waiting > 0)
            if admission.verdict is Verdict.START and not self.is_closing:
                self._start(delivery, webhook, now_s)
            else:
                self._settling.hand_back(delivery, max(SUSPECT_PARK_S, admission.reopen_in_s))

    def _bury_unreadable(self, tenure: Tenure, position: Position, data: bytes, why: str) -> None:
        """A record that cannot be opened belongs to no webhook we can know: one dead letter, its bytes kept."""
        nobody = WebhookId("-")
        tenure.completion.begin(position, TenantId("-"), len(data), [nobody])
        record = sealed(data, EventKey(f"unreadable:{tenure.shard}:{position}"))
        event = BufferedEvent(tenure, position, record, len(data), self._clocks.monotonic_s())
        delivery = Delivery(event, nobody, delivery_id(EventKey(event.record.event_key), nobody))
        self._buffer.hold(delivery)
        self._settling.dead(delivery, DeadReason.INTERNAL_ERROR, error=why, attempted=False)

    # -- lanes to attempts -----------------------------------------------------------------------------------------

    def _serve(self, lane: Lane, now_s: float) -> None:
        """Starts what of this lane can start now; parks what must not wait in memory."""
        webhook = self._catalog.webhooks.get(lane.webhook_id)
        while lane.waiting:
            delivery = lane.waiting[0]
            if self.is_closing or not delivery.event.tenure.may_write(now_s):
                return
            if webhook is None or webhook.id in self.disabled:
                self._settling.dead(self._buffer.take(lane), DeadReason.WEBHOOK_DISABLED, error="the webhook answered 410", attempted=False)
                continue
            admission = self._bulkheads.admit(webhook, now_s, retry=False, firsts_wait=False)
            if admission.verdict is Verdict.START and (self.accepts_suspects or not self._bulkheads.is_suspect(webhook.id)):
                self._start(self._buffer.take(lane), webhook, now_s)
            elif admission.verdict is Verdict.WAIT:
                self._wait(lane, now_s)
                return
            else:
                self._settling.park(self._buffer.take(lane), due_in_s=max(SUSPECT_PARK_S, admission.reopen_in_s))

    def _wait(self, lane: Lane, now_s: float) -> None:
        """A lane whose own slots are busy is woken by them; one that waits for somebody else's queues up. What exceeds its pace spills."""
        if lane.in_flight == 0 and not lane.is_hungry:
            lane.is_hungry = True
            self._hungry.append(lane)
        for delivery in self._buffer.take_newest(lane, self._buffer.excess(lane, now_s)):
            self._settling.park(delivery)

    def serve_hungry(self, tries: int = TRIES_PER_FREED_SLOT) -> None:
        """Gives lanes that wait for a slot of somebody else their turn, in the order they came."""
        now_s = self._clocks.monotonic_s()
        for _ in range(min(tries, len(self._hungry))):
            lane = self._hungry.popleft()
            lane.is_hungry = False
            self._serve(lane, now_s)

    def serve_all(self) -> None:
        """Every lane once: after a tenure was resumed, or when draining changes the rules."""
        now_s = self._clocks.monotonic_s()
        for lane in list(self._buffer.lanes()):
            self._serve(lane, now_s)

    def _start(self, delivery: Delivery, webhook: Webhook, now_s: float) -> None:
        slot = self._bulkheads.begin(webhook, now_s, retry=delivery.claim is not None)
        at_s = now_s + webhook.deadline_s
        deadline = Deadline(name="webhook_attempt", at_s=at_s if self.cutoff_s is None else min(at_s, self.cutoff_s))
        attempt = Attempt(delivery, webhook, slot, now_s, deadline)
        self._attempts[delivery] = attempt
        self._buffer.lane(webhook.id).in_flight += 1
        attempt.task = asyncio.get_running_loop().create_task(self._attempt(attempt))

    # -- attempts to outcomes --------------------------------------------------------------------------------------

    async def _attempt(self, attempt: Attempt) -> None:
        """One POST under its deadline. Ends in `_finish`, whatever happens."""
        try:
            request = await self._request(attempt)
            result = await self._transport.deliver(request, self._on_loop_clock(attempt.deadline))
        except asyncio.CancelledError:
            self._abandon(attempt)
            raise
        except Exception as exc:  # a fault of ours with this one event must not end the lane (design 3)
            log.exception("attempt_failed_inside", webhook=attempt.webhook.id, event_key=attempt.delivery.event.record.event_key)
            result = Failure(stage=Stage.QUEUE, cause=Cause.INTERNAL, detail=type(exc).__name__)
        self._finish(attempt, result)

    def _on_loop_clock(self, deadline: Deadline) -> Deadline:
        """The same instant on the loop's clock: ours counts a suspended machine, the loop's does not."""
        left_s = deadline.left_s(self._clocks.monotonic_s())
        return Deadline(name=deadline.name, at_s=asyncio.get_running_loop().time() + left_s)

    async def _request(self, attempt: Attempt) -> Request:
        webhook, delivery = attempt.webhook, attempt.delivery
        prepared = self._prepared.get(webhook.id)
        if prepared is None or prepared.webhook is not webhook:
            prepared = self._prepared[webhook.id] = PreparedWebhook(webhook)
        event = delivery.event
        if event.size <= OFF_LOOP_BYTES:
            return prepared.request(event.record, delivery.delivery_id, delivery.attempts + 1, event.tenure.token, self._clocks.wall_s())
        return await anyio.to_thread.run_sync(
            prepared.request, event.record, delivery.delivery_id, delivery.attempts + 1, event.tenure.token, self._clocks.wall_s()
        )

    def _finish(self, attempt: Attempt, result: Answer | Failure) -> None:
        """Decides, frees the slot, settles, and gives the slot to whoever waits."""
        now_s = self._clocks.monotonic_s()
        delivery = attempt.delivery
        outcome = self._outcome(attempt, result, now_s)
        is_ok = isinstance(outcome, Delivered)
        self._observer.attempted(attempt, result, outcome, now_s)
        lane = self._free(attempt, SlotResult.ANSWERED_OK if is_ok else SlotResult.FAILED, now_s)
        if isinstance(outcome, Dead) and outcome.disables_webhook:
            self.disabled.add(delivery.webhook_id)
            log.warning("webhook_disabled", webhook=delivery.webhook_id, cause="the endpoint answered 410")
        if is_ok:
            lane.note_completed(now_s)
        error = describe(result)
        if attempt.claiming:
            attempt.early = (outcome, error)
        else:
            self._settle(delivery, outcome, error)
        self._serve(lane, now_s)
        self.serve_hungry()

    def _outcome(self, attempt: Attempt, result: Answer | Failure, now_s: float) -> Outcome:
        if isinstance(result, Failure) and result.cause is Cause.INTERNAL and result.stage is Stage.QUEUE:
            return Dead(DeadReason.INTERNAL_ERROR)  # ours, before the transport had it; a network attempt is never poison
        return decide(
            result,
            attempts_made=attempt.delivery.attempts + 1,
            age_s=attempt.delivery.parked_for_s + now_s - attempt.delivery.event.read_at_s,
            policy=self._policy,
            unit_random=self._clocks.unit_random(),
            wall_now_s=self._clocks.wall_s(),
        )

    def _settle(self, delivery: Delivery, outcome: Outcome, error: str) -> None:
        if isinstance(outcome, Delivered):
            self._settling.delivered(delivery)
        elif isinstance(outcome, RetryAt):
            reopen_in_s = self._bulkheads.circuit(delivery.webhook_id)[1]
            self._settling.retry(delivery, max(outcome.delay_s, reopen_in_s), error=error)
        else:
            self._settling.dead(delivery, outcome.reason, error=error)

    def _free(self, attempt: Attempt, result: SlotResult, now_s: float) -> Lane:
        del self._attempts[attempt.delivery]
        self._bulkheads.end(attempt.slot, result, now_s)
        lane = self._buffer.lane(attempt.webhook.id)
        lane.in_flight -= 1
        self._slot_freed.set()
        return lane

    def _abandon(self, attempt: Attempt) -> None:
        """Cancelled before an outcome: nothing counted. A claim is handed back at once, the rest stays in the journal."""
        self._free(attempt, SlotResult.CANCELLED, self._clocks.monotonic_s())
        if attempt.delivery.claim is not None:
            self._settling.hand_back(attempt.delivery, 0.0)
        else:
            self._settling.leave_to_journal(attempt.delivery)

    # -- the sweep -------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Every 20 ms: who has become suspect, who may start now."""
        self._bulkheads.sweep(self._clocks.monotonic_s())
        self.serve_hungry(256)

    def report_slow(self) -> None:
        """Every second: an event older than 5 s in the pipeline is logged once, with stage and webhook."""
        now_s = self._clocks.monotonic_s()
        for attempt in self._attempts.values():
            self._report_if_slow(attempt.delivery, "attempt", now_s)
        for lane in self._buffer.lanes():
            if lane.waiting:
                self._report_if_slow(lane.waiting[0], "queue", now_s)

    def _report_if_slow(self, delivery: Delivery, stage: str, now_s: float) -> None:
        age_s = now_s - delivery.event.read_at_s
        if age_s > SLOW_EVENT_S and not delivery.slow_reported:
            delivery.slow_reported = True
            log.warning(
                "event_is_slow", stage=stage, webhook=delivery.webhook_id, event_key=delivery.event.record.event_key, age_s=round(age_s, 1)
            )

    # -- leaving ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return len(self._attempts)

    def attempts_of(self, tenure: Tenure | None = None) -> list[Attempt]:
        """Attempts under way that still count against the journal (of one tenure, or of all)."""
        return [a for a in self._attempts.values() if a.delivery.claim is None and (tenure is None or a.delivery.event.tenure is tenure)]

    def is_held_up_by_suspects_only(self) -> bool:
        """Nothing waits, and every attempt under way is a suspect's: draining longer helps nobody healthy."""
        return self._buffer.waiting == 0 and all(self._bulkheads.is_suspect(a.webhook.id) for a in self._attempts.values())

    def oldest_age_s(self) -> float:
        """Of what was read and is neither delivered nor parked."""
        ages = [lane.waiting[0].event.read_at_s for lane in self._buffer.lanes() if lane.waiting]
        ages += [a.delivery.event.read_at_s for a in self._attempts.values()]
        return self._clocks.monotonic_s() - min(ages) if ages else 0.0

    async def hold_as_claims(self, attempts: Sequence[Attempt], *, deadline: Deadline) -> int:
        """Turns attempts under way into claims; they go on. Answers how many could not be (they stay in the journal).

        An attempt that ends meanwhile is settled by its new claim. After a stale token or an absent store the attempts are as before.
        """
        futures = []
        for attempt in attempts:
            visible_in_s = attempt.deadline.left_s(self._clocks.monotonic_s()) + CLAIM_GRACE_S
            future = self._settling.park_as_claim(attempt.delivery, visible_in_s=visible_in_s)
            if future is not None:
                attempt.claiming = True
                futures.append((attempt, future))
        if futures:
            with anyio.move_on_after(deadline.left_s(self._clocks.monotonic_s())):
                await asyncio.wait([future for _, future in futures])
        return len(attempts) - sum(self._claim_answered(attempt, future) for attempt, future in futures)

    def _claim_answered(self, attempt: Attempt, future: asyncio.Future[Parked]) -> bool:
        attempt.claiming = False
        answered = future.done() and not future.cancelled() and future.exception() is None
        claim = future.result().claim if answered else None
        delivery = attempt.delivery
        if claim is not None:
            delivery.claim = claim
            delivery.event.tenure.completion.relieve(delivery.event.position, delivery.webhook_id)
        if attempt.early is not None:
            self._settle(delivery, *attempt.early)
        return claim is not None

    def drop_waiting(self, tenure: Tenure, begun: Iterable[Position] = ()) -> list[WebhookId]:
        """Empties the lanes of a tenure: deliveries of begun events are parked, the rest is left in the journal. Answers whose were parked."""
        positions = set(begun)
        parked = []
        for delivery in self._buffer.remove(tenure):
            if delivery.event.position in positions and tenure.state is TenureState.ACTIVE:
                self._settling.park(delivery)
                parked.append(delivery.webhook_id)
            else:
                self._settling.leave_to_journal(delivery)
        return parked

    def park_before(self, tenure: Tenure, position: Position) -> None:
        """The gap is too wide: whatever of a tenure waits in a lane from before `position` is parked. (Attempts under way: `hold_as_claims`.)"""
        for delivery in self._buffer.remove(tenure, before=position):
            self._settling.park(delivery)

    def suspend(self, tenure: Tenure) -> None:
        """The lease is in doubt: what waits leaves the lanes and is kept aside; attempts under way go on."""
        self._aside[tenure.shard] = list(self._buffer.remove(tenure))

    def go_on(self, tenure: Tenure) -> None:
        """The lease came back and nobody else held it: what was kept aside goes to the front of its lanes."""
        for delivery in reversed(self._aside.pop(tenure.shard, [])):
            self._buffer.put_back(delivery)
        self.serve_all()

    def forget(self, tenure: Tenure) -> None:
        """The tenure has ended: the journal has what it held; outcomes of attempts under way are dropped (claims settle by themselves)."""
        for delivery in (*self._aside.pop(tenure.shard, []), *self._buffer.remove(tenure)):
            self._settling.leave_to_journal(delivery)

    async def wait_for_slot(self, within_s: float) -> None:
        """Until an attempt ends, at most `within_s`."""
        self._slot_freed.clear()
        with anyio.move_on_after(within_s):
            await self._slot_freed.wait()

    async def cancel_attempts(self, *, within_s: float) -> int:
        """Cancels every attempt under way and waits for them to end; answers how many are stuck."""
        tasks = [a.task for a in self._attempts.values() if a.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.move_on_after(within_s):
                await asyncio.wait(tasks)
        return len(self._attempts)

    def statistics(self) -> dict[str, object]:
        return {
            "in_flight": self.in_flight,
            "hungry_lanes": len(self._hungry),
            "oldest_age_s": round(self.oldest_age_s(), 3),
            "disabled_webhooks": sorted(self.disabled),
            "bulkheads": dict(self._bulkheads.statistics()),
        }


def describe(result: Answer | Failure) -> str:
    """The result as an operator reads it in a dead letter: no payload, no URL, no secret."""
    if isinstance(result, Answer):
        return f"HTTP {result.status}"
    return f"{result.cause} at {result.stage}" + (f": {result.detail}" if result.detail else "")
