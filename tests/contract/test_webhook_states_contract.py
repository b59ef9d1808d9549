"""What is kept of a webhook beside its declaration: since when it fails, and that it is disabled (design 3 "Room", contract 4)."""

from __future__ import annotations

import pytest

from tests.contract.samples import HOOK, LONG_S, SHORT_S, Store, eventually
from worker.domain.ids import WebhookId
from worker.event_integration.webhook_states import DisabledReason

pytestmark = pytest.mark.anyio

OTHER = WebhookId("billing")
GONE, UNANSWERED = DisabledReason.GONE, DisabledReason.UNANSWERED


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
