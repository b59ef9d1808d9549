"""A small simulated world around one shard: an owner that reads, delivers, parks, claims and settles through the store's ports only.

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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, Protocol, TypeVar

from tests.contract.samples import SHARD, TENANT, Store, event
from worker.client_registry.port import Granted
from worker.domain.errors import StaleToken
from worker.domain.ids import ClaimId, EventKey, OwnerId, Position, Token, WebhookId, delivery_id
from worker.event_integration.retry_queue import Parking, Settlement, Want
from worker.journal.port import Checkpoint, Done, Freed

T = TypeVar("T")

UNORDERED, ORDERED, ALSO_ORDERED = WebhookId("unordered"), WebhookId("ordered"), WebhookId("also ordered")
HOOKS = (UNORDERED, ORDERED, ALSO_ORDERED)
IN_ORDER = frozenset({ORDERED, ALSO_ORDERED})
CHATS = ("ana", "bia", "caio")

BUFFER_FULL = 12


class Verdict(AssertionError):
    """Raised when a walk broke a promise."""


class Pace(Protocol):
    """How time passes: the twin's clock is set forward, a real Redis is waited for."""

    def step(self) -> None: ...

    async def idle(self) -> None: ...


class Delivery(NamedTuple):
    position: Position
    hook: WebhookId


class Told(NamedTuple):
    """What the gateway said: an event of a chat that these webhooks want."""

    key: EventKey
    record: bytes
    chat: str
    hooks: tuple[WebhookId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`graceful`: owners only hand over, and claims outlive the walk."""

    events: int = 30
    rough_steps: int = 450
    calm_steps: int = 12_000
    visibility_s: float = 0.12
    graceful: bool = False


@dataclass(eq=False, slots=True)
class Attempt:
    """A request in the air. `owner` None: it was killed; the request may still arrive, nobody hears the answer."""

    owner: Owner | None
    delivery: Delivery


class Owner:
    """One tenure: what a worker holds in memory between two grants of the shard."""

    def __init__(self, world: World, token: Token) -> None:
        self.world = world
        self.store = world.store
        self.random = world.random
        self.token = token
        self.refused = False
        self.cursor = self.prefix = Position(1)
        self.buffer: list[Delivery] = []
        """Not started, in journal order."""
        self.flying: dict[Delivery, ClaimId | None] = {}
        """Under way; None: a first attempt, straight from the journal."""
        self.open: dict[Position, set[WebhookId]] = {}
        """Events read, with the deliveries that the journal must still serve."""
        self.known: set[Done] = set()
        """Facts at or beyond the prefix: loaded, saved or parked."""
        self.news: list[Delivery] = []
        """Settled and not checkpointed yet."""
        self.freed = 0
        self.freed_bytes = 0
        self.saves = 0
        self.maybe_waiting: dict[WebhookId, set[str]] = {hook: set(CHATS) for hook in IN_ORDER}
        """Chats that may have something parked. Errs on the careful side only: an event too many takes the detour."""

    async def begin(self) -> None:
        progress = await self.store.checkpoints.load(SHARD, self.token)
        self.cursor = self.prefix = progress.prefix
        self.known = set(progress.done)
        await self.store.checkpoints.recount(SHARD, self.token)

    async def guarded(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """A fenced write, sometimes repeated as after a lost answer. None: it was refused, and this tenure is over."""
        try:
            answer = await call()
            if self.random.random() < 0.1:
                answer = await call()
        except StaleToken:
            if self.token == self.world.token:
                raise Verdict(f"the newest token {self.token} was refused") from None
            self.refused = True
            return None
        if self.token != self.world.token:
            raise Verdict(f"token {self.token} wrote although {self.world.token} had been granted")
        return answer

    async def read(self) -> None:
        if len(self.buffer) > BUFFER_FULL:
            return
        segments = await self.store.journal.read({SHARD: self.cursor}, max_segments=1, block_s=0)
        for segment in segments:
            for position, record in enumerate(segment.records, start=segment.first):
                if position >= self.cursor:
                    self._take_in(Position(position), record)
            self.cursor = Position(segment.first + len(segment.records))

    def _take_in(self, position: Position, record: bytes) -> None:
        self.world.positions[position] = self.world.told_by(record)
        hooks = self.world.told_by(record).hooks
        wanted = set() if Done(position, None) in self.known else {h for h in hooks if Done(position, h) not in self.known}
        self.open[position] = wanted
        self.buffer += [Delivery(position, hook) for hook in hooks if hook in wanted]
        self._note_if_complete(position)

    async def start(self) -> None:
        """One attempt that order allows; or, where its chat may be waiting, a place behind it."""
        for delivery in self.random.sample(self.buffer, len(self.buffer)):
            if delivery.hook in IN_ORDER:
                earlier = self._of_its_chat(delivery, [d for d in self.buffer if d.position < delivery.position])
                if earlier or self._of_its_chat(delivery, list(self.flying)):
                    continue
                if await self._may_have_waiting(delivery):
                    await self._park([delivery])
                    return
            self.buffer.remove(delivery)
            self.flying[delivery] = None
            self.world.air.append(Attempt(self, delivery))
            return

    async def _may_have_waiting(self, delivery: Delivery) -> bool:
        """A webhook that the queue does not list has nothing parked, and only this owner can park."""
        chats = self.maybe_waiting[delivery.hook]
        if chats and delivery.hook not in {due.webhook_id for due in await self.store.retry_queue.due(SHARD, limit=10)}:
            chats.clear()
        return self.world.chat_of(delivery) in chats

    async def spill(self) -> None:
        """Parks one delivery; where order is kept its chat's earlier ones before it and its later ones after it, in one call."""
        if not self.buffer:
            return
        chosen = self.random.choice(self.buffer)
        spilled = [chosen]
        if chosen.hook in IN_ORDER:
            first_attempts = [d for d, claim in self.flying.items() if claim is None]
            if self._of_its_chat(chosen, first_attempts):
                return  # its predecessor is neither settled nor parked
            spilled = self._of_its_chat(chosen, self.buffer)
        await self._park(spilled)

    async def retry(self) -> None:
        visible_after_s = self.world.visibility_s
        wanted = {hook: Want(self.random.randrange(3), visible_after_s) for hook in HOOKS}

        async def claim() -> None:
            for claimed in await self.store.retry_queue.claim(SHARD, self.token, wanted):
                delivery = Delivery(claimed.position, claimed.webhook_id)
                self.world.positions.setdefault(claimed.position, self.world.told_by(claimed.record))
                self.flying[delivery] = claimed.claim
                self.world.air.append(Attempt(self, delivery))

        try:
            await claim()
        except StaleToken:
            self.refused = True
        else:
            if self.token != self.world.token:
                raise Verdict(f"token {self.token} claimed although {self.world.token} had been granted")

    async def finish(self, delivery: Delivery, *, arrived: bool) -> None:
        """The answer of an attempt: by its claim where it has one, else in the next checkpoint or in the queue."""
        claim = self.flying.pop(delivery)
        if claim is not None:
            await self.world.settle(delivery, claim, arrived=arrived)
        elif arrived:
            self.news.append(delivery)
            self._settled(delivery)
        else:
            await self._park([delivery], attempts=1, due_in_s=self.random.choice([0.0, 0.01]))

    async def checkpoint(self) -> None:
        prefix = self._next_prefix()
        done = [Done(d.position, d.hook) for d in self.news if d.position >= prefix]
        done += [Done(p, None) for p, hooks in self.open.items() if p >= prefix and not hooks and self.random.random() < 0.5]
        behind = [fact for fact in self.known if fact.position < prefix]
        freed = {TENANT: Freed(self.freed, self.freed_bytes)} if self.freed else {}
        self.saves += 1
        checkpoint = Checkpoint(shard=SHARD, token=self.token, number=self.saves, prefix=prefix, done=done, behind=behind, freed=freed)
        if await self.guarded(lambda: self.store.checkpoints.save(checkpoint)) is None:
            return
        self.known = {fact for fact in self.known.union(done) if fact.position >= prefix}
        self.open = {position: hooks for position, hooks in self.open.items() if position >= prefix}
        self.prefix = prefix
        self.news.clear()
        self.freed = self.freed_bytes = 0

    async def hand_over(self) -> None:
        """Attempts under way become claims, begun events are parked, the rest stays in the journal; last checkpoint, release."""
        first_attempts = sorted(d for d, claim in self.flying.items() if claim is None)
        begun = {d.position for d in (*first_attempts, *self.news)} | {fact.position for fact in self.known}
        await self._park(first_attempts, attempts=1, claim_for_s=self.world.visibility_s)
        rest = {d for d in self.buffer if d.position in begun}
        for delivery in list(rest):
            if delivery.hook in IN_ORDER:
                rest.update(d for d in self._of_its_chat(delivery, self.buffer) if d.position < delivery.position)
        await self._park(sorted(rest))
        self.buffer.clear()
        await self.checkpoint()
        await self.store.leases.release(SHARD, self.world.name, self.token, to=self.world.successor)

    async def _park(
        self, deliveries: Sequence[Delivery], *, attempts: int = 0, due_in_s: float = 0.0, claim_for_s: float | None = None
    ) -> None:
        if not deliveries:
            return
        items = [self.world.parking(delivery) for delivery in sorted(deliveries)]
        items = [replace(item, attempts=attempts, due_in_s=due_in_s, claim_for_s=claim_for_s) for item in items]
        answers = await self.guarded(lambda: self.store.retry_queue.park(SHARD, self.token, items))
        if answers is None:
            return
        for delivery, answer in zip(sorted(deliveries), answers, strict=True):
            if delivery in self.flying:
                self.flying[delivery] = answer.claim
            if delivery in self.buffer:
                self.buffer.remove(delivery)
            if delivery.hook in IN_ORDER and not answer.known_done:
                self.maybe_waiting[delivery.hook].add(self.world.chat_of(delivery))
            self.known.add(Done(delivery.position, delivery.hook))
            self._settled(delivery)

    def _settled(self, delivery: Delivery) -> None:
        hooks = self.open.get(delivery.position)
        if hooks is not None and delivery.hook in hooks:
            hooks.remove(delivery.hook)
            self._note_if_complete(delivery.position)

    def _note_if_complete(self, position: Position) -> None:
        if not self.open[position] and Done(position, None) not in self.known:
            self.freed += 1
            self.freed_bytes += len(self.world.positions[position].record)

    def _next_prefix(self) -> Position:
        prefix = self.prefix
        while prefix < self.cursor and not self.open.get(prefix):
            prefix = Position(prefix + 1)
        return prefix

    def _of_its_chat(self, delivery: Delivery, among: list[Delivery]) -> list[Delivery]:
        chat = self.world.chat_of(delivery)
        return [d for d in among if d.hook == delivery.hook and self.world.chat_of(d) == chat]


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

    async def settle(self, delivery: Delivery, claim: ClaimId, *, arrived: bool) -> None:
        told = self.positions[delivery.position]
        outcome = Settlement(claim=claim, delivery_id=delivery_id(told.key, delivery.hook), event_key=told.key, webhook_id=delivery.hook)
        outcome = replace(outcome, delivered=True) if arrived else replace(outcome, retry_in_s=self.random.choice([0.0, 0.01]))
        [was_its_claim] = await self.store.retry_queue.settle(SHARD, [outcome])
        if self.rules.graceful and not was_its_claim:
            raise Verdict(f"{delivery}: a claim that cannot have expired did not settle")
        if was_its_claim and await self.store.retry_queue.settle(SHARD, [outcome]) != [False]:
            raise Verdict(f"{delivery}: settled twice")

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
        await self._new_owner()
        if any(any(tenant) for tenant in (await self.store.room.waiting([SHARD]))[SHARD].values()):
            raise Verdict("everything was delivered, and yet something waits")

    def _judge_order(self, hook: WebhookId) -> None:
        for chat in CHATS:
            first_arrivals = list(dict.fromkeys(p for p in self.arrivals[hook] if self.positions[p].chat == chat))
            if first_arrivals != sorted(first_arrivals):
                raise Verdict(f"order of {chat} at {hook}: {first_arrivals}")
