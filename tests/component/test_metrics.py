"""Every metric that is declared is fed: after one eventful life of two workers each has a sample on the page."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.component.broker_twin import BrokerTwin
from tests.component.contacts_world import ANA, owning_contacts
from tests.component.rig import Rig, Worker, pass_time, rig, until, webhook
from worker.adapters.memory_sockets import MemoryGateway
from worker.adapters.memory_transport import Answers, Fails, Hangs, Step
from worker.domain.ids import TenantId
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.transport import Cause, Stage
from worker.gateways import generic
from worker.gateways.port import Push
from worker.instances.parts import Served
from worker.loop_lag import LoopLag
from worker.management import ManagementSettings, instance_parts
from worker.metrics import Metrics
from worker.metrics_text import exposed_name

pytestmark = pytest.mark.anyio

SHORT = RetryPolicy(schedule_s=(1.0, 1.0), max_age_s=600)


def samples(text: str) -> dict[str, float]:
    """`name{labels}` → value."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


def value(worker: Worker, name: str) -> float:
    return samples(worker.engine.metrics.text())[name]


def unfed(text: str) -> list[str]:
    """Declared, and without a sample."""
    found = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    found |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    return [instrument.name for instrument in Metrics() if exposed_name(instrument) not in found]


def decode_or_crash(push: Push) -> Any:
    if b"crash" in push.body:
        raise RuntimeError("a fault in a gateway's module")
    return generic.decode(push)


async def push_oddities(it: Rig, worker: Worker) -> None:
    """What the door counts beside events: the same twice, a session nobody registered, a fault of ours, a fault of theirs."""
    await it.push_one(worker, "i0", "crash")
    it.accepted.remove("crash")
    await it.push_one(worker, "i0", "twice")
    await it.push_one(worker, "i0", "twice")
    await it.push_one(worker, "i0", "misnamed", gateway_instance="nobody-registered-this")
    body = orjson.dumps({"type": "message", "text": 5})
    reply = await worker.engine.ingest.accept("generic", "i0", {"content-type": "application/json"}, body)
    assert reply.status == 400


async def test_every_declared_metric_has_a_sample_after_an_eventful_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.GATEWAYS", {"generic": SimpleNamespace(**{**vars(generic), "decode": decode_or_crash})})
    hooks = (
        webhook("crm", events=("message",), enrich_contact=True),
        webhook("fails", events=("call",)),
        webhook("hangs", events=("call",), deadline_s=1.0),
    )
    gateway = MemoryGateway(gateway="generic")
    async with rig(*hooks, retry=SHORT, gateway=gateway) as it:
        a = await owning_contacts(it, BrokerTwin())
        lag = LoopLag()
        a.engine.metrics.event_loop_lag.watch(lag.recent_s)
        a.engine.metrics.worker_clock_error.watch(lambda: 0.001)
        it.answer("fails", Fails(stage=Stage.CONNECT, cause=Cause.REFUSED))
        it.answer("hangs", Hangs())
        await it.push(a, 5, sender_id=ANA)
        await it.push(a, 2, type="call")
        await it.push(a, 2, type="group")
        await push_oddities(it, a)
        await until(lambda: it.tell() > 0, within_s=30, what="its stream is read")
        gateway.drop()
        instances = instance_parts(a.engine, it.store, ManagementSettings(shards=it.shards), [Served(BrokerTwin())])
        await instances.refreshing.refresh(TenantId("acme"))
        await pass_time(15)
        a.faults.away = True
        await until(lambda: not a.holds, within_s=30, what="a has lost its shards")
        a.faults.away = False
        await until(lambda: len(a.holds) == it.shards, within_s=60, what="a has them again")
        await it.push(a, type="call")
        await pass_time(0.5)
        working = a.engine.metrics.text()
        await it.shut_down(a)
        assert unfed(working + a.engine.metrics.text()) == []


async def test_a_webhook_shows_what_is_under_way_how_much_may_be_and_its_circuit() -> None:
    async with rig(webhook("crm"), webhook("fails", deadline_s=1.0)) as it:
        a = await it.owning()
        it.answer("crm", *[Answers()] * 5, Answers(after_s=3))
        it.answer("fails", Answers(status=500))
        for _ in range(5):
            await it.push(a)
            await pass_time(0.2)
        await it.push(a)
        await pass_time(1)
        assert value(a, 'webhook_in_flight{webhook="crm"}') == 1
        assert value(a, 'webhook_concurrency_limit{webhook="crm"}') >= 2
        assert value(a, 'webhook_concurrency_limit{webhook="fails"}') == 1
        assert value(a, 'webhook_circuit_state{webhook="crm"}') == 0
        assert value(a, 'webhook_oldest_undelivered_age_seconds{tenant="acme",webhook="crm"}') == pytest.approx(1, abs=0.1)
        await until(lambda: value(a, 'webhook_circuit_state{webhook="fails"}') == 2, within_s=60, what="its circuit opens")
        it.answer("fails")
        await it.all_delivered(within_s=300)


async def test_a_delivery_that_is_due_and_may_not_start_ages_in_the_retry_queue() -> None:
    async with rig(webhook("hangs", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("hangs", Hangs())
        await it.push(a)
        await pass_time(3)
        await it.push(a)
        await pass_time(10)
        assert 5 < value(a, "retry_queue_oldest_due_age_seconds") < 10
        it.answer("hangs")
        await it.all_delivered(within_s=300)
        await pass_time(6)
        assert value(a, "retry_queue_oldest_due_age_seconds") == 0


@pytest.mark.parametrize(
    ("step", "maybe_twice"),
    [
        (Hangs(), 2),
        (Fails(stage=Stage.FIRST_BYTE, cause=Cause.RESET), 2),
        (Hangs(stage=Stage.SEND), 0),
        (Fails(stage=Stage.CONNECT, cause=Cause.REFUSED), 0),
        (Answers(status=500), 0),
    ],
    ids=str,
)
async def test_only_what_was_sent_whole_and_goes_out_again_may_have_come_twice(step: Step, maybe_twice: int) -> None:
    """Two retries, then dead: the last attempt is not repeated."""
    async with rig(webhook("crm", deadline_s=1.0), retry=SHORT) as it:
        a = await it.owning()
        it.answer("crm", step)
        await it.push(a)
        await until(lambda: len(it.attempts("crm")) == 3, within_s=120, what="three attempts")
        await pass_time(3)
        assert samples(a.engine.metrics.text()).get("webhook_duplicates_total", 0) == maybe_twice


async def test_an_event_of_the_journal_ages_from_its_acceptance_whoever_reads_it() -> None:
    async with rig(webhook("hangs", deadline_s=30.0)) as it:
        a = await it.owning("a")
        assert value(a, "journal_oldest_age_seconds") == 0
        it.answer("hangs", Hangs())
        await it.push(a)
        await pass_time(3)
        assert value(a, "journal_oldest_age_seconds") == pytest.approx(3, abs=0.1)
        await a.kill()
        b = await it.owning("b")
        await pass_time(1)
        since_s = value(b, "journal_oldest_age_seconds")
        assert since_s > 10 > value(b, "event_integration_oldest_age_seconds")
        assert b.engine.statistics()["journal"]["oldest_age_s"] == pytest.approx(since_s, abs=0.1)
        it.answer("hangs")
        await it.all_delivered(within_s=300)
        await pass_time(1)
        assert value(b, "journal_oldest_age_seconds") == 0


async def test_a_shutdown_counts_its_reason_its_phases_and_what_it_spilled() -> None:
    async with rig(webhook("crm"), webhook("hangs")) as it:
        a, _ = await it.owning(), await it.start("b", revision=2)
        it.answer("hangs", Hangs())
        await it.push(a, 3)
        await it.shut_down(a)
        assert value(a, 'worker_rotations_total{reason="deployment"}') == 1
        assert value(a, 'shutdown_phase_duration_seconds_count{phase="drain"}') == 1
        assert value(a, "shutdown_spilled_total") == 2
        it.answer("hangs")
        await it.all_delivered(within_s=300)


async def test_a_shard_is_read_at_once_when_it_is_granted() -> None:
    async with rig() as it:
        a = await it.owning()
        await pass_time(2)
        assert value(a, "client_registry_handover_duration_seconds_count") == it.shards
        assert value(a, "client_registry_handover_duration_seconds_sum") < 0.1
