"""The client_registry of this worker: which shards it owns, proved; how it gets them, keeps them and gives them up.

Owns every tenure's state. Tells what changed through `Hooks` and knows nothing of pipelines. Fail-closed: when a lease
cannot be proved the tenure is suspended at its local validity's end, well before the store lets anybody else have it.

Waiting for a lease is a normal way to live: it changes no health answer and never ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import structlog

from worker.client_registry.port import Busy, Granted, Leases, Member, Membership, Quarantined
from worker.client_registry.proofs import Checkpointed
from worker.client_registry.renewal import Renewal
from worker.client_registry.tenure import Tenure, TenureState, valid_until_s
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard, Token
from worker.journal.completion import Completion
from worker.journal.port import Checkpoints

log = structlog.get_logger()

LOOK_AGAIN_S = 2.0
ABREAST = 4
"""Shards asked for at a time: a store that syncs each write to disk syncs once for those that come together."""
AWAY_PAUSE_S = 0.5


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
    """The three tables the registry lives on."""

    leases: Leases
    membership: Membership
    checkpoints: Checkpoints


class Registry:
    """`run` in a task group. `tenures` is the table that reader, retry pump and checkpointer go by."""

    def __init__(self, store: Store, identity: Identity, *, shards: int, renewal: Renewal, hooks: Hooks, wall: Callable[[], str]) -> None:
        """`wall` says the time in RFC 3339, for people."""
        self._leases = store.leases
        self._membership = store.membership
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
        self._spent: dict[Shard, Token] = {}
        """Tokens that must not be answered again: given back before the shard is asked for."""
        self.members: Sequence[Member] = ()
        """Who was live, us included, when it was last looked up."""
        self.holders: Mapping[Shard, OwnerId] = {}
        """Who held what at the last heartbeat: for people."""
        self.is_draining = False
        self.is_ready = False

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
            loops.start_soon(self._acquire_for_ever)
            loops.start_soon(self._heartbeat)

    # -- getting -----------------------------------------------------------------------------------------------------

    async def _acquire_for_ever(self) -> None:
        """Tries what we lack, then waits to be woken, for the earliest lease to run out, or for two seconds."""
        while True:
            wait_s = LOOK_AGAIN_S
            try:
                if not self.is_draining and self._renewal.is_turning(self._clock()):
                    async with self._acquiring:
                        wait_s = await self._acquire_round()
                await self._membership.wait_wake(self.identity.owner, block_s=wait_s)
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("leases_not_reached", cause=str(exc), next_step="tried again in half a second")
                await self._renewal.pause(AWAY_PAUSE_S)

    async def _acquire_round(self) -> float:
        """`_acquire_missing`, and one line about what it brought, also when the store left midway."""
        try:
            return await self._acquire_missing()
        finally:
            if self._acquired:
                log.info("shards_acquired", shards=sorted(self._acquired), waiting=sum(self._acquired.values()))
                self._acquired = {}

    async def _acquire_missing(self) -> float:
        """One try at every shard we do not hold, a few at a time; answers how long to wait for the next.

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
            for number in range(self.shards):
                attempts.start_soon(attempt, Shard(number))
        if absences:
            raise absences[0]
        return min(waits_s)

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
        self._tenures[shard] = tenure
        self._acquired[shard] = progress.tail - progress.prefix
        log.debug("tenure_started", shard=shard, token=grant.token, prefix=progress.prefix, waiting=self._acquired[shard])
        self._hooks.started(tenure)

    async def no_grant_under_way(self) -> None:
        """Once draining: until what was asked for before has been answered, and given back."""
        async with self._acquiring:
            pass

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

    def leave(self, tenure: Tenure) -> None:
        """Gives a shard up without telling the store: it is renewed no more, and its lease ends by itself."""
        self._end(tenure)

    def _end(self, tenure: Tenure) -> None:
        tenure.state = TenureState.ENDED
        if self._tenures.get(tenure.shard) is tenure:
            del self._tenures[tenure.shard]
        self._hooks.ended(tenure)

    # -- giving ------------------------------------------------------------------------------------------------------

    async def successor(self) -> Member | None:
        """A live worker that could take over: ready, not draining; the newest revision, then the one that holds least."""
        self.members = await self._membership.live()
        others = [m for m in self.members if m.owner != self.identity.owner and m.ready and not m.draining]
        return max(others, key=lambda m: (m.revision, -m.shards), default=None)

    async def release(self, proof: Checkpointed, *, to: OwnerId | None) -> bool:
        """Gives the lease up; with `to` reserves it and wakes the successor. False when it was not ours any more."""
        tenure = self._tenures.get(proof.shard)
        released = await self._leases.release(proof.shard, self.identity.owner, proof.token, to=to)
        if tenure is not None and tenure.token == proof.token:
            self._end(tenure)
        if to is not None:
            await self._membership.wake(to)
        return released

    # -- being seen --------------------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Says what we are now. Raises `StoreUnavailable`."""
        held = len(self.active())
        me = self.identity
        member = Member(
            owner=me.owner,
            task=me.task,
            family=me.family,
            revision=me.revision,
            ready=self.is_ready,
            draining=self.is_draining,
            shards=held,
            zone=me.zone,
        )
        await self._membership.announce(member, ttl_s=self._renewal.heartbeat_ttl_s)

    async def withdraw(self) -> None:
        await self._membership.withdraw(self.identity.owner)

    async def _heartbeat(self) -> None:
        while True:
            try:
                await self.announce()
                self.members = await self._membership.live()
                self.holders = await self._leases.holders([Shard(number) for number in range(self.shards)])
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("heartbeat_not_sent", cause=str(exc), next_step="sent again with the next one")
            await self._renewal.pause(self._renewal.heartbeat_every_s)

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
