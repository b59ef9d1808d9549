"""What is registered at run time: seen by every worker within a second, and acted upon by all that went by the old row."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from tests.component.rig import ACME, Rig, Worker, now_s, pass_time, rig, until, url, webhook
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_transport import Answers, Hangs
from worker.directory.following import BLOCK_S
from worker.directory.port import Revision, RowConflict
from worker.directory.registering import RECENT_S, Declared
from worker.domain.catalog import Catalog, Instance, Row, Tenant, Webhook
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.engine import Engine
from worker.event_integration.retry_queue import DeadReason

pytestmark = pytest.mark.anyio

NEW = Revision(0)
BETA = TenantId("beta")


def instance(name: str, **more: Any) -> Instance:
    return Instance(**{"id": InstanceId(name), "tenant_id": ACME, "gateway": "generic", "gateway_instance": f"{name}-phone", **more})


@asynccontextmanager
async def two_workers(*declared: Webhook, **more: Any) -> AsyncIterator[tuple[Rig, Worker, Worker]]:
    """`owner` holds every shard; `other` holds none. Each has a catalog of its own."""
    async with rig(*declared, **more) as it:
        owner = await it.owning("owner", catalog=own(it))
        other = await it.start("other", revision=0, catalog=own(it))
        yield it, owner, other


def own(it: Rig) -> Catalog:
    return Catalog(it.catalog.tenants.values(), it.catalog.instances.values(), it.catalog.webhooks.values())


async def registered(it: Rig, worker: Worker, *rows: Row) -> None:
    """Written through one worker; the webhooks' endpoints answer, and count in the rig's verdict."""
    for row in rows:
        await worker.engine.registrar.put(row, expected=NEW)
        if isinstance(row, Webhook):
            it.endpoints.script(row.url, Answers())


# -- seen ------------------------------------------------------------------------------------------------------------------


async def test_a_webhook_registered_at_one_worker_gets_what_another_routes_within_a_second() -> None:
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("new"))
        assert "new" in other.engine.catalog.webhooks  # what it wrote it sees at once
        await until(lambda: "new" in owner.engine.catalog.webhooks, within_s=1, what="the owner has heard of it")
        await it.push(other, 20)
        await it.all_delivered("new", "crm", within_s=5)


async def test_an_instance_registered_at_one_worker_is_accepted_by_another_at_once() -> None:
    """Also by one that cannot hear of it: it asks the store before it says 404."""
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("new"))
        owner.faults.before = _only_hears_nothing
        await pass_time(2 * BLOCK_S)
        await registered(it, other, instance("fresh"))
        assert "fresh" not in owner.engine.catalog.instances
        [reply] = await it.push(owner, instance="fresh")
        assert reply.status == 202
        await it.all_delivered("new", within_s=5)


async def test_an_instance_that_is_only_half_made_takes_pushes_already() -> None:
    """Its broker may push before it has answered that the instance is there."""
    async with rig(webhook("crm")) as it:
        worker = await it.owning(catalog=own(it))
        await registered(it, worker, instance("half", is_made=False, broker="main"))
        assert (await it.push(worker, instance="half"))[0].status == 202
        await it.all_delivered(within_s=5)


async def test_what_an_unknown_instance_sent_is_delivered_by_an_owner_that_never_heard_of_it() -> None:
    """Accepted by a worker that knew it, deleted before the owner read it: an accepted event is never unwanted for that."""
    async with two_workers() as (it, owner, other):
        owner.faults.before = _only_hears_nothing
        await pass_time(2 * BLOCK_S)
        await registered(it, other, instance("fresh"))
        assert "fresh" not in owner.engine.catalog.instances
        [reply] = await it.push(other, instance="fresh")
        assert reply.status == 202
        await it.all_delivered("crm", within_s=5)


async def _only_hears_nothing(script: str) -> None:
    if script in {"changes", "everything"}:
        await anyio.sleep_forever()


async def test_a_new_worker_begins_with_everything_that_was_registered() -> None:
    async with two_workers() as (it, _owner, other):
        rows: list[Row] = [webhook("new"), instance("fresh"), Tenant(id=BETA, api_keys_sha256=("a" * 64,))]
        await registered(it, other, *rows)
        late = await it.start("late", revision=0, catalog=own(it))
        catalog = late.engine.catalog
        assert [catalog.webhooks[WebhookId("new")], catalog.instances[InstanceId("fresh")], catalog.tenants[BETA]] == rows
        assert catalog.tenant_of_key("a" * 64) == rows[2]


# -- gone and changed ------------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_removed_webhook_becomes_dead_letters() -> None:
    async with two_workers() as (it, owner, other):
        gone = webhook("gone")
        await registered(it, other, gone)
        it.answer("gone", Hangs())
        await until(lambda: "gone" in owner.engine.catalog.webhooks, within_s=1, what="the owner has heard of it")
        await it.push(other, 30)
        await until(lambda: owner.engine.buffer.lane(gone.id).in_flight > 0, within_s=5, what="an attempt hangs")
        assert await other.engine.registrar.remove(gone)
        await until(lambda: not owner.engine.buffer.lane(gone.id).waiting, within_s=1, what="nothing waits for it in memory")
        await it.push(other, 10)
        await it.nothing_waits()
        letters = await it.dead_letters()
        assert {letter.reason for letter in letters} == {DeadReason.WEBHOOK_DELETED}
        assert len(letters) == 30 - len(it.deliveries("gone")), "routed before it was removed, and none after"
        await it.all_delivered("crm", within_s=1)


async def test_of_a_removed_webhook_for_which_nothing_waits_nothing_stays_in_memory() -> None:
    async with rig(webhook("crm")) as it:
        worker = await it.owning(catalog=own(it))
        engine = worker.engine
        for number in range(20):
            fleeting = webhook(f"fleeting-{number}")
            await registered(it, worker, fleeting)
            await it.push(worker, 2)
            await it.nothing_waits()
            assert len(it.deliveries(fleeting.id)) == 2
            await engine.registrar.remove(fleeting)
        assert [lane.webhook_id for lane in engine.buffer.lanes()] == ["crm"]
        assert set(engine.pipeline.builder._prepared) == {"crm"}  # noqa: SLF001


async def test_a_changed_url_is_where_the_next_attempt_goes() -> None:
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("moving"))
        it.answer("moving", Answers(status=500))
        await until(lambda: "moving" in owner.engine.catalog.webhooks, within_s=1, what="the owner has heard of it")
        await it.push(other, 1)
        await until(lambda: len(it.attempts("moving")) == 1, within_s=5, what="it fails at its old place")
        it.endpoints.script(url("moved"), Answers())
        changed = await other.engine.registrar.change(webhook("moving"), lambda row: replace(row, url=url("moved")))
        assert changed is not None
        await it.all_delivered("moved", within_s=10)
        assert len(it.attempts("moving")) == 1


async def test_a_webhook_that_is_switched_off_gets_nothing_new() -> None:
    async with two_workers() as (it, _owner, other):
        await registered(it, other, webhook("switched"))
        await other.engine.registrar.change(webhook("switched"), lambda row: replace(row, enabled=False))
        await pass_time(0.1)
        await it.push(other, 5)
        await it.all_delivered("crm", within_s=5)
        await it.nothing_waits()
        assert not it.attempts("switched")


async def test_a_webhook_that_comes_to_want_order_keeps_it_from_the_next_event_on() -> None:
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("strict"))
        await it.push(other, 5, chat_id="5511900000001@s.whatsapp.net")
        await it.all_delivered("strict", within_s=5)
        await other.engine.registrar.change(webhook("strict"), lambda row: replace(row, ordering="chat"))
        await until(lambda: "strict" in owner.engine.chats.webhooks, within_s=1, what="the owner has heard of it")
        it.answer("strict", Answers(status=500), Answers())
        await it.push(other, 20, instance="i1", chat_id="5511900000001@s.whatsapp.net")
        await it.all_delivered("strict", within_s=120)
        in_turn = [a.text for a in owner.wire.answered if a.webhook == url("strict")][5:]
        assert in_turn == sorted(in_turn, key=lambda text: int(text[1:]))
        assert len(in_turn) == 20


async def test_chats_that_wait_from_an_earlier_time_of_order_are_not_overtaken() -> None:
    """Ordered, then not, then ordered again: a delivery of the chat waits in the store, the tenure began when nobody asked for order."""
    async with rig(webhook("crm")) as it:
        first = await it.owning("first", catalog=own(it))
        strict = webhook("strict", ordering="chat")
        await registered(it, first, strict)
        it.answer("strict", Answers(status=500), Answers())
        chat = {"instance": "i1", "chat_id": "5511900000001@s.whatsapp.net"}
        await it.push(first, 1, **chat)
        await until(lambda: len(it.attempts("strict")) == 1, within_s=5, what="the first fails, and waits in the store")
        await first.engine.registrar.change(strict, lambda row: replace(row, ordering="none"))
        await it.shut_down(first)

        second = await it.start("second", catalog=own(it))
        second.faults.before = _claims_nothing
        await until(lambda: len(second.holds) == it.shards, within_s=40, what="it owns all shards")
        assert not second.engine.chats.webhooks
        await second.engine.registrar.change(strict, lambda row: replace(row, ordering="chat"))
        await it.push(second, 5, **chat)
        await pass_time(5)
        assert not it.deliveries("strict"), "all wait behind the first"
        second.faults.before = None
        await it.all_delivered("strict", within_s=120)
        in_turn = [a.text for a in second.wire.answered if a.webhook == url("strict")]
        assert in_turn == sorted(in_turn, key=lambda text: int(text[1:]))


async def _claims_nothing(script: str) -> None:
    if script == "claim":
        raise StoreUnavailable("claim: away")


# -- rules -----------------------------------------------------------------------------------------------------------------


async def test_what_the_file_declares_cannot_be_registered_over() -> None:
    async with rig(webhook("crm")) as it:
        worker = await it.start(catalog=own(it))
        registrar = worker.engine.registrar
        for row in (webhook("crm", description="mine"), replace(it.catalog.instances[InstanceId("i0")], name="mine"), Tenant(id=ACME)):
            with pytest.raises(Declared, match="declared in the file"):
                await registrar.put(row, expected=NEW)
            with pytest.raises(Declared):
                await registrar.remove(row)
        assert worker.engine.catalog.webhooks[WebhookId("crm")].description == ""


async def test_a_row_that_the_file_declares_later_is_the_files() -> None:
    async with rig(webhook("crm")) as it:
        await it.store.directory.put(webhook("crm", description="registered before"), expected=NEW)
        worker = await it.start(catalog=own(it))
        assert worker.engine.catalog.webhooks[WebhookId("crm")].description == ""


async def test_who_edits_a_row_does_not_undo_what_others_wrote_meanwhile() -> None:
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("shared"))
        async with anyio.create_task_group() as editors:
            for worker, name in [(owner, "a"), (other, "b"), (owner, "c"), (other, "d")]:
                editors.start_soon(_add_header, worker.engine, name)
        assert set(other.engine.catalog.webhooks[WebhookId("shared")].headers) == {"a", "b", "c", "d"}
        await pass_time(1)
        assert owner.engine.catalog.webhooks == other.engine.catalog.webhooks
        assert await other.engine.registrar.change(webhook("nobody"), lambda row: row) is None


async def _add_header(engine: Engine, name: str) -> None:
    await engine.registrar.change(webhook("shared"), lambda row: replace(row, headers={**row.headers, name: "x"}))


async def test_a_registered_instance_cannot_take_a_session_that_a_declared_one_has() -> None:
    async with rig() as it:
        declared = instance("declared", broker="main")
        worker = await it.start(catalog=Catalog([Tenant(id=ACME)], [declared], []))
        with pytest.raises(RowConflict, match="name"):
            await worker.engine.registrar.put(replace(declared, id=InstanceId("thief"), tenant_id=BETA), expected=NEW)


async def test_a_registered_tenant_cannot_have_a_key_that_a_declared_one_has() -> None:
    async with rig() as it:
        worker = await it.start(catalog=Catalog([Tenant(id=ACME, api_keys_sha256=("a" * 64,))], [], []))
        with pytest.raises(RowConflict, match="key"):
            await worker.engine.registrar.put(Tenant(id=BETA, api_keys_sha256=("b" * 64, "a" * 64)), expected=NEW)
        holder = worker.engine.catalog.tenant_of_key("a" * 64)
        assert holder is not None
        assert holder.id == ACME


async def test_a_second_tenant_ends_the_right_of_the_first_to_the_whole_backlog() -> None:
    async with rig(webhook("crm")) as it:
        worker = await it.start(catalog=own(it))
        door = worker.engine.door
        assert door._limits.tenant_share == 1.0  # noqa: SLF001
        await worker.engine.registrar.put(Tenant(id=BETA), expected=NEW)
        assert door._limits.tenant_share == 0.25  # noqa: SLF001
        await worker.engine.registrar.remove(Tenant(id=BETA))
        assert door._limits.tenant_share == 1.0  # noqa: SLF001


# -- what it costs, and when the store is away -----------------------------------------------------------------------------


async def test_an_idle_directory_costs_one_call_per_block_time() -> None:
    async with rig(webhook("crm")) as it:
        worker = await it.start(catalog=own(it))
        worker.faults.calls.clear()
        await pass_time(10 * BLOCK_S)
        asked = [call for call in worker.faults.calls if call in {"changes", "everything", "find", "find_tenant_of_key"}]
        assert asked == ["changes"] * len(asked)
        assert 9 <= len(asked) <= 11


async def test_a_push_whose_signature_fails_is_checked_once_more_with_the_row_of_the_store() -> None:
    """The secret was rotated at another worker a moment ago; the gateway already signs with the new one."""
    body = b'{"type": "message", "event_key": "k"}'
    async with two_workers() as (it, owner, other):
        signed = instance("signed", ingest_secrets=("old",))
        await registered(it, other, signed)
        await until(lambda: "signed" in owner.engine.catalog.instances, within_s=1, what="the owner has heard of it")
        owner.faults.before = _only_hears_nothing
        await pass_time(2 * BLOCK_S)
        headers = {"x-signature": "sha256=" + hmac.new(b"new", body, "sha256").hexdigest()}
        assert (await owner.engine.ingest.accept("generic", "signed", headers, body)).status == 401
        await pass_time(RECENT_S)
        await other.engine.registrar.change(signed, lambda row: replace(row, ingest_secrets=("new",)))
        owner.faults.calls.clear()
        assert (await owner.engine.ingest.accept("generic", "signed", headers, body)).status == 202
        for _ in range(50):
            assert (await owner.engine.ingest.accept("generic", "signed", {}, body)).status == 401
        assert owner.faults.calls.count("find") == 1, "whoever signs wrongly again and again is not looked up again and again"


async def test_while_the_store_is_away_a_stranger_is_told_to_come_again_and_not_that_nobody_knows_it() -> None:
    async with rig() as it:
        worker = await it.start(catalog=own(it))
        assert (await it.push(worker, instance="stranger"))[0].status == 404
        await pass_time(RECENT_S)
        worker.faults.away = True
        assert (await it.push(worker, instance="stranger"))[0].status == 503


async def test_while_the_store_is_away_what_is_known_holds_and_afterwards_nothing_is_missing() -> None:
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("before"))
        owner.faults.away = True
        await pass_time(20)
        await registered(it, other, webhook("meanwhile"))
        await other.engine.registrar.remove(webhook("before"))
        assert "before" in owner.engine.catalog.webhooks
        assert not owner.engine.follower.is_current
        owner.faults.away = False
        await pass_time(2)
        assert owner.engine.catalog.webhooks == other.engine.catalog.webhooks
        assert owner.engine.follower.is_current


async def test_nothing_is_owned_before_all_that_was_registered_is_known() -> None:
    """Else the retry queue's deliveries of a webhook not heard of would end as if it had been deleted."""
    async with two_workers() as (it, owner, other):
        await registered(it, other, webhook("new"))
        it.answer("new", Answers(status=500), Answers())
        await pass_time(0.1)
        await it.push(other, 8)
        await until(lambda: len(it.attempts("new")) >= 1, within_s=5, what="something is parked")
        await owner.kill()
        await other.kill()

        def deaf(faults: StoreFaults) -> None:
            faults.before = _fails_to_read_everything

        late = await it.start("late", catalog=own(it), prepare=deaf)
        await pass_time(60)
        assert not late.holds
        assert not late.engine.registry.is_ready
        assert (await late.engine.ingest.accept("generic", "i1", {}, b'{"type": "message"}')).status == 202
        late.faults.before = None
        await it.all_delivered("new", within_s=120)
        assert await it.dead_letters() == []


async def test_a_worker_that_never_got_to_know_everything_leaves_as_it_came() -> None:
    async with rig(webhook("crm")) as it:

        def deaf(faults: StoreFaults) -> None:
            faults.before = _fails_to_read_everything

        worker = await it.start(catalog=own(it), prepare=deaf)
        await pass_time(30)
        await it.push(worker, 3)
        started_s = now_s()
        shutdown = await it.shut_down(worker)
        assert shutdown.left_nothing
        assert now_s() - started_s < 5
        await it.start("next", catalog=own(it))
        await it.all_delivered(within_s=60)


async def _fails_to_read_everything(script: str) -> None:
    if script == "everything":
        raise StoreUnavailable("everything: away")
