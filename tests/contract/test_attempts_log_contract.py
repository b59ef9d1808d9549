"""The attempts log (contract 5: the last 100 attempts of a webhook)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.samples import HOOK, OTHER_HOOK, Store
from worker.domain.ids import DeliveryId, EventKey
from worker.event_integration.attempts_log import KEPT, AttemptEntry
from worker.event_integration.transport import Stage

pytestmark = pytest.mark.anyio

ENTRY = AttemptEntry(
    at_s=1_763_790_000.125,
    event_key=EventKey("event 1"),
    delivery_id=DeliveryId("msg_1"),
    attempt=1,
    outcome="delivered",
    duration_s=0.25,
    status=200,
    phases_s={Stage.DNS: 0.001, Stage.FIRST_BYTE: 0.2},
)


async def test_an_attempt_comes_back_as_it_was(store: Store) -> None:
    failed = replace(ENTRY, status=None, outcome="retry", error="timeout: no answer", stage=Stage.FIRST_BYTE, phases_s={})
    await store.attempts_log.add({HOOK: [ENTRY, failed]})
    assert await store.attempts_log.attempts_of(HOOK) == [failed, ENTRY]


async def test_of_a_webhook_that_was_never_called_there_is_nothing(store: Store) -> None:
    await store.attempts_log.add({})
    await store.attempts_log.add({OTHER_HOOK: [ENTRY]})
    assert await store.attempts_log.attempts_of(HOOK) == []


async def test_the_newest_hundred_are_kept(store: Store) -> None:
    for start in range(0, KEPT + 50, 50):
        await store.attempts_log.add({HOOK: [replace(ENTRY, attempt=start + n) for n in range(50)]})
    kept = await store.attempts_log.attempts_of(HOOK)
    assert [entry.attempt for entry in kept] == list(range(KEPT + 49, 49, -1))


async def test_a_forgotten_webhook_leaves_the_others_alone(store: Store) -> None:
    await store.attempts_log.add({HOOK: [ENTRY], OTHER_HOOK: [ENTRY]})
    await store.attempts_log.forget(HOOK)
    assert await store.attempts_log.attempts_of(HOOK) == []
    assert await store.attempts_log.attempts_of(OTHER_HOOK) == [ENTRY]
