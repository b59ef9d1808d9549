"""The simulated owner of `model_walk.py`: it reads, delivers, parks, claims and settles through the store's ports only.

It keeps the rules of the real one in their plainest form, and judges each guarded write: refused if and only if it was superseded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.contract.samples import SHARD, TENANT
from worker.domain.errors import StaleToken
from worker.domain.ids import ClaimId, EventKey, Position, Token, WebhookId
from worker.event_integration.retry_queue import Want
from worker.journal.port import Checkpoint, Done, Freed

if TYPE_CHECKING:
    from tests.contract.model_walk import World  # the world makes its owners


T = TypeVar("T")

UNORDERED, ORDERED, ALSO_ORDERED = WebhookId("unordered"), WebhookId("ordered"), WebhookId("also ordered")
HOOKS = (UNORDERED, ORDERED, ALSO_ORDERED)
IN_ORDER = frozenset({ORDERED, ALSO_ORDERED})
CHATS = ("ana", "bia", "caio")

BUFFER_FULL = 12


class Verdict(AssertionError):
    """Raised when a walk broke a promise."""


class Delivery(NamedTuple):
    position: Position
    hook: WebhookId


class Told(NamedTuple):
    """What the gateway said: an event of a chat that these webhooks want."""

    key: EventKey
    record: bytes
    chat: str
    hooks: tuple[WebhookId, ...]


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
        self.maybe_waiting: dict[WebhookId, set[str]] = {hook: set() for hook in IN_ORDER}
        """Chats that may have something parked. Errs on the careful side only: an event too many takes the detour."""

    async def begin(self) -> None:
        progress = await self.store.checkpoints.load(SHARD, self.token)
        self.cursor = self.prefix = progress.prefix
        self.known = set(progress.done)
        for hook, chats in (await self.store.retry_queue.waiting_chats(SHARD, HOOKS)).items():
            self.maybe_waiting[hook] = set(chats)
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
                if self.world.chat_of(delivery) in self.maybe_waiting[delivery.hook]:
                    await self._park([delivery])
                    return
            self.buffer.remove(delivery)
            self.flying[delivery] = None
            self.world.air.append(Attempt(self, delivery))
            return

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
                if claimed.chat != self.world.parking(delivery).chat:
                    raise Verdict(f"{delivery} came back from another chat")
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
            settled = await self.world.settle(delivery, claim, arrived=arrived)
            if settled.is_settled and settled.chat_left == 0 and delivery.hook in IN_ORDER:
                self.maybe_waiting[delivery.hook].discard(self.world.chat_of(delivery))
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
