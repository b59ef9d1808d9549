"""The way down: PREPARE, QUIESCE, DRAIN, SPILL, TEARDOWN, HANDOVER, EXIT (design 5), under one absolute deadline.

```
 signal                                                                                        deadline
   │ PREPARE ≤1s │ QUIESCE ≤5s │ DRAIN ≤60s              │◀────────── reserve: ⅓, ≤ 33 s ──────────▶│
   │             │             │                         │ SPILL ≤15s │ TEARDOWN ≤10s │ HANDOVER ≤5s │ EXIT
```

Phases hand on what they do not use. The order is typed: a shard is released by a `Checkpointed`, which is made from
`SocketsClosed`, `Drained`, `Quiesced` (`client_registry/proofs.py`), and `tear_down` wants the `Drained` of every shard held.
The steps of one shard are `handover.py`'s, which also moves one while the worker runs on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import structlog

from worker.client_registry.heirs import Heirs
from worker.client_registry.port import Member
from worker.client_registry.proofs import Drained
from worker.client_registry.registry import Registry
from worker.client_registry.rotation import UNTOLD, rotation
from worker.client_registry.tenure import Tenure
from worker.domain.deadline import Deadline
from worker.domain.errors import StaleToken
from worker.domain.ids import Position, Shard, WebhookId
from worker.drain_report import PhaseTime, ShardAccount
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.attempts import UnderWay
from worker.event_integration.checkpointer import Checkpointer
from worker.event_integration.pipeline import Pipeline
from worker.event_integration.reader import Reader
from worker.event_integration.retry_pump import RetryPump
from worker.event_integration.settling import Settling
from worker.handover import AWAY, Handover
from worker.metrics import Metrics

log = structlog.get_logger()

AT_MOST_S = {"prepare": 1.0, "quiesce": 5.0, "drain": 60.0, "spill": 15.0, "teardown": 10.0, "handover": 5.0}
RESERVE_SHARE = 1 / 3
RESERVE_AT_MOST_S = 33.0
SUSPECTS_GRACE_S = 1.0
GRANT_UNDER_WAY_S = 0.6
"""For a lease that was being granted when the signal came; part of PREPARE's second."""
HAND_OVER_ABREAST = 4
"""Shards given up at a time: few, so that the others are read on; several, because a store that syncs each write syncs once for them."""
PREPARED_WITHIN_S = 15.0
"""For heirs whose sessions have to connect first; a third of DRAIN at most."""
NEWS_WITHIN_S = 0.5
TURN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What is drained, in the order of the way of an event. `shut_door`: from here on ingest answers 503 `DRAINING`."""

    registry: Registry
    reader: Reader
    retry_pump: RetryPump
    buffer: EventBuffer
    pipeline: Pipeline
    under_way: UnderWay
    settling: Settling
    checkpointer: Checkpointer
    handover: Handover
    leave_door: Callable[[], None]
    shut_door: Callable[[], None]
    close_streams: Callable[[float], Awaitable[None]]
    """Within so many seconds."""
    metrics: Metrics


class Shutdown:
    """`run` once, after the first signal. Leaves the accounts, the phases and what is left over for the report."""

    def __init__(
        self, rooms: Rooms, *, signal_at_s: float, budget_s: float, clock: Callable[[], float], spill_asked: Callable[[], bool]
    ) -> None:
        self._rooms = rooms
        self._signal_at_s = signal_at_s
        self._clock = clock
        self._spill_asked = spill_asked
        self.deadline = Deadline(name="shutdown", at_s=signal_at_s + budget_s)
        self._reserve_s = min(RESERVE_AT_MOST_S, budget_s * RESERVE_SHARE)
        self.phases: list[PhaseTime] = []
        self.phase = "prepare"
        self.accounts: dict[Shard, ShardAccount] = {}
        self._counted: dict[Shard, Tenure] = {}
        """Whose work each account counts."""
        self._heirs = Heirs(rooms.registry, clock)
        self.rotation = UNTOLD
        self.is_told_to_stop: Callable[[], Awaitable[bool | None]] = _untold
        """Asks the platform, within half a second, whether it wants us gone; None where there is none or it does not say."""
        self._is_told: bool | None = None
        self.at_signal: dict[str, float] = {}
        self.spilled_events = 0
        self.spilled_webhooks: set[WebhookId] = set()
        self.unconfirmed = 0
        self.claims_left = 0
        self._drained: dict[Shard, Drained] = {}

    # -- the phases ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """All phases. Each is bounded; none raises for a store that is away."""
        async with self._phase("prepare", self._before_reserve()), anyio.create_task_group() as preparing:
            preparing.start_soon(self._ask_platform)
            await self._prepare()
        async with self._phase("quiesce", self._before_reserve()):
            self._quiesce()
        async with self._phase("drain", self._before_reserve()):
            await self._drain()
        async with self._phase("spill", self.deadline.at_s):
            await self._spill()
        async with self._phase("teardown", self.deadline.at_s):
            self._leave_to_their_leases([t for t in self._rooms.registry.active() if t.shard not in self._drained])
            await self.tear_down([self._drained[t.shard] for t in self._rooms.registry.active()])
        async with self._phase("handover", self.deadline.at_s):
            await self._hand_over_rest()
        self._leave_to_their_leases(self._rooms.registry.held())
        self._close_accounts()
        async with self._phase("exit", self.deadline.at_s - min(1.0, self._reserve_s / 10)):
            await self._await_claims()

    async def _prepare(self) -> None:
        """Who comes after me; nothing new is claimed or acquired from here."""
        rooms = self._rooms
        rooms.registry.is_draining = True
        rooms.retry_pump.is_stopped = True
        rooms.leave_door()
        self.at_signal = {
            "buffered": rooms.buffer.events,
            "in_flight": rooms.pipeline.in_flight,
            "retry_queue": rooms.retry_pump.depth,
            "oldest_age_s": round(rooms.pipeline.oldest_age_s(), 3),
        }
        for tenure in rooms.registry.active():
            self._open_account(tenure, tenure.completion.cursor)
        await self._heirs.find()
        await self._count_journals()
        self.at_signal["journal_backlog"] = sum(a.pending_at_signal for a in self.accounts.values())

    async def _ask_platform(self) -> None:
        self._is_told = await self.is_told_to_stop()

    def _say_why(self) -> None:
        """Why am I stopping: for people. Nothing that follows goes by it."""
        rooms, successor = self._rooms, self.successor
        self.rotation = rotation(rooms.registry.identity, self._heirs.members, is_told_to_stop=self._is_told)
        rooms.metrics.worker_rotations.add(self.rotation.reason)
        log.info("rotation", reason=self.rotation.reason, reason_source=self.rotation.source, successor=successor and successor.owner)

    def _open_account(self, tenure: Tenure, tail: Position) -> None:
        self.accounts[tenure.shard] = ShardAccount.opened(tenure, tail)
        self._counted[tenure.shard] = tenure

    async def _count_journals(self) -> None:
        """What waits beyond what was read; a grant that was under way at the signal is given back first, a handover is let end."""
        rooms = self._rooms
        with anyio.move_on_after(GRANT_UNDER_WAY_S):
            await rooms.registry.nothing_under_way()
        for tenure in rooms.registry.active():
            try:
                tail = await rooms.checkpointer.save(tenure)
            except StaleToken:
                rooms.registry.refused(tenure)
                continue
            except AWAY as exc:
                log.warning("tail_unknown", shard=tenure.shard, cause=str(exc), next_step="counted from what was read")
                tail = tenure.completion.cursor
            self._open_account(tenure, tail)

    def _quiesce(self) -> None:
        """Alone: the journal is read no more; what comes in is still journalled. With a successor shards are read on until their turn.

        So they are while nobody can say whether somebody stays.
        """
        if self._heirs.members is not None and not self._heirs.of:
            self._stop_reading()

    def _stop_reading(self) -> None:
        self._rooms.reader.is_stopped = True
        self._rooms.reader.poke()

    async def _drain(self) -> None:
        """To heirs, where somebody stays; alone what is left when nobody does (any more), or nobody could say in a third of the time."""
        now_s = self._clock()
        await self._heirs.seek(until_s=now_s + self._phase_deadline.left_s(now_s) / 3, is_over=self._is_over)
        self._say_why()
        if self._heirs.of:
            await self._hand_all_over()
        if not self._heirs.of:
            self._stop_reading()
            await self._drain_alone()

    async def _hand_all_over(self) -> None:
        """Each shard once its heir is prepared, or after `PREPARED_WITHIN_S` all the same; one whose heir leaves too goes to another."""
        giving, began_s = self._rooms.registry.handing.giving, self._clock()
        patience_s = min(PREPARED_WITHIN_S, self._phase_deadline.left_s(began_s) / 3)
        while (left := [t for t in self._rooms.registry.active() if t.shard not in self._drained]) and not self._is_over():
            await self._heirs.replace_leavers([t.shard for t in left])
            if not (heirs := self._heirs.of):
                return
            prepared, is_late = giving.prepared(), self._clock() - began_s >= patience_s
            ready = [t for t in left if t.shard in heirs and (is_late or prepared.get(t.shard) == heirs[t.shard])]
            if ready:
                await self._hand_over_abreast(ready)
            else:
                await giving.wait_news(NEWS_WITHIN_S)

    async def _hand_over_abreast(self, tenures: Sequence[Tenure]) -> None:
        turns = anyio.Semaphore(HAND_OVER_ABREAST)

        async def in_turn(tenure: Tenure) -> None:
            async with turns:
                if not self._is_over():
                    await self.hand_over(tenure)

        async with anyio.create_task_group() as handing_over:
            for tenure in tenures:
                handing_over.start_soon(in_turn, tenure)

    async def _drain_alone(self) -> None:
        """Everything that a healthy webhook waits for is attempted. Suspects start nothing more; left alone they get one more second."""
        rooms = self._rooms
        rooms.pipeline.cutoff_s = self._phase_deadline.at_s
        rooms.pipeline.accepts_suspects = False
        suspects_since_s: float | None = None
        while rooms.buffer.waiting or rooms.pipeline.in_flight or rooms.settling.pending:
            now_s = self._clock()
            rooms.pipeline.serve_all()
            rooms.settling.write_again()
            if not rooms.pipeline.is_held_up_by_suspects() or not rooms.pipeline.in_flight:
                suspects_since_s = None
            elif suspects_since_s is None:
                suspects_since_s = now_s
            if self._is_over() or (suspects_since_s is not None and now_s - suspects_since_s >= SUSPECTS_GRACE_S):
                break
            await rooms.under_way.wait_for_one(TURN_S)

    async def _spill(self) -> None:
        """Attempts under way become claims, begun events are parked, the rest stays in the journal; hand-back is not an attempt.

        All shards at once: a store that answers late costs its lateness once.
        """
        self._rooms.pipeline.is_closing = True
        async with anyio.create_task_group() as spilling:
            for tenure in self._rooms.registry.active():
                spilling.start_soon(self._empty, tenure)

    async def tear_down(self, drained: Sequence[Drained]) -> None:
        """The door shuts; orchestrator, then sessions go, at a message boundary. Wants the proof of every shard held."""
        held = {t.shard for t in self._rooms.registry.active()}
        missing = held - {proof.after.shard for proof in drained}
        if missing:
            raise AssertionError(f"teardown before drain of shards {sorted(missing)}")
        self._rooms.shut_door()
        now_s = self._clock()
        await self._rooms.close_streams(min(self._phase_deadline.left_s(now_s), self.deadline.left_s(now_s) / 2))

    async def _hand_over_rest(self) -> None:
        for tenure in self._rooms.registry.active():
            if tenure.shard in self._drained:
                await self._give_up(tenure)

    async def _await_claims(self) -> None:
        """Attempts that became claims end and settle by claim id, or are left to their visibility."""
        rooms = self._rooms
        while (rooms.pipeline.in_flight or rooms.settling.pending) and not self._phase_deadline.has_passed(self._clock()):
            rooms.settling.write_again()
            await rooms.under_way.wait_for_one(TURN_S)
            if self._spill_asked():
                break
        self.claims_left = rooms.pipeline.in_flight
        self.unconfirmed += await rooms.under_way.cancel_all(within_s=0.5)
        self.claims_left += rooms.settling.pending

    # -- one shard ---------------------------------------------------------------------------------------------------

    async def hand_over(self, tenure: Tenure) -> None:
        """One shard to its heir, in milliseconds; the others are read on meanwhile."""
        await self._empty(tenure)
        await self._give_up(tenure)

    async def _empty(self, tenure: Tenure) -> None:
        handover, deadline_s = self._rooms.handover, self.deadline.at_s
        proof, unconfirmed, parked = await handover.empty(handover.quiesce(tenure), by_s=deadline_s)
        self._drained[tenure.shard] = proof
        self.unconfirmed += unconfirmed
        self.spilled_events += len(parked)
        self._rooms.metrics.shutdown_spilled.add(amount=len(parked))
        self.spilled_webhooks.update(parked)

    async def _give_up(self, tenure: Tenure) -> None:
        """Sockets, last checkpoint, release, wake. A store that is away leaves the lease to its time; the journal has everything."""
        rooms, account, to = self._rooms, self.accounts.get(tenure.shard), self._heirs.of.get(tenure.shard)
        try:
            closed = await rooms.handover.close_sockets(self._drained[tenure.shard], by_s=self._phase_deadline.at_s)
            proof = await rooms.handover.checkpoint(tenure, closed)
            if account is not None:
                account.close(tenure, proof.tail)
            await rooms.registry.release(proof, to=to)
        except StaleToken:
            rooms.registry.refused(tenure)
        except AWAY as exc:
            log.warning(
                "shard_not_released", shard=tenure.shard, cause=str(exc), next_step="tried once more at the end, then left to its lease"
            )

    def _leave_to_their_leases(self, tenures: Sequence[Tenure]) -> None:
        """What could not be given up is renewed no more, so that its lease ends soon; the journal has everything."""
        for tenure in tenures:
            log.warning("shard_left_to_its_lease", shard=tenure.shard, next_step="the successor takes it when the lease ends")
            self._rooms.registry.leave(tenure)

    def _close_accounts(self) -> None:
        """What is not done is in the journal, for the next owner. A handover that began before the signal is told like any other."""
        for shard, account in self.accounts.items():
            tenure = self._counted[shard]
            if not account.is_closed:
                account.close(tenure, max(account.tail_at_signal, tenure.completion.cursor))
            if tenure.released_at_s is not None:
                account.is_released, account.released_to = True, tenure.released_to
                account.held_after_signal_ms = max(0, round((tenure.released_at_s - self._signal_at_s) * 1000))

    # -- time --------------------------------------------------------------------------------------------------------

    def _before_reserve(self) -> float:
        return self.deadline.at_s - self._reserve_s

    def _is_over(self) -> bool:
        return self._phase_deadline.has_passed(self._clock()) or self._spill_asked()

    @asynccontextmanager
    async def _phase(self, name: str, end_s: float) -> AsyncIterator[None]:
        """Names the phase, gives it its slice, notes how long it took and whether it was cut."""
        started_s = self._clock()
        self.phase = name
        self._phase_deadline = Deadline(name=name, at_s=min(end_s, started_s + AT_MOST_S.get(name, self.deadline.at_s)))
        with anyio.move_on_after(self._phase_deadline.left_s(started_s) + TURN_S * 2) as scope:
            yield
        took_s = self._clock() - started_s
        cut = scope.cancelled_caught or (took_s > 0 and self._phase_deadline.has_passed(self._clock()))
        self._rooms.metrics.shutdown_phase_duration.record(took_s, name)
        self.phases.append(PhaseTime(name=name, ms=round(took_s * 1000), cut=cut))
        log.info("shutdown_phase", phase=name, ms=round(took_s * 1000), cut=cut)

    @property
    def successor(self) -> Member | None:
        """Whoever gets most of what we held."""
        return self._heirs.successor

    @property
    def left_nothing(self) -> bool:
        """Every shard was released, every attempt under way was settled: nothing is left to time."""
        return all(account.is_released for account in self.accounts.values()) and self.claims_left == 0 and self.unconfirmed == 0

    @property
    def spilled(self) -> dict[str, int]:
        return {"events": self.spilled_events, "webhooks": len(self.spilled_webhooks), "unconfirmed": self.unconfirmed}


async def _untold() -> bool | None:
    """No platform that could be asked."""
    return None
