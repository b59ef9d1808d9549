"""Dead letters over the API, with engines that deliver: what is replayed arrives, at the rate asked for, and nothing is lost beside it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.component.api_calls import Api
from tests.component.rig import ACME, Rig, Worker, now_s, pass_time, rig, until, webhook
from worker.adapters.memory_transport import Answers, Fails
from worker.domain.catalog import Tenant, Webhook
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import DeliveryId, EventKey, TenantId, WebhookId, delivery_id
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Cause, Stage
from worker.event_integration.webhook_states import DisabledReason
from worker.management import ManagementSettings, management_endpoints

pytestmark = pytest.mark.anyio

STRANGER = TenantId("stranger")
ANA = "5511900000001@s.whatsapp.net"
ONCE = RetryPolicy(schedule_s=(), max_age_s=86_400)
"""One attempt, then dead."""
FORBIDDEN = Fails(cause=Cause.FORBIDDEN, stage=Stage.DNS)


def api(it: Rig, worker: Worker, tenant: TenantId = ACME, *, is_admin: bool = False) -> Api:
    endpoints = management_endpoints(worker.engine, it.store, ManagementSettings(shards=it.shards))
    return Api(endpoints, tenant, is_admin=is_admin)


async def listed(calls: Api, **asked: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        status, body = await calls.ask("GET", "/api/dead-letters", None, **asked)
        assert status == 200
        rows += body["data"]["deadLetters"]
        if body["meta"]["nextCursor"] is None:
            return rows
        asked["cursor"] = body["meta"]["nextCursor"]


async def replay_all(calls: Api, to: str | None = None, **body: Any) -> tuple[int, int, int]:
    """Replayed, skipped, calls."""
    replayed = skipped = number = 0
    while True:
        number += 1
        status, told = await calls.ask("POST", "/api/dead-letters/replay", body, **({} if to is None else {"webhookId": to}))
        assert status == 200, told
        replayed, skipped = replayed + told["data"]["replayed"], skipped + told["data"]["skipped"]
        if told["meta"]["nextCursor"] is None:
            assert told["meta"]["progress"] == 1
            return replayed, skipped, number
        body["cursor"] = told["meta"]["nextCursor"]


async def died(it: Rig, worker: Worker, count: int, name: str = "crm") -> None:
    """At once, however many: a destination that is not allowed opens no circuit."""
    it.answer(name, FORBIDDEN)
    await it.push(worker, count)
    await it.nothing_waits()
    it.answer(name)


async def test_a_letter_is_listed_shown_and_discarded() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 3)
        calls = api(it, a)
        rows = await listed(calls, limit="2")
        assert len(rows) == 3
        assert {(row["webhookId"], row["reason"], row["attempts"], row["type"]) for row in rows} == {
            ("crm", "forbidden_destination", 1, "message")
        }
        path = f"/api/dead-letters/{rows[0]['id']}"
        _, shown = await calls.ask("GET", path)
        letter = shown["data"]
        assert {name: letter[name] for name in rows[0]} == rows[0]
        assert letter["event"]["raw"]["text"] == letter["event"]["text"]
        assert (await calls.ask("DELETE", path))[0] == 204
        assert await calls.ask("GET", path) == (404, "DEAD_LETTER_NOT_FOUND")
        assert len(await listed(calls)) == 2


async def test_another_tenants_letter_is_like_one_that_is_not_there() -> None:
    async with rig(retry=ONCE) as it:
        it.catalog.put(Tenant(id=STRANGER))
        a = await it.owning()
        await died(it, a, 1)
        [row] = await listed(api(it, a))
        stranger = api(it, a, STRANGER)
        assert await listed(stranger) == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
            assert await stranger.ask(method, f"/api/dead-letters/{row['id']}{path}") == (404, "DEAD_LETTER_NOT_FOUND")
        assert await replay_all(stranger) == (0, 0, 1)
        assert len(await listed(api(it, a))) == 1


async def test_one_replayed_letter_arrives_under_its_own_webhook_id() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 1)
        [row] = await listed(api(it, a))
        assert await api(it, a).ask("POST", f"/api/dead-letters/{row['id']}/replay") == (
            202,
            {"data": {"deliveryId": row["id"], "webhookId": "crm"}},
        )
        await it.all_delivered(within_s=5)
        assert it.attempts("crm")[-1].headers["webhook-id"] == row["id"]
        assert it.attempts("crm")[-1].headers["x-delivery-attempt"] == "1"
        await it.nothing_waits()


async def test_letters_of_a_deleted_webhook_go_to_another_one_under_its_own_webhook_ids() -> None:
    async with rig(webhook("crm"), webhook("erp", events=("receipt",)), retry=ONCE) as it:
        crm = Webhook(id=WebhookId("late"), tenant_id=ACME, url="http://late.example/hook")
        it.catalog.put(crm)
        a = await it.owning()
        it.endpoints.script(crm.url, FORBIDDEN)
        await it.push(a, 20)
        await it.nothing_waits()
        it.catalog.drop(crm)
        rows = await listed(api(it, a))
        assert {row["webhookId"] for row in rows} == {"late"}
        assert await api(it, a).ask("POST", f"/api/dead-letters/{rows[0]['id']}/replay") == (409, "WEBHOOK_GONE")
        assert await replay_all(api(it, a), webhookId="late") == (0, 20, 1)
        assert await replay_all(api(it, a), "erp", webhookId="late", limit=7) == (20, 0, 3)
        await it.all_delivered("erp", within_s=10)
        ids = {request.headers["webhook-id"] for request in it.attempts("erp")}
        assert ids == {delivery_id(EventKey(row["eventKey"]), WebhookId("erp")) for row in rows}
        await it.nothing_waits()


async def test_a_replay_keeps_to_its_rate() -> None:
    """200 letters at 10 a second take 20 seconds, evenly; nothing makes the endpoint's recovery its next outage."""
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 200)
        began_s = now_s()
        assert await replay_all(api(it, a), ratePerS=10) == (200, 0, 1)
        await it.all_delivered(within_s=60)
        at_s = sorted(when - began_s for when in it.latencies_s("crm").values())
        assert 18 < at_s[-1] < 24
        for second in range(2, 18):
            assert 5 <= sum(second <= at < second + 1 for at in at_s) <= 20


async def test_a_letter_that_dies_again_is_a_letter_again_and_ends_no_loop() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 10)
        it.answer("crm", FORBIDDEN)
        calls, cursor, replayed = api(it, a), None, 0
        for _ in range(20):
            body = {"limit": 1, "ratePerS": 1000} | ({"cursor": cursor} if cursor else {})
            _, told = await calls.ask("POST", "/api/dead-letters/replay", body)
            replayed += told["data"]["replayed"]
            await it.nothing_waits()
            if (cursor := told["meta"]["nextCursor"]) is None:
                break
        assert replayed == 10
        assert len(await listed(calls)) == 10
        assert len(it.attempts("crm")) == 20


async def test_a_disabled_webhook_takes_nothing_and_its_letters_stay() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 2)
        await it.store.webhook_states.disable(WebhookId("crm"), DisabledReason.GONE)
        await until(lambda: WebhookId("crm") in a.engine.standing.disabled, within_s=3, what="known disabled")
        calls = api(it, a)
        [row, _] = await listed(calls)
        assert await calls.ask("POST", f"/api/dead-letters/{row['id']}/replay") == (409, "WEBHOOK_DISABLED")
        assert await calls.ask("POST", "/api/dead-letters/replay", webhookId="crm") == (409, "WEBHOOK_DISABLED")
        assert await replay_all(calls) == (0, 2, 1)
        assert len(await listed(calls)) == 2


async def test_a_letter_whose_record_is_damaged_is_shown_without_its_event_and_one_without_a_record_cannot_be_sent() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 1)
        calls = api(it, a)
        [row] = await listed(calls)
        path = f"/api/dead-letters/{row['id']}"
        [payloads] = [state.payloads for state in it.store.dead_letters._shards.values() if state.payloads]  # noqa: SLF001 -- damage
        payloads[EventKey(row["eventKey"])].record = b"damaged"
        [damaged] = await listed(calls)
        assert (damaged["instanceId"], damaged["type"], damaged["receivedAt"]) == (None, None, None)
        assert (await calls.ask("GET", path))[1]["data"]["event"] is None
        kept = payloads.pop(EventKey(row["eventKey"]))
        assert await calls.ask("POST", f"{path}/replay") == (409, "RECORD_GONE")
        assert await replay_all(calls) == (0, 1, 1)
        assert (await calls.ask("GET", path))[1]["data"]["event"] is None
        payloads[EventKey(row["eventKey"])] = kept
        assert (await calls.ask("DELETE", path))[0] == 204


@pytest.mark.parametrize(("script", "method", "path"), [("replay", "POST", "/replay"), ("discard", "DELETE", "")])
async def test_a_letter_that_somebody_else_discards_at_that_moment_is_not_found(script: str, method: str, path: str) -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 1)
        [row] = await listed(api(it, a))

        async def somebody_discards(reached: str) -> None:
            if reached == script:
                it.store.faults.before = None
                for state in it.store.dead_letters._shards.values():  # noqa: SLF001 -- within the call
                    state.forget_dead(DeliveryId(row["id"]))

        it.store.faults.before = somebody_discards
        assert await api(it, a).ask(method, f"/api/dead-letters/{row['id']}{path}") == (404, "DEAD_LETTER_NOT_FOUND")


async def test_a_webhook_nobody_has_is_no_target() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 1)
        [row] = await listed(api(it, a))
        path = f"/api/dead-letters/{row['id']}/replay"
        assert await api(it, a).ask("POST", path, webhookId="nobodys") == (404, "WEBHOOK_NOT_FOUND")
        assert await api(it, a).ask("POST", "/api/dead-letters/replay", webhookId="nobodys") == (404, "WEBHOOK_NOT_FOUND")


async def test_what_ended_the_worker_is_replayed_by_the_operator_alone() -> None:
    """A tenant must not be able to end the worker by a call."""
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 1)
        for state in it.store.dead_letters._shards.values():  # noqa: SLF001 -- poison is hard to come by
            for name, dead in state.dead.items():
                letter = dead.letter
                state.dead[name] = dead._replace(letter=type(letter)(**_fields(letter) | {"reason": DeadReason.POISON}))
        [row] = await listed(api(it, a))
        path = f"/api/dead-letters/{row['id']}/replay"
        assert await api(it, a).ask("POST", path) == (409, "DEAD_LETTER_IS_POISON")
        assert await replay_all(api(it, a)) == (0, 1, 1)
        assert (await api(it, a, is_admin=True).ask("POST", path))[0] == 202
        await it.all_delivered(within_s=5)


def _fields(letter: Any) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in type(letter).__slots__}


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
async def test_a_replay_beside_an_owner_change_loses_nothing(seconds: float) -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 150)
        b = await it.start("b")
        assert await replay_all(api(it, b), ratePerS=100, limit=40) == (150, 0, 4)
        await pass_time(seconds)
        await a.kill()
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert await it.dead_letters() == []


async def test_a_replayed_letter_neither_waits_for_its_chat_nor_keeps_it_waiting() -> None:
    async with rig(webhook("crm", ordering="chat")) as it:
        a = await it.owning()
        it.answer("crm", FORBIDDEN)
        await it.push(a, 4, instance="i0", chat_id=ANA)
        await it.nothing_waits()
        it.answer("crm", Answers(status=500), Answers())
        await it.push(a, 3, instance="i0", chat_id=ANA)
        await pass_time(0.5)
        assert await replay_all(api(it, a)) == (4, 0, 1)
        await until(lambda: len(it.deliveries("crm")) == 4, within_s=3.4, what="the replayed arrive while the chat waits for its head")
        assert {f"e{number}" for number in (1, 2, 3, 4)} == set(it.deliveries("crm"))
        await it.nothing_waits()
        assert [answered.text for answered in a.wire.answered][4:] == ["e5", "e6", "e7"]


async def test_an_answer_that_was_lost_is_asked_for_again_and_counts_once() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await died(it, a, 5)

        async def answer_is_lost(script: str) -> None:
            if script == "replay":
                it.store.faults.after = None
                raise StoreUnavailable("replay: the answer was lost")

        it.store.faults.after = answer_is_lost
        with pytest.raises(StoreUnavailable):
            await replay_all(api(it, a))
        assert await replay_all(api(it, a)) == (0, 0, 1)
        await it.all_delivered(within_s=10)
        assert len(it.attempts("crm")) == 10
