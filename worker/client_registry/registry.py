"""The client_registry of this worker: which shards it owns, proved; how it gets them, keeps them and gives them up.

Owns every tenure's state. Tells what changed through `Hooks` and knows nothing of pipelines. Fail-closed: when a lease
cannot be proved the tenure is suspended at its local validity's end, well before the store lets anybody else have it.

Waiting for a lease is a normal way to live: it changes no health answer and never ends the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import anyio
import structlog

from worker.client_registry.asking import Holdings, Unclaimed, to_ask_for
from worker.client_registry.handing import AWAY_PAUSE_S, Handing, Ours
from worker.client_registry.port import Busy, Granted, Handovers, Leases, Member, Membership, NoSockets, Quarantined, ShardSockets
from worker.client_registry.presence import Presence
from worker.client_registry.proofs import Checkpointed
from worker.client_registry.renewal import Renewal
from worker.client_registry.shares import Company, bequest
from worker.client_registry.tenure import Tenure, TenureState, valid_until_s
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard, Token
from worker.journal.completion import Completion
from worker.journal.port import Checkpoints

log = structlog.get_logger()

LOOK_AGAIN_S = 2.0
PROMISED_AT_MOST = 16
"""So many shards are asked for at each wake-up without looking first."""
ABREAST = 4
"""Shards asked for at a time: a store that syncs each write to disk syncs once for those that come together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Called synchronously at each change of a tenure. `lost` gives the reason: expired, stale, stalled, redis."""

    started: Callable[[Tenure], None]
    suspended: Callable[[Tenure], None]
    resumed: Callable[[Tenure], None]
    ended: Callable[[Tenure], None]
    lost: Callable[[Tenure, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are in the lease table. `sole`: we alone hold the embedded store, so a former owner is provably gone.

    `is_managed`: a platform, or whoever sets revisions, starts and stops us; `zone`: where.
    """

    owner: OwnerId
    task: str
    family: str
    revision: int
    sole: bool
    zone: str = ""
    is_managed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The tables the registry lives on."""

    leases: Leases
    membership: Membership
    handovers: Handovers
    checkpoints: Checkpoints


class Registry:
    """`run` in a task group. `tenures` is the table that reader, retry pump and checkpointer go by."""

    def __init__(self, store: Store, identity: Identity, *, shards: int, renewal: Renewal, hooks: Hooks, wall: Callable[[], str]) -> None:
        """`wall` says the time in RFC 3339, for people."""
        self._leases = store.leases
        self._checkpoints = store.checkpoints
        self._wall = wall
        self.identity = identity
        self.shards = shards
        self._renewal = renewal
        self._hooks = hooks
        self._clock = renewal.clock
        self._tenures: dict[Shard, Tenure] = {}
        self._acquired: dict[Shard, int] = {}
        """What the round of acquisition under way brought: shard → events that wait in it."""
        self._acquiring = anyio.Lock()
        self._look_at_s = renewal.clock()
        """When to look at the whole lease table again."""
        self._spent: dict[Shard, Token] = {}
        """Tokens that must not be answered again: given back before the shard is asked for."""
        self._unclaimed = Unclaimed()
        self.holders: Mapping[Shard, OwnerId] = {}
        """Who held what when last looked, every two seconds."""
        self.is_draining = False
        self.is_ready = False
        self.sockets: ShardSockets = NoSockets()
        self.presence = Presence(store.membership, self.me, self._clock)
        ours = Ours(
            owner=identity.owner,
            company=self.company,
            active=self.active,
            may_give=self._may_give,
            is_leaving=lambda: self.is_draining,
            sockets=lambda: self.sockets,
        )
        self.handing = Handing(store.handovers, store.membership, self.presence, ours, self._clock)

    def __repr__(self) -> str:
        return f"<Registry owner={self.identity.owner} active={len(list(self.active()))} of {self.shards}>"

    def active(self) -> list[Tenure]:
        """Tenures that may do guarded work (ask `may_write` before each piece)."""
        return [t for t in self._tenures.values() if t.state is TenureState.ACTIVE]

    def held(self) -> list[Tenure]:
        """Active or suspended: whatever is not over."""
        return list(self._tenures.values())

    async def run(self) -> None:
        async with anyio.create_task_group() as loops:
            loops.start_soon(self._renewal.run, self.active, self._lose)
            for loop in (self._acquire_for_ever, self.presence.run, self.handing.run):
                loops.start_soon(loop)

    # -- getting -----------------------------------------------------------------------------------------------------

    async def _acquire_for_ever(self) -> None:
        """Asks for what we should have; waits to be woken, for the earliest lease to run out, or for two seconds."""
        while True:
            woken, wait_s = self.handing.woken, LOOK_AGAIN_S
            try:
                async with self._acquiring:
                    wait_s = await self._look_for_shards()
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("leases_not_reached", cause=str(exc), next_step="tried again in half a second")
                wait_s = AWAY_PAUSE_S
            with anyio.move_on_after(wait_s):
                await woken.wait()

    async def _look_for_shards(self) -> float:
        """What was promised to us is asked for without looking who holds it: for that long it would be nobody's."""
        may_acquire = not self.is_draining and self._renewal.is_turning(self._clock())
        promised = self.handing.taking.expected - {t.shard for t in self.active()}
        if may_acquire and 0 < len(promised) <= PROMISED_AT_MOST and self._clock() < self._look_at_s:
            await self._acquire_round(sorted(promised))
            return max(0.0, self._look_at_s - self._clock())
        await self._see_holders()
        wait_s = await self._acquire_round(await self._wanted()) if may_acquire else LOOK_AGAIN_S
        self._look_at_s = self._clock() + wait_s
        return wait_s

    async def _see_holders(self) -> None:
        self.holders = await self._leases.holders([Shard(number) for number in range(self.shards)])

    async def _acquire_round(self, shards: Sequence[Shard]) -> float:
        """`_acquire_each`, and one line about what it brought, also when the store left midway."""
        try:
            return await self._acquire_each(shards)
        finally:
            if self._acquired:
                log.info("shards_acquired", shards=sorted(self._acquired), waiting=sum(self._acquired.values()))
                self._acquired = {}
                self.presence.hurry()

    async def _acquire_each(self, shards: Sequence[Shard]) -> float:
        """One try at each, a few at a time; answers how long to wait for the next.

        A store that leaves midway ends no other try; it is told of once, when all have ended.
        """
        waits_s = [LOOK_AGAIN_S]
        absences: list[StoreUnavailable | StoreFull] = []
        turns = anyio.Semaphore(ABREAST)

        async def attempt(shard: Shard) -> None:
            async with turns:
                if absences:
                    return
                try:
                    waits_s.append(await self._acquire_one(shard))
                except (StoreUnavailable, StoreFull) as exc:
                    absences.append(exc)

        async with anyio.create_task_group() as attempts:
            for shard in shards:
                attempts.start_soon(attempt, shard)
        if absences:
            raise absences[0]
        return min(waits_s)

    async def _wanted(self) -> list[Shard]:
        """Who alone has the store's lock wants all: whoever is announced beside it is gone."""
        if self.identity.sole:
            return [Shard(number) for number in range(self.shards)]
        if not self.presence.is_known:
            await self.presence.look()
        free = [Shard(number) for number in range(self.shards) if Shard(number) not in self.holders]
        ours = Holdings(
            active=[t.shard for t in self.active()],
            suspended=[t.shard for t in self.held() if t.state is TenureState.SUSPENDED],
            expected=self.handing.taking.expected,
        )
        live = {member.owner for member in self.members}
        return to_ask_for(self.company(), self.holders, live, ours, self._unclaimed.overdue(free, self._clock()))

    async def _acquire_one(self, shard: Shard) -> float:
        """Asks for one shard, unless it is held already; answers when to ask again."""
        held = self._tenures.get(shard)
        if self.is_draining or (held is not None and held.state is TenureState.ACTIVE):
            return LOOK_AGAIN_S
        if (spent := self._spent.get(shard)) is not None:
            await self._leases.release(shard, self.identity.owner, spent, to=None)
            del self._spent[shard]
        answer = await self._leases.acquire(shard, self.identity.owner, ttl_s=self._renewal.ttl_s, sole=self.identity.sole)
        match answer:
            case Granted():
                await self._granted(shard, answer)
                return LOOK_AGAIN_S
            case Busy(remaining_s, _) | Quarantined(remaining_s):
                return max(0.05, remaining_s + 0.01)

    async def _granted(self, shard: Shard, grant: Granted) -> None:
        """A lease is ours: go on with what we knew if nobody held it in between, else start from the checkpoint.

        An earlier grant is answered again as it stands, and may be about to end (we were suspended, or its answer was lost): only
        the renewal says from when on a whole TTL is ours.
        """
        until_s = valid_until_s(self._clock(), self._renewal.ttl_s)
        if shard not in await self._leases.renew({shard: grant.token}, self.identity.owner, ttl_s=self._renewal.ttl_s):
            return
        try:
            progress = await self._checkpoints.load(shard, grant.token)
        except StaleToken:
            return
        if self.is_draining:
            await self._leases.release(shard, self.identity.owner, grant.token, to=None)
            return
        former = self._tenures.get(shard)
        if former is not None and former.token in {grant.previous, grant.token} and progress.tail >= former.completion.cursor:
            former.token = grant.token
            former.valid_until_s = until_s
            former.state = TenureState.ACTIVE
            self._acquired[shard] = progress.tail - former.completion.prefix
            log.debug("tenure_resumed", shard=shard, token=grant.token)
            self._hooks.resumed(former)
            return
        if former is not None and former.token == grant.token:
            self.start_over(former)
            return
        if former is not None:
            self._end(former)
        tenure = Tenure(shard, grant.token, Completion(shard, progress), granted_at_s=self._clock(), valid_until_s=until_s)
        tenure.since = self._wall()
        tenure.was_given = shard in self.handing.taking.expected
        self._tenures[shard] = tenure
        self._acquired[shard] = progress.tail - progress.prefix
        log.debug("tenure_started", shard=shard, token=grant.token, prefix=progress.prefix, waiting=self._acquired[shard])
        self._hooks.started(tenure)

    # -- losing ------------------------------------------------------------------------------------------------------

    def _lose(self, tenure: Tenure, reason: str) -> None:
        """The lease cannot be proved any more: guarded work stops, what is known is kept in case it comes back."""
        if tenure.state is TenureState.ACTIVE:
            tenure.state = TenureState.SUSPENDED
            log.warning(
                "tenure_suspended", shard=tenure.shard, token=tenure.token, reason=reason, next_step="acquired again when the store allows"
            )
            self._hooks.suspended(tenure)
            self._hooks.lost(tenure, reason)

    def refused(self, tenure: Tenure) -> None:
        """A guarded write was refused: somebody newer owns the shard. Ends the tenure."""
        if tenure.state is not TenureState.ENDED:
            log.warning("stale_write_refused", shard=tenure.shard, token=tenure.token, next_step="the tenure ends; the newer owner goes on")
            self._hooks.lost(tenure, "stale")
            self._end(tenure)

    def start_over(self, tenure: Tenure) -> None:
        """The store went back in time (it lost what it had not written to disk): forget what we knew, read from its checkpoint.

        Under a new token: what was still on its way under this one speaks of positions that are given out again.
        """
        self._end(tenure)
        self._spent[tenure.shard] = tenure.token

    async def pause(self) -> None:
        """For a store that is away."""
        await self._renewal.pause(AWAY_PAUSE_S)

    def leave(self, tenure: Tenure) -> None:
        """Gives a shard up without telling the store: it is renewed no more, and its lease ends by itself."""
        self._end(tenure)

    def _end(self, tenure: Tenure) -> None:
        tenure.state = TenureState.ENDED
        if self._tenures.get(tenure.shard) is tenure:
            del self._tenures[tenure.shard]
        self._hooks.ended(tenure)

    # -- giving ------------------------------------------------------------------------------------------------------

    def _may_give(self) -> bool:
        return self.is_ready and not self.is_draining and not self.identity.sole

    async def bequeath(self, shards: Collection[Shard]) -> dict[Shard, OwnerId]:
        """Who should have these when we leave; nobody where nobody stays. Raises `StoreUnavailable`."""
        await self.presence.look()
        await self._see_holders()
        company = self.company().with_counts(Counter(self.holders.values()))
        return bequest(company.once_given(self.handing.giving.on_the_table()), shards)

    async def nothing_under_way(self) -> None:
        """Once draining: until a grant asked for before has been answered, and given back, and what was being handed over has been."""
        async with self._acquiring:
            pass
        await self.handing.rebalancing.nothing_under_way()

    async def release(self, proof: Checkpointed, *, to: OwnerId | None) -> bool:
        """Gives the lease up; with `to` reserves it for the taker, and wakes that. False when it was not ours any more."""
        tenure = self._tenures.get(proof.shard)
        if tenure is None or tenure.token != proof.token:
            return await self._leases.release(proof.shard, self.identity.owner, proof.token, to=to)
        tenure.is_being_released = True
        try:
            released = await self._leases.release(proof.shard, self.identity.owner, proof.token, to=to)
        finally:
            tenure.is_being_released = False
        if released:
            tenure.released_at_s, tenure.released_to = self._clock(), to
        self._end(tenure)
        return released

    # -- being seen --------------------------------------------------------------------------------------------------

    def me(self) -> Member:
        """What we announce, as it is now."""
        me = self.identity
        return Member(
            owner=me.owner,
            task=me.task,
            family=me.family,
            revision=me.revision,
            ready=self.is_ready and self._renewal.is_turning(self._clock()),
            draining=self.is_draining,
            shards=len(self.active()),
            zone=me.zone,
        )

    @property
    def members(self) -> Sequence[Member]:
        """Who was live, us included, when it was last looked up."""
        return self.presence.members

    def company(self) -> Company:
        """Who shares the shards, as last looked up."""
        return self.presence.company(self.shards)

    async def announce(self) -> None:
        """Says what we are now. Raises `StoreUnavailable`."""
        await self.presence.announce()

    async def withdraw(self) -> None:
        await self.presence.withdraw()

    def role(self) -> dict[str, object]:
        """`/rolez`: what this worker is, and what it holds."""
        now_s = self._clock()
        active = sorted(self.active(), key=lambda t: t.shard)
        return {
            "role": "draining" if self.is_draining else "active" if active else "standby",
            "owner": self.identity.owner,
            "revision": self.identity.revision,
            "shardsTotal": self.shards,
            "shards": [shard_role(t, now_s) for t in active],
        }


def shard_role(tenure: Tenure, now_s: float) -> dict[str, object]:
    return {
        "shard": tenure.shard,
        "token": tenure.token,
        "validForS": round(max(0.0, tenure.valid_until_s - now_s), 3),
        "since": tenure.since,
        "heldForS": round(now_s - tenure.granted_at_s, 3),
    }
