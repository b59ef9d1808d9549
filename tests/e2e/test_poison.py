"""One event ends the process, as a parser that crashes would: after a few restarts it is one dead letter, and all else arrives."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from tests.conftest import scaled
from tests.e2e import poison_child
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, Worker, declared, everything_arrives, pushing, until
from worker.journal.care import STRIKES, TENURES_WITHOUT_PROGRESS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 600))]

POISON = "POISON"
INSTANCES = tuple(f"i{n}" for n in range(12))
RESTARTS = TENURES_WITHOUT_PROGRESS + STRIKES + 1
"""The first life found nothing waiting and read it fresh; three tenures got nowhere; two died under the mark; the next one lives."""


async def restarts_until_it_lives(worker: Worker) -> int:
    """A supervisor: starts it again each time it ends, until it has buried the event."""
    restarts = 0
    while True:
        await until(lambda: not worker.is_alive or bool(worker.lines("event_is_poison")), 30, "it ends, or has buried the event")
        if worker.is_alive:
            return restarts
        assert await worker.ended(1) == -signal.SIGKILL
        restarts += 1
        assert restarts <= RESTARTS, f"still dying: {worker.lines()[-5:]}"
        await worker.launch()


async def test_an_event_that_ends_the_process_is_one_dead_letter_and_all_else_arrives(rig: Rig) -> None:
    hooks = [Hook("crm", rig.sink.url("crm")), Hook("erp", rig.sink.url("erp", "slow-20"))]
    worker = rig.worker(declared(hooks, INSTANCES))
    worker.command = [sys.executable, str(Path(poison_child.__file__)), POISON]
    await worker.start()
    gateway = rig.gateway(worker)
    await gateway.push_many(200, INSTANCES)
    began_s = time.monotonic()
    async with pushing(gateway, per_s=50, instances=INSTANCES), anyio.create_task_group() as poisoning:
        poisoning.start_soon(gateway.push, POISON, INSTANCES[0])
        await until(lambda: not worker.is_alive, 10, "it ends the first time")
        restarts = await restarts_until_it_lives(worker)
        took_s = time.monotonic() - began_s
    [buried] = worker.lines("event_is_poison")
    assert POISON in gateway.accepted
    del gateway.accepted[POISON]
    healed_s = await everything_arrives(rig, gateway, hooks, 60)
    letters = worker.lines("dead_letter")
    duplicates = sum(len(rig.sink.repeated(hook.name)) for hook in hooks)
    dead = await worker.metric("dead_letters_total", reason="poison", tenant="t")
    code, _ = await worker.stop()
    state(
        "poison",
        accepted=len(gateway.accepted) + 1,
        lost=0,
        restarts=restarts,
        restarts_at_most=RESTARTS,
        until_buried_s=took_s,
        duplicates=duplicates,
        healed_s=healed_s,
        exit_code=code,
    )
    assert [(letter["reason"], letter["tenant"]) for letter in letters] == [("poison", "t")]
    assert dead == 1
    assert buried["next_step"]
    assert not any(POISON in rig.sink.got(hook.name) for hook in hooks)
    assert code == 0
    assert worker.report()["balances"]
