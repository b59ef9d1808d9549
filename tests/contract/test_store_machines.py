"""Hypothesis drives the twin and a real Redis side by side through calls nobody thought of: each answer must be the same.

Times in here are either nothing at all or far away, so that the two clocks never decide. What depends on time is in the contract suites.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import scaled
from tests.contract.samples import HOOK, SHARD, TENANT, Store, empty, parking
from tests.real_redis import RealRedis
from worker.adapters.memory_store import MemoryStore
from worker.adapters.redis_store import open_redis_store
from worker.client_registry.port import Busy, Granted, Quarantined
from worker.domain.errors import StaleToken
from worker.domain.ids import ClaimId, DeliveryId, EventKey, OwnerId, Position, TenantId, Token, WebhookId
from worker.event_integration.retry_queue import Claimed, DeadReason, Parking, Settlement, Want
from worker.journal.port import Checkpoint, Done, Freed, NewEvent

pytestmark = pytest.mark.timeout(scaled(400, 3_600))  # a failure may take hypothesis five minutes to shrink

FAR_S = 1_000.0
NOW_OR_NEVER = st.sampled_from([0.0, FAR_S])
STALE = "refused: a newer token exists"
REMEMBERED_KEYS = 12


class Both(NamedTuple):
    """The same thing as each store names it: tokens and claims differ, their meaning must not."""

    twin: Any
    redis: Any


class TwoStores(RuleBasedStateMachine):
    """A twin and an empty Redis, asked the same questions."""

    server: ClassVar[RealRedis]

    def __init__(self) -> None:
        super().__init__()
        empty(self.server)
        self.loop = asyncio.Runner()
        self.opened = AsyncExitStack()
        self.twin: Store = MemoryStore(shards=1, clock=time.monotonic, dedupe_max_keys=REMEMBERED_KEYS)
        redis = open_redis_store(self.server.url, shards=1, dedupe_max_keys=REMEMBERED_KEYS)
        self.redis: Store = self.loop.run(self.opened.enter_async_context(redis))
        self.tokens: list[Both] = []
        self.new_tenure()

    def teardown(self) -> None:
        self.loop.run(self.opened.aclose())
        self.loop.close()

    def ask(self, question: Callable[[Store, int], Awaitable[Any]]) -> Both:
        """Both answers; `question` gets the store, and the index of its own name in a `Both`."""

        async def answer(store: Store, index: int) -> Any:
            try:
                return await question(store, index)
            except StaleToken:
                return STALE

        async def answers() -> Both:
            return Both(await answer(self.twin, 0), await answer(self.redis, 1))

        return self.loop.run(answers())

    def agree(self, question: Callable[[Store, int], Awaitable[Any]]) -> Any:
        """The answer that both gave."""
        answers = self.ask(question)
        assert answers.twin == answers.redis
        return answers.twin

    def new_tenure(self) -> None:
        owner = OwnerId(f"owner {len(self.tokens)}")
        grants = self.ask(lambda store, _: store.leases.acquire(SHARD, owner, ttl_s=FAR_S, sole=True))
        self.tokens.append(Both(grants.twin.token, grants.redis.token))

    def _token(self, age: int) -> Both:
        return self.tokens[-1 - min(age, len(self.tokens) - 1)]


# --- journal and checkpoint ---------------------------------------------------------------------------------------------------

positions = st.integers(1, 30).map(Position)
facts = st.builds(Done, positions, st.sampled_from([None, HOOK, WebhookId("erp|2")]))
new_events = st.builds(
    NewEvent,
    event_key=st.sampled_from([EventKey(key) for key in "abcdefghijklmnopqrstuvwxyz"]),
    tenant_id=st.sampled_from([TENANT, TenantId("other|n")]),
    record=st.binary(max_size=20),
    remembered=st.booleans() | st.just(True),
)


class JournalMachine(TwoStores):
    """Append, read, load, save, recount and trim, with fresh and with stale tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[Position, NewEvent] = {}
        """What the owner has not reported as freed."""
        self.tail = self.prefix = Position(1)
        self.saved: set[Done] = set()
        self.saves = 0
        self.last_save: Checkpoint | None = None

    @rule(events=st.lists(new_events, max_size=6))
    def append(self, events: list[NewEvent]) -> None:
        answers = self.agree(lambda store, _: store.journal.append(SHARD, events))
        for event, answer in zip(events, answers, strict=True):
            if not answer.duplicate:
                self.waiting[answer.position] = event
                self.tail = Position(max(self.tail, answer.position + 1))

    @rule(cursor=positions, max_segments=st.integers(1, 5))
    def read(self, cursor: Position, max_segments: int) -> None:
        async def question(store: Store, _: int) -> list[tuple[Position, list[bytes]]]:
            segments = await store.journal.read({SHARD: cursor}, max_segments=max_segments, block_s=0)
            return [(segment.first, list(segment.records)) for segment in segments]

        self.agree(question)

    @rule()
    def begin_another_tenure(self) -> None:
        self.new_tenure()
        self.last_save = None

    @rule(age=st.integers(0, 2), ahead=st.integers(-2, 4), done=st.lists(facts, max_size=4), behind=st.lists(facts, max_size=4))
    def save(self, age: int, ahead: int, done: list[Done], behind: list[Done]) -> None:
        prefix = Position(max(1, min(self.tail, self.prefix + ahead)))
        done = [fact for fact in done if fact.position < self.tail]
        reached = max(prefix, self.prefix)
        whole = {fact.position for fact in done if fact.webhook is None}
        finished = {p: event for p, event in self.waiting.items() if p < reached or p in whole}
        freed: dict[TenantId, Freed] = {}
        for event in finished.values():
            before = freed.get(event.tenant_id, Freed(0, 0))
            freed[event.tenant_id] = Freed(before.events + 1, before.bytes + len(event.record))
        self.saves += 1
        checkpoint = Checkpoint(
            shard=SHARD, token=Token(0), number=self.saves, prefix=prefix, done=done, behind=[*behind, *self.saved], freed=freed
        )
        if self._save(checkpoint, age) != STALE:
            self.waiting = {p: event for p, event in self.waiting.items() if p not in finished}
            self.prefix = reached
            self.saved.update(done)
            self.last_save = checkpoint

    @precondition(lambda self: self.last_save is not None)
    @rule()
    def save_again_because_the_answer_was_lost(self) -> None:
        assert self.last_save is not None
        assert self._save(self.last_save, 0) != STALE

    def _save(self, checkpoint: Checkpoint, age: int) -> Any:
        return self.agree(lambda store, index: store.checkpoints.save(replace(checkpoint, token=self._token(age)[index])))

    @rule(age=st.integers(0, 2), mark=st.none() | st.integers(1, 3).map(Position))
    def load_and_mark(self, age: int, mark: Position | None) -> None:
        self.agree(lambda store, index: store.checkpoints.load(SHARD, self._token(age)[index]))
        self.agree(lambda store, index: store.checkpoints.mark_reading(SHARD, self._token(age)[index], mark))

    @rule(age=st.integers(0, 2))
    def recount(self, age: int) -> None:
        token = self._token(age)
        if self.agree(lambda store, index: store.checkpoints.recount(SHARD, token[index])) != STALE:
            progress = self.agree(lambda store, _: store.checkpoints.load(SHARD, self.tokens[-1][_]))
            whole = {fact.position for fact in progress.done if fact.webhook is None}
            self.waiting = {p: event for p, event in self.waiting.items() if p >= progress.prefix and p not in whole}

    @rule(age=st.integers(0, 2), keep_s=st.sampled_from([0.0, FAR_S]), keep_bytes=st.sampled_from([0, 10, 50, 10**9]))
    def trim(self, age: int, keep_s: float, keep_bytes: int) -> None:
        token = self._token(age)
        self.agree(lambda store, index: store.checkpoints.trim(SHARD, token[index], keep_s=keep_s, keep_bytes=keep_bytes))

    @invariant()
    def the_same_waits(self) -> None:
        figures = self.agree(lambda store, _: store.room.waiting([SHARD]))[SHARD]
        assert sum(waiting.events for waiting in figures.values()) == len(self.waiting)

    @invariant()
    def what_is_not_done_can_be_read(self) -> None:
        segments = self.agree(lambda store, _: _contents(store, self.prefix))
        read = {first + i for first, records in segments for i in range(len(records))}
        assert set(range(self.prefix, self.tail)) <= read


async def _contents(store: Store, cursor: Position) -> list[tuple[Position, list[bytes]]]:
    segments = await store.journal.read({SHARD: cursor}, max_segments=1_000, block_s=0)
    return [(segment.first, list(segment.records)) for segment in segments]


# --- retry queue --------------------------------------------------------------------------------------------------------------

ORDERED = WebhookId("ordered")
HOOKS = (HOOK, ORDERED)
few = st.integers(1, 6).map(Position)


@st.composite
def parkings(draw: st.DrawFn) -> Parking:
    """Chats follow from the event, as they do in life."""
    position, hook = draw(few), draw(st.sampled_from(HOOKS))
    item = parking(position, hook=hook, chat="\0\1"[position % 2] if hook == ORDERED else None)
    return replace(
        item,
        attempts=draw(st.integers(0, 3)),
        due_in_s=draw(NOW_OR_NEVER),
        claim_for_s=draw(st.none() | NOW_OR_NEVER),
        dead=draw(st.sampled_from([None, None, None, DeadReason.POISON])),
        error=draw(st.sampled_from([None, "refused"])),
    )


class RetryQueueMachine(TwoStores):
    """Park, claim, settle and expire, ordered and not, in any sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[tuple[DeliveryId, EventKey, WebhookId, Both]] = []
        """Every claim ever given, also those that have been superseded."""
        self.saves = 0

    @rule(items=st.lists(parkings(), min_size=1, max_size=4), age=st.integers(0, 1) | st.just(0))
    def park(self, items: list[Parking], age: int) -> None:
        token = self._token(age)
        answers = self.ask(lambda store, index: store.retry_queue.park(SHARD, token[index], items))
        if answers.twin == STALE:
            assert answers.redis == STALE
            return
        for item, one, other in zip(items, answers.twin, answers.redis, strict=True):
            assert one.known_done == other.known_done
            assert (one.claim is None) == (other.claim is None)
            if one.claim is not None:
                self.claims.append((item.delivery_id, item.event_key, item.webhook_id, Both(one.claim, other.claim)))

    @rule(hooks=st.sets(st.sampled_from(HOOKS), min_size=1), visible_after_s=NOW_OR_NEVER, age=st.integers(0, 1) | st.just(0))
    def claim(self, hooks: set[WebhookId], visible_after_s: float, age: int) -> None:
        token, wanted = self._token(age), {hook: Want(20, visible_after_s) for hook in hooks}
        answers = self.ask(lambda store, index: store.retry_queue.claim(SHARD, token[index], wanted))
        if answers.twin == STALE:
            assert answers.redis == STALE
            return
        ones, others = ({claimed.delivery_id: claimed for claimed in answer} for answer in answers)
        assert {key: _what(claimed) for key, claimed in ones.items()} == {key: _what(claimed) for key, claimed in others.items()}
        for key, one in ones.items():
            self.claims.append((key, one.event_key, one.webhook_id, Both(one.claim, others[key].claim)))

    @rule(hooks=st.sets(st.sampled_from(HOOKS)), age=st.integers(0, 1) | st.just(0))
    def hold(self, hooks: set[WebhookId], age: int) -> None:
        self.agree(lambda store, index: store.retry_queue.hold(SHARD, self._token(age)[index], hooks))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=st.sampled_from(["delivered", "retry", "hand back", "dead"]), retry_in_s=NOW_OR_NEVER)
    def settle(self, data: st.DataObject, outcome: str, retry_in_s: float) -> None:
        delivery_id, event_key, webhook_id, claim = data.draw(st.sampled_from(self.claims))
        settlement = Settlement(
            claim=ClaimId(0),
            delivery_id=delivery_id,
            event_key=event_key,
            webhook_id=webhook_id,
            delivered=outcome == "delivered",
            retry_in_s=retry_in_s if outcome in ("retry", "hand back") else None,
            counted=outcome != "hand back",
            dead=DeadReason.EXHAUSTED if outcome == "dead" else None,
            error="500" if outcome in ("retry", "dead") else None,
        )
        self.agree(lambda store, index: store.retry_queue.settle(SHARD, [replace(settlement, claim=claim[index])]))

    @rule(prefix=st.integers(1, 7).map(Position), done=st.lists(st.builds(Done, few, st.sampled_from([None, *HOOKS])), max_size=2))
    def checkpoint(self, prefix: Position, done: list[Done]) -> None:
        self.saves += 1
        checkpoint = Checkpoint(shard=SHARD, token=Token(0), number=self.saves, prefix=prefix, done=done)
        self.agree(lambda store, index: store.checkpoints.save(replace(checkpoint, token=self.tokens[-1][index])))

    @rule()
    def begin_another_tenure(self) -> None:
        self.new_tenure()

    @rule(limit=st.integers(1, 3))
    def expire_dead_letters(self, limit: int) -> None:
        waiting = len(self.agree(_letters))
        if limit >= waiting:  # fewer would leave the choice between letters of the same millisecond
            self.agree(lambda store, _: store.room.expire_dead_letters(SHARD, older_than_s=0, limit=limit))

    @invariant()
    def the_same_is_due(self) -> None:
        async def due(store: Store, _: int) -> dict[WebhookId, tuple[bool, int]]:
            return {one.webhook_id: (one.due_in_s <= 0, one.depth) for one in await store.retry_queue.due(SHARD, limit=10)}

        self.agree(due)

    @invariant()
    def the_same_is_dead(self) -> None:
        self.agree(_letters)

    @invariant()
    def the_same_waits_and_is_done(self) -> None:
        self.agree(lambda store, _: store.room.waiting([SHARD]))
        self.agree(lambda store, _: store.retry_queue.waiting_chats(SHARD, HOOKS))
        self.agree(lambda store, index: store.checkpoints.load(SHARD, self.tokens[-1][index]))


def _what(claimed: Claimed) -> Claimed:
    """Without the names and times that each store gives by itself."""
    return replace(claimed, claim=ClaimId(0), parked_for_s=0.0)


async def _letters(store: Store, _: int) -> set[tuple[DeliveryId, str, int, str | None]]:
    letters = await store.room.dead_letters(SHARD, limit=100)
    return {(letter.delivery_id, letter.reason, letter.attempts, letter.error) for letter in letters}


# --- leases -------------------------------------------------------------------------------------------------------------------

owners = st.sampled_from([OwnerId("ana"), OwnerId("bia"), OwnerId("caio")])
BRIEF_S = 0.001


class LeaseMachine(TwoStores):
    """Acquire, renew, release and let end, by three workers that use each other's tokens too."""

    def __init__(self) -> None:
        super().__init__()
        self.granted = Both([0, self.tokens[0].twin], [0, self.tokens[0].redis])

    @rule(owner=owners, is_brief=st.booleans(), sole=st.booleans() | st.just(False))
    def acquire(self, owner: OwnerId, is_brief: bool, sole: bool) -> None:
        ttl_s = BRIEF_S if is_brief else FAR_S
        answers = self.ask(lambda store, _: store.leases.acquire(SHARD, owner, ttl_s=ttl_s, sole=sole))
        assert self._meaning(answers.twin, 0) == self._meaning(answers.redis, 1)
        if is_brief:
            self._let_end()

    def _meaning(self, answer: Granted | Busy | Quarantined, index: int) -> object:
        """Tokens by their rank among all that this store has granted; a new one must be the highest."""
        if isinstance(answer, Busy):
            return Busy(0.0, answer.owner)
        assert isinstance(answer, Granted)
        granted = self.granted[index]
        if answer.token not in granted:
            assert answer.token > granted[-1]
            granted.append(answer.token)
        return granted.index(answer.token), granted.index(answer.previous)

    @rule(owner=owners, is_brief=st.booleans(), age=st.integers(0, 2))
    def renew(self, owner: OwnerId, is_brief: bool, age: int) -> None:
        ttl_s, token = BRIEF_S if is_brief else FAR_S, self._token(age)
        self.agree(lambda store, index: store.leases.renew({SHARD: token[index]}, owner, ttl_s=ttl_s))
        if is_brief:
            self._let_end()

    @rule(owner=owners, to=st.none() | owners, age=st.integers(0, 2))
    def release(self, owner: OwnerId, to: OwnerId | None, age: int) -> None:
        token = self._token(age)
        self.agree(lambda store, index: store.leases.release(SHARD, owner, token[index], to=to))

    @invariant()
    def the_same_worker_holds_it(self) -> None:
        self.agree(lambda store, _: store.leases.holders([SHARD]))

    @invariant()
    def only_the_newest_token_may_write(self) -> None:
        for age in range(3):
            token = self._token(age)
            self.agree(lambda store, index: store.checkpoints.load(SHARD, token[index]))  # noqa: B023 - asked at once

    def _let_end(self) -> None:
        self.loop.run(anyio.sleep(5 * BRIEF_S))  # noqa: TID251 - the TTL is what this is about

    def _token(self, age: int) -> Both:
        return Both(*(granted[-1 - min(age, len(granted) - 2)] for granted in self.granted))


@pytest.mark.parametrize("machine", [JournalMachine, RetryQueueMachine, LeaseMachine])
def test_twin_and_redis_never_disagree(redis_server: RealRedis, machine: type[TwoStores]) -> None:
    machine.server = redis_server
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=scaled(60, 3_000),
            stateful_step_count=scaled(30, 60),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
