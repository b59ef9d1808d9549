"""A small simulated world around one shard, whose owners (`model_owner.py`) work through the store's ports only.

It walks at random and is crashed, frozen and relieved at every step. What must hold at the end of each walk is the whole promise:

* nothing is lost: every delivery arrived, although endpoints fail and owners die;
* per ordered webhook and chat, first arrivals are in journal order;
* a guarded write with a superseded token is refused, at once and always;
* where owners only ever hand over, and no claim expires, nothing arrives twice;
* and what waits in the store comes back to nothing.

Whatever may be repeated after an unknown outcome is repeated now and then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from tests.contract.model_owner import CHATS, HOOKS, IN_ORDER, Attempt, Delivery, Owner, Told, Verdict
from tests.contract.samples import SHARD, TENANT, Store, event
from worker.client_registry.port import Granted
from worker.domain.ids import ClaimId, EventKey, OwnerId, Position, Token, WebhookId, delivery_id
from worker.event_integration.retry_queue import Parking, Settled, Settlement


class Pace(Protocol):
    """How time passes: the twin's clock is set forward, a real Redis is waited for."""

    def step(self) -> None: ...

    async def idle(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`graceful`: owners only hand over, and claims outlive the walk."""

    events: int = 30
    rough_steps: int = 450
    calm_steps: int = 12_000
    visibility_s: float = 0.12
    graceful: bool = False


class World:
    """The gateway, the endpoints, and the hand that kills, freezes and relieves owners. Build one per walk, then `walk()`."""

    def __init__(self, store: Store, pace: Pace, rules: Rules, seed: int) -> None:
        self.store = store
        self.pace = pace
        self.rules = rules
        self.random = Random(seed)
        self.visibility_s = 10_000.0 if rules.graceful else rules.visibility_s
        self.to_tell = [self._make_up(number) for number in range(rules.events)]
        self.told = {told.record: told for told in self.to_tell}
        self.untold = list(self.to_tell)
        self.positions: dict[Position, Told] = {}
        self.arrivals: dict[WebhookId, list[Position]] = {hook: [] for hook in HOOKS}
        self.air: list[Attempt] = []
        self.zombies: list[Owner] = []
        self.owners = 0
        self.token = Token(0)
        self.owner: Owner

    def _make_up(self, number: int) -> Told:
        hooks = tuple(hook for hook in HOOKS if self.random.random() < 0.8)
        chat = self.random.choice(CHATS)
        record = json.dumps({"number": number, "chat": chat}).encode()
        return Told(EventKey(f"event {number}"), record, chat, hooks)

    @property
    def name(self) -> OwnerId:
        return OwnerId(f"owner {self.owners}")

    @property
    def successor(self) -> OwnerId:
        return OwnerId(f"owner {self.owners + 1}")

    def told_by(self, record: bytes) -> Told:
        return self.told[record]

    def chat_of(self, delivery: Delivery) -> str:
        return self.positions[delivery.position].chat

    def parking(self, delivery: Delivery) -> Parking:
        told = self.positions[delivery.position]
        return Parking(
            delivery_id=delivery_id(told.key, delivery.hook),
            event_key=told.key,
            webhook_id=delivery.hook,
            tenant_id=TENANT,
            position=delivery.position,
            record=told.record,
            attempts=0,
            chat=told.chat if delivery.hook in IN_ORDER else None,
        )

    async def walk(self) -> None:
        """Raises `Verdict`."""
        await self._new_owner()
        for _ in range(self.rules.rough_steps):
            await self._step(calm=False)
        for _ in range(self.rules.calm_steps):
            if await self._is_drained():
                break
            await self._step(calm=True)
        await self._judge()

    async def _step(self, *, calm: bool) -> None:
        self.pace.step()
        chance = self.random.random()
        who = await self._whose_turn()
        if who is None:
            return
        if chance < 0.02 and not calm:
            await self._fault()
        elif chance < 0.06:
            await self._tell()
        else:
            await self._act(who, chance, calm=calm)

    async def _act(self, who: Owner, chance: float, *, calm: bool) -> None:
        shares = ((0.30, who.read), (0.52, who.start), (0.58, who.start if calm else who.spill), (0.68, who.retry), (0.76, who.checkpoint))
        for share, act in shares:
            if chance < share:
                await act()
                return
        await self._land(calm=calm)

    async def _whose_turn(self) -> Owner | None:
        """Mostly the owner's. A frozen one that wakes up goes on as if nothing had happened, until it is refused or notices."""
        if not self.zombies or self.random.random() >= 0.1:
            return self.owner
        zombie = self.random.choice(self.zombies)
        if zombie.refused or self.random.random() < 0.02:
            self.zombies.remove(zombie)
            return None
        return zombie

    async def _tell(self) -> None:
        """The gateway pushes a few events, and sometimes the same ones again."""
        pushed, self.untold = self.untold[:4], self.untold[4:]
        events = [event(told.key, record=told.record) for told in pushed]
        if not events:
            return
        first = await self.store.journal.append(SHARD, events)
        if self.random.random() < 0.2:
            again = await self.store.journal.append(SHARD, events)
            if [a.position for a in again] != [a.position for a in first] or not all(a.duplicate for a in again):
                raise Verdict("the same push again was not a duplicate")

    async def _land(self, *, calm: bool) -> None:
        if not self.air:
            await self.pace.idle()
            return
        attempt = self.air.pop(self.random.randrange(len(self.air)))
        arrived = calm or self.random.random() < 0.6
        if arrived:
            self.arrivals[attempt.delivery.hook].append(attempt.delivery.position)
        if attempt.owner is not None and attempt.delivery in attempt.owner.flying:
            await attempt.owner.finish(attempt.delivery, arrived=arrived)

    async def settle(self, delivery: Delivery, claim: ClaimId, *, arrived: bool) -> Settled:
        """What the owner hears: now and then the first answer is lost, and the second says nothing any more."""
        told = self.positions[delivery.position]
        outcome = Settlement(claim=claim, delivery_id=delivery_id(told.key, delivery.hook), event_key=told.key, webhook_id=delivery.hook)
        outcome = replace(outcome, delivered=True) if arrived else replace(outcome, retry_in_s=self.random.choice([0.0, 0.01]))
        [settled] = await self.store.retry_queue.settle(SHARD, [outcome])
        if self.rules.graceful and not settled.is_settled:
            raise Verdict(f"{delivery}: a claim that cannot have expired did not settle")
        [again] = await self.store.retry_queue.settle(SHARD, [outcome])
        if again != (False, 0):
            raise Verdict(f"{delivery}: settled twice")
        return again if self.random.random() < 0.1 else settled

    async def _fault(self) -> None:
        faults = [self._handover] if self.rules.graceful else [self._crash, self._freeze, self._handover, self._handover]
        await self.random.choice(faults)()

    async def _crash(self) -> None:
        """SIGKILL."""
        for attempt in self.air:
            if attempt.owner is self.owner:
                attempt.owner = None
        await self._new_owner()

    async def _freeze(self) -> None:
        """SIGSTOP past the lease."""
        self.zombies.append(self.owner)
        await self._new_owner()

    async def _handover(self) -> None:
        await self.owner.hand_over()
        await self._new_owner()

    async def _new_owner(self) -> None:
        """`sole`: the lease of whoever had it is taken at once, as if its time had passed."""
        self.owners += 1
        grant = await self.store.leases.acquire(SHARD, self.name, ttl_s=3_600, sole=True)
        if not isinstance(grant, Granted) or grant.token <= self.token or grant.previous != self.token:
            raise Verdict(f"{grant} after token {self.token}")
        self.token = grant.token
        self.owner = Owner(self, grant.token)
        await self.owner.begin()

    async def _is_drained(self) -> bool:
        if self.untold or self.air:
            return False
        if self.owner.prefix <= len(self.to_tell):
            return False
        return not await self.store.retry_queue.due(SHARD, limit=1)

    async def _judge(self) -> None:
        if not await self._is_drained():
            raise Verdict(f"not drained: prefix {self.owner.prefix}, {await self.store.retry_queue.due(SHARD, limit=9)}")
        for position, told in self.positions.items():
            missing = [hook for hook in told.hooks if position not in self.arrivals[hook]]
            if missing:
                raise Verdict(f"lost: {position} at {missing}")
        if len(self.positions) != len(self.to_tell):
            raise Verdict(f"{len(self.to_tell)} events were told, {len(self.positions)} read")
        for hook in IN_ORDER:
            self._judge_order(hook)
        if self.rules.graceful and any(len(set(arrived)) != len(arrived) for arrived in self.arrivals.values()):
            raise Verdict("a duplicate, although owners only handed over")
        await self._judge_what_is_left()

    async def _judge_what_is_left(self) -> None:
        await self._new_owner()
        if any(any(tenant) for tenant in (await self.store.room.waiting([SHARD]))[SHARD].values()):
            raise Verdict("everything was delivered, and yet something waits")
        if chats := await self.store.retry_queue.waiting_chats(SHARD, HOOKS):
            raise Verdict(f"everything was delivered, and yet chats wait: {chats}")

    def _judge_order(self, hook: WebhookId) -> None:
        for chat in CHATS:
            first_arrivals = list(dict.fromkeys(p for p in self.arrivals[hook] if self.positions[p].chat == chat))
            if first_arrivals != sorted(first_arrivals):
                raise Verdict(f"order of {chat} at {hook}: {first_arrivals}")
