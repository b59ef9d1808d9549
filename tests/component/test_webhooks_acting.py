"""What is done with a webhook over the API, with engines that deliver (contract 5): paused, tried out, its secret rotated, deleted."""

from __future__ import annotations

import anyio
import pytest

from tests.component.rig import pass_time, rig, until
from tests.component.webhook_calls import CRM, URL, api, created, received, signed_by
from worker.adapters.memory_transport import Answers, Fails, Hangs
from worker.domain.catalog import OWED_FOR_S
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import WebhookId
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Cause, Stage

pytestmark = pytest.mark.anyio


# --- paused -------------------------------------------------------------------------------------------------------------------


async def test_pause_and_resume_hold_here_at_once_and_may_be_repeated() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        for _ in range(2):
            status, body = await calls.ask("POST", f"{CRM}/pause")
            assert (status, body["data"]["paused"]) == (200, True)
        await it.push(a, 20)
        await pass_time(30)
        assert it.attempts("crm") == []
        assert (await calls.ask("GET", CRM))[1]["data"]["pausedForS"] == pytest.approx(30, abs=1)
        for _ in range(2):
            status, body = await calls.ask("POST", f"{CRM}/resume")
            assert (status, body["data"]["paused"]) == (200, False)
        await it.all_delivered(within_s=10)
        assert it.duplicates() == 0


async def test_the_owner_follows_a_pause_that_another_worker_was_told() -> None:
    async with rig() as it:
        owner = await it.owning()
        other = await it.start("other", revision=0)
        assert (await api(it, other).ask("POST", f"{CRM}/pause"))[0] == 200
        await pass_time(1.5)
        await it.push(other, 20)
        await pass_time(10)
        assert it.attempts("crm") == []
        assert (await api(it, other).ask("POST", f"{CRM}/resume"))[0] == 200
        await it.all_delivered(within_s=10)
        assert owner.holds == {0, 1, 2, 3}


# --- tried out ----------------------------------------------------------------------------------------------------------------


async def test_a_test_sends_one_signed_event_and_tells_what_came_of_it() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it, enabled=False)
        status, body = await calls.ask("POST", f"/api/webhooks/{made['id']}/test")
        told, [request] = body["data"], received(it)
        assert (status, told["isOk"], told["status"], told["error"]) == (200, True, 200, None)
        assert request.headers["x-whatsapp-event"] == "system/test"
        assert (request.headers["webhook-id"], request.headers["x-delivery-attempt"]) == (told["deliveryId"], "1")
        assert signed_by(made["secret"], request)


async def test_a_test_that_fails_tells_where_and_is_not_repeated_nor_held_against_the_webhook() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        it.endpoints.script(URL, Fails(cause=Cause.TLS, stage=Stage.TLS))
        status, made = await calls.ask("POST", "/api/webhooks", {"url": URL})
        assert status == 201
        path = f"/api/webhooks/{made['data']['id']}"
        status, body = await calls.ask("POST", f"{path}/test")
        told = body["data"]
        assert (status, told["isOk"], told["status"], told["error"], told["stage"]) == (200, False, None, "tls: scripted", "tls")
        await pass_time(60)
        assert len(received(it)) == 1
        state = (await calls.ask("GET", path))[1]["data"]
        assert (state["failingForS"], state["circuit"]) == (None, "closed")
        assert (await calls.ask("GET", f"{path}/attempts"))[1]["data"]["attempts"] == []


async def test_a_test_of_a_hanging_webhook_ends_at_its_deadline() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it, deadlineS=2)
        it.endpoints.script(URL, Hangs())
        status, body = await calls.ask("POST", f"/api/webhooks/{made['id']}/test")
        told = body["data"]
        assert (status, told["isOk"]) == (200, False)
        assert told["error"].startswith("timeout")
        assert told["durationS"] == pytest.approx(2, abs=0.1)


async def test_a_webhook_is_tried_out_by_one_at_a_time() -> None:
    async with rig() as it, anyio.create_task_group() as asking:
        a = await it.owning()
        calls = api(it, a)
        path = f"/api/webhooks/{(await created(calls, it))['id']}/test"
        it.endpoints.script(URL, Answers(after_s=3.0))
        asking.start_soon(calls.ask, "POST", path)
        await until(lambda: bool(received(it)), within_s=1, what="the first is under way")
        assert await calls.ask("POST", path) == (409, "TEST_UNDER_WAY")
        await pass_time(3)
        assert (await calls.ask("POST", path))[0] == 200


# --- secrets, attempts, deleted -----------------------------------------------------------------------------------------------


async def test_a_replaced_secret_signs_beside_the_new_one_until_its_time_is_over() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it)
        path = f"/api/webhooks/{made['id']}"
        status, body = await calls.ask("POST", f"{path}/rotate-secret", {"overlapS": 600_000})
        assert status == 200
        assert body["data"]["secrets"] == 2
        await it.push(a)
        await until(lambda: bool(received(it)), within_s=2, what="it is called")
        [request] = received(it)
        assert signed_by(made["secret"], request)
        assert signed_by(body["data"]["secret"], request)
        status, last = await calls.ask("POST", f"{path}/rotate-secret", {"overlapS": 0})
        assert last["data"]["secrets"] == 1, "whoever lost a secret means all that are older"
        await it.push(a)
        await until(lambda: len(received(it)) == 2, within_s=2, what="it is called")
        request = received(it)[1]
        assert signed_by(last["data"]["secret"], request)
        assert not signed_by(body["data"]["secret"], request)


async def test_replaced_secrets_are_bounded() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        path = f"/api/webhooks/{(await created(calls, it))['id']}/rotate-secret"
        answers = [(await calls.ask("POST", path, {}))[0] for _ in range(10)]
        assert answers == [200] * 8 + [409] * 2
        assert (await calls.ask("POST", path, {"overlapS": 0}))[0] == 200


async def test_attempts_are_told_the_newest_first() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers())
        await it.push(a)
        await pass_time(30)
        status, body = await api(it, a).ask("GET", f"{CRM}/attempts")
        told = [(one["attempt"], one["status"], one["outcome"]) for one in body["data"]["attempts"]]
        assert (status, told) == (200, [(2, 200, "delivered"), (1, 500, "retry")])


async def test_a_deleted_webhook_gets_nothing_more_and_what_waited_becomes_dead_letters() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it)
        path, webhook_id = f"/api/webhooks/{made['id']}", WebhookId(made["id"])
        assert (await calls.ask("POST", f"{path}/pause"))[0] == 200
        await it.push(a, 10)
        await pass_time(1)
        assert (await calls.ask("DELETE", path))[0] == 204
        assert await calls.ask("DELETE", path) == (404, "WEBHOOK_NOT_FOUND")
        await pass_time(OWED_FOR_S + 1)
        await it.push(a, 5)
        await it.nothing_waits(within_s=60)
        assert received(it) == []
        letters = await it.dead_letters()
        assert {(letter.webhook_id, letter.reason) for letter in letters} == {(webhook_id, DeadReason.WEBHOOK_DELETED)}
        assert len(letters) == 10
        assert webhook_id not in await it.store.webhook_states.all_states()


async def test_where_the_store_is_away_a_pause_says_so_and_nothing_has_changed() -> None:
    """The frame makes a 503 of it."""
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        it.store.faults.fail_next(1)
        with pytest.raises(StoreUnavailable):
            await calls.ask("POST", f"{CRM}/pause")
        assert not (await calls.ask("GET", CRM))[1]["data"]["paused"]
        await it.push(a, 5)
        await it.all_delivered(within_s=3)
