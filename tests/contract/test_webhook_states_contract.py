"""What is kept of a webhook beside its declaration: that it fails, that it is disabled, its pauses (design 3 "Room", contract 4, 5)."""

from __future__ import annotations

import pytest

from tests.contract.samples import HOOK, LONG_S, SHORT_S, Store, eventually
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import MAX_PAUSES, DisabledReason, WebhookState

pytestmark = pytest.mark.anyio

OTHER = WebhookId("billing")
GONE, UNANSWERED, BY_HAND = DisabledReason.GONE, DisabledReason.UNANSWERED, DisabledReason.BY_HAND


async def reasons(store: Store) -> dict[WebhookId, DisabledReason | None]:
    return {webhook_id: state.disabled for webhook_id, state in (await store.webhook_states.all_states()).items()}


async def test_nothing_is_known_of_webhooks_that_answer(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[HOOK], failed=[])
    assert await reasons(store) == {}


async def test_a_webhook_fails_from_its_first_failure_on(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])

    async def has_aged() -> bool:
        await store.webhook_states.note_answers(answered=[], failed=[HOOK, OTHER])
        return (await store.webhook_states.all_states())[HOOK].for_s > SHORT_S

    assert await eventually(has_aged)
    assert await reasons(store) == {HOOK: None, OTHER: None}


async def test_an_answer_ends_the_failing(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[], failed=[HOOK, OTHER])
    await store.webhook_states.note_answers(answered=[HOOK], failed=[])
    assert await reasons(store) == {OTHER: None}


async def test_an_answer_and_then_a_failure_begin_the_failing_anew(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])

    async def has_aged() -> bool:
        return (await store.webhook_states.all_states())[HOOK].for_s > SHORT_S

    assert await eventually(has_aged)
    await store.webhook_states.note_answers(answered=[HOOK], failed=[HOOK])
    assert 0 <= (await store.webhook_states.all_states())[HOOK].for_s < SHORT_S


async def test_a_disabled_webhook_is_disabled_for_everybody_with_its_first_reason(store: Store) -> None:
    assert await store.webhook_states.disable(HOOK, GONE)
    assert await store.webhook_states.disable(HOOK, UNANSWERED)
    state = (await store.webhook_states.all_states())[HOOK]
    assert state.disabled is GONE
    assert 0 <= state.for_s < LONG_S


async def test_no_answer_and_no_failure_changes_a_disabled_webhook(store: Store) -> None:
    """Attempts that were under way still end; a 2xx among them does not undo what an operator was told."""
    await store.webhook_states.disable(HOOK, GONE)
    await store.webhook_states.note_answers(answered=[HOOK], failed=[HOOK])
    assert await reasons(store) == {HOOK: GONE}


async def test_a_failing_webhook_that_says_410_is_disabled_from_then_on(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])
    assert await store.webhook_states.disable(HOOK, GONE)
    assert await reasons(store) == {HOOK: GONE}


async def test_it_is_disabled_for_failing_only_once_it_has_failed_for_so_long(store: Store) -> None:
    """Decided by the store: another worker may have had an answer meanwhile."""
    assert not await store.webhook_states.disable(HOOK, UNANSWERED, failing_for_s=SHORT_S)
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])
    assert not await store.webhook_states.disable(HOOK, UNANSWERED, failing_for_s=LONG_S)
    assert await reasons(store) == {HOOK: None}

    async def is_disabled() -> bool:
        return await store.webhook_states.disable(HOOK, UNANSWERED, failing_for_s=SHORT_S)

    assert await eventually(is_disabled)
    assert await reasons(store) == {HOOK: UNANSWERED}


# --- by hand ------------------------------------------------------------------------------------------------------------------


async def state_of(store: Store, webhook_id: WebhookId = HOOK) -> WebhookState:
    return (await store.webhook_states.all_states()).get(webhook_id, WebhookState())


async def test_enabling_undoes_a_disable_whatever_its_reason(store: Store) -> None:
    for reason in DisabledReason:
        await store.webhook_states.disable(HOOK, reason)
        assert await reasons(store) == {HOOK: reason}
        await store.webhook_states.enable(HOOK)
        assert await reasons(store) == {}


async def test_enabling_forgets_that_it_failed(store: Store) -> None:
    """Else its next failure would disable it again at once."""
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])
    await store.webhook_states.enable(HOOK)
    assert await state_of(store) == WebhookState()


async def test_a_paused_webhook_is_paused_until_it_is_resumed(store: Store) -> None:
    await store.webhook_states.pause(HOOK)
    state = await state_of(store)
    assert (state.is_paused, state.is_failing, state.disabled, len(state.pauses)) == (True, False, None, 1)
    assert 0 <= state.pauses[0].from_s < LONG_S
    assert state.pauses[0].to_s == 0
    await store.webhook_states.resume(HOOK)
    state = await state_of(store)
    assert not state.is_paused
    assert LONG_S > state.pauses[0].from_s >= state.pauses[0].to_s >= 0


async def test_pausing_and_resuming_may_be_repeated(store: Store) -> None:
    await store.webhook_states.resume(HOOK)
    assert not (await state_of(store)).pauses
    await store.webhook_states.pause(HOOK)

    async def has_aged() -> bool:
        await store.webhook_states.pause(HOOK)
        return (await state_of(store)).pauses[0].from_s > SHORT_S

    assert await eventually(has_aged)
    await store.webhook_states.resume(HOOK)

    async def has_ended() -> bool:
        await store.webhook_states.resume(HOOK)
        return (await state_of(store)).pauses[0].to_s > SHORT_S

    assert await eventually(has_ended)
    assert len((await state_of(store)).pauses) == 1


async def test_of_many_pauses_the_oldest_become_one(store: Store) -> None:
    for _ in range(2 * MAX_PAUSES):
        await store.webhook_states.pause(HOOK)
        await store.webhook_states.resume(HOOK)
    await store.webhook_states.pause(HOOK)
    state = await state_of(store)
    assert state.is_paused
    assert len(state.pauses) == MAX_PAUSES
    instants = [instant for pause in state.pauses for instant in pause]
    assert instants == sorted(instants, reverse=True)


async def test_a_webhook_may_be_paused_and_failing_and_disabled(store: Store) -> None:
    await store.webhook_states.note_answers(answered=[], failed=[HOOK])
    await store.webhook_states.pause(HOOK)
    state = await state_of(store)
    assert (state.is_paused, state.is_failing) == (True, True)
    await store.webhook_states.disable(HOOK, GONE)
    state = await state_of(store)
    assert (state.is_paused, state.disabled) == (True, GONE)
    await store.webhook_states.enable(HOOK)
    assert (await state_of(store)).is_paused


async def test_the_time_it_fails_begins_anew_after_a_pause(store: Store) -> None:
    """Nobody asked it meanwhile."""
    await store.webhook_states.note_answers(answered=[], failed=[HOOK, OTHER])
    await store.webhook_states.pause(HOOK)
    await store.webhook_states.resume(HOOK)
    assert not (await state_of(store)).is_failing
    assert (await state_of(store, OTHER)).is_failing


async def test_no_resuming_enables_a_disabled_webhook(store: Store) -> None:
    await store.webhook_states.disable(HOOK, BY_HAND)
    await store.webhook_states.pause(HOOK)
    await store.webhook_states.resume(HOOK)
    assert await reasons(store) == {HOOK: BY_HAND}


async def test_nothing_is_known_of_a_webhook_that_was_deleted(store: Store) -> None:
    await store.webhook_states.disable(HOOK, GONE)
    await store.webhook_states.pause(HOOK)
    await store.webhook_states.forget(HOOK)
    assert await reasons(store) == {}
