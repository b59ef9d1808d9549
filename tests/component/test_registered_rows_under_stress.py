"""What is registered at run time, all at once: webhooks come, change and go while events flow and workers die."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.component.rig import Rig, Worker, pass_time, rig, webhook
from tests.component.test_registered_rows import NEW, own, registered
from tests.conftest import scaled
from worker.adapters.memory_transport import Answers, Hangs, Step
from worker.directory.port import Kind
from worker.domain.catalog import Webhook
from worker.event_integration.retry_queue import DeadReason

pytestmark = pytest.mark.anyio

NAMES = tuple(f"fleeting-{n}" for n in range(4))
TEMPERS: tuple[tuple[Step, ...], ...] = ((Answers(),), (Answers(status=500), Answers()), (Hangs(),))


@pytest.mark.parametrize("seed", range(scaled(4, 200)))
async def test_while_webhooks_come_change_and_go_and_workers_die_nobody_else_misses_an_event(seed: int) -> None:
    """One declared and one registered webhook stay; the others live a random life, at either of two workers, over a kill and a drain."""
    chance = random.Random(seed)
    async with rig(webhook("crm"), shards=2) as it:
        workers = [await it.start(f"w{n}", catalog=own(it)) for n in range(2)]
        await registered(it, workers[0], webhook("steady"))
        await pass_time(1)
        for step in range(60):
            worker = chance.choice([w for w in workers if not w.is_over])
            await _something_happens(it, worker, chance)
            await it.push(worker, chance.randrange(8), chat_id=f"551190000000{chance.randrange(3)}@s.whatsapp.net")
            await pass_time(chance.random() / 2)
            if step in {20, 40}:
                await (workers[-2].kill() if step == 20 else it.shut_down(workers[-2]))
                workers.append(await it.start(f"w{len(workers)}", catalog=own(it)))
                await pass_time(1)
        for name in NAMES:
            it.answer(name, Answers())
        await it.all_delivered("crm", "steady", within_s=600)
        await it.nothing_waits(within_s=3 * 86_400)
        assert {letter.webhook_id for letter in await it.dead_letters()} <= set(NAMES)
        assert {letter.reason for letter in await it.dead_letters()} <= {DeadReason.WEBHOOK_DELETED}
        live = [w.engine for w in workers if not w.is_over]
        assert live[0].catalog.webhooks == live[1].catalog.webhooks
        for engine in live:
            assert engine.chats.webhooks == {hook.id for hook in engine.catalog.webhooks.values() if hook.ordering == "chat"}
            assert set(engine.pipeline.builder._prepared) <= set(engine.catalog.webhooks)  # noqa: SLF001 -- nothing of the deleted stays


async def _something_happens(it: Rig, worker: Worker, chance: random.Random) -> None:
    registrar = worker.engine.registrar
    name = chance.choice(NAMES)
    stored = await registrar.find(Kind.WEBHOOK, name)
    if stored is None:
        await registrar.put(webhook(name, ordering=chance.choice(("none", "chat"))), expected=NEW)
        it.answer(name, *chance.choice(TEMPERS))
        return
    assert isinstance(stored.row, Webhook)
    edits: dict[str, Any] = {
        "ordering": chance.choice(("none", "chat")),
        "enabled": chance.random() < 0.8,
        "deadline_s": chance.choice((1.0, 5.0)),
    }
    if chance.random() < 0.3:
        assert await registrar.remove(stored.row)
    else:
        await registrar.change(stored.row, lambda row: replace(row, **edits))
