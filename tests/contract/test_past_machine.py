"""Hypothesis drives queue, dead letters and replays of the twin and of a real Redis side by side: what waits has its record."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from tests.conftest import scaled
from tests.contract.past_samples import MINE
from tests.contract.samples import SHARD, TENANT, Store, parking
from tests.contract.test_store_machines import HOOKS, NOW_OR_NEVER, RetryQueueMachine, few
from tests.real_redis import RealRedis
from worker.domain.ids import EventKey, Position, WebhookId
from worker.event_integration.past import Enqueued, Letter, Moved, Moving, PastDelivery, Stage

pytestmark = pytest.mark.timeout(scaled(400, 3_600))  # a failure may take hypothesis five minutes to shrink

KEYS = {Position(number): parking(Position(number)).event_key for number in range(1, 7)}
SOMEWHERE = {Stage.QUEUED, Stage.CLAIMED, Stage.DEAD}


class PastMachine(RetryQueueMachine):
    """What `RetryQueueMachine` does, and beside it an operator who replays, discards and queues the past."""

    @rule(pick=st.integers(0, 20), to=st.sampled_from(HOOKS), due_in_s=NOW_OR_NEVER, twice=st.booleans())
    def replay(self, pick: int, to: WebhookId, due_in_s: float, twice: bool) -> None:
        letter = self._letter(pick)
        if letter is None:
            return
        for _ in range(1 + twice):
            assert self.agree(lambda store, _: store.dead_letters.replay([Moving(letter, to, due_in_s)])) == [Moved.QUEUED]

    @rule(pick=st.integers(0, 20))
    def discard(self, pick: int) -> None:
        letter = self._letter(pick)
        if letter is not None:
            assert self.agree(lambda store, _: store.dead_letters.discard([letter])) == 1

    @rule(position=few, hook=st.sampled_from(HOOKS), due_in_s=NOW_OR_NEVER, is_new_to_it=st.booleans())
    def enqueue(self, position: Position, hook: WebhookId, due_in_s: float, is_new_to_it: bool) -> None:
        item = parking(position, hook=hook)
        past = PastDelivery(
            delivery_id=item.delivery_id,
            event_key=item.event_key,
            webhook_id=hook,
            tenant_id=TENANT,
            position=position,
            record=item.record,
            due_in_s=due_in_s,
            is_new_to_it=is_new_to_it,
        )
        [answer] = self.agree(lambda store, _: store.past.enqueue(SHARD, [past]))
        assert answer in Enqueued

    def _letter(self, pick: int) -> Letter | None:
        """One that both have; when they died differs by a few milliseconds."""
        letters = self._letters()
        return letters[pick % len(letters)] if letters else None

    def _letters(self) -> list[Letter]:
        answers = self.ask(lambda store, _: store.dead_letters.page(MINE, after=None, limit=100))
        ones, others = (sorted(answer.letters, key=lambda one: one.delivery_id) for answer in answers)
        assert [_what(one) for one in ones] == [_what(one) for one in others]
        return list(ones)

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def whatever_waits_has_its_record_and_no_record_waits_for_nobody(self) -> None:
        for position, event_key in KEYS.items():
            stages = self.agree(lambda store, _: _stages(store, event_key, position))  # noqa: B023 -- asked at once
            users = self.agree(lambda store, _: _users(store, event_key))  # noqa: B023 -- the same
            assert users == {hook for hook, stage in stages.items() if stage in SOMEWHERE}


def _what(letter: Letter) -> tuple[object, ...]:
    return letter.delivery_id, letter.reason, letter.attempts, letter.error, letter.position, letter.webhook_id


async def _stages(store: Store, event_key: EventKey, position: Position) -> dict[WebhookId, Stage]:
    states = await store.past.states(SHARD, event_key, position, HOOKS)
    return {hook: state.stage for hook, state in states.items()}


async def _users(store: Store, event_key: EventKey) -> frozenset[WebhookId]:
    found = await store.past.find(event_key)
    return frozenset() if found is None else found.users


def test_twin_and_redis_agree_about_the_past_and_nothing_waits_without_its_record(redis_server: RealRedis) -> None:
    PastMachine.server = redis_server
    run_state_machine_as_test(
        PastMachine,
        settings=settings(
            max_examples=scaled(20, 3_000),
            stateful_step_count=scaled(30, 60),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
