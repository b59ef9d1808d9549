"""Webhooks over the API, with engines that deliver (contract 5): registered, changed, paused, tried out, deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from tests.component.api_calls import Api
from tests.component.rig import Rig, Worker, pass_time, rig, until, url, webhook
from worker.adapters.memory_transport import Answers, Fails, Hangs
from worker.domain.catalog import Catalog
from worker.domain.destinations import Destinations
from worker.domain.ids import TenantId, WebhookId
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.transport import Cause, Request, Stage
from worker.management import ManagementSettings, management_endpoints

pytestmark = pytest.mark.anyio

STRANGER = TenantId("stranger")
URL = "http://198.51.101.7/hook"
"""Public, and nobody has to be asked where it is."""
CRM = "/api/webhooks/crm"


def api(it: Rig, worker: Worker, tenant: TenantId | None = None) -> Api:
    settings = ManagementSettings(shards=it.shards, deadline_s=7.0, max_in_flight=3, destinations=Destinations())
    endpoints = management_endpoints(worker.engine, it.store, settings)
    return Api(endpoints) if tenant is None else Api(endpoints, tenant)


async def created(calls: Api, it: Rig, **more: Any) -> dict[str, Any]:
    status, body = await calls.ask("POST", "/api/webhooks", {"url": URL, **more})
    assert status == 201, body
    it.endpoints.script(URL, Answers())
    return dict(body["data"])


def received(it: Rig, at: str = URL) -> list[Request]:
    return [attempt.request for attempt in it.endpoints.attempts if attempt.request.url == at]


def signed_by(secret: str, request: Request) -> bool:
    """By the published library, which knows nothing of ours; virtual time is none of its business."""
    signature = Verifier(secret).sign
    stamp = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    return signature(request.headers["webhook-id"], stamp, request.body.decode()) in request.headers["webhook-signature"].split()


# --- registered ---------------------------------------------------------------------------------------------------------------


async def test_a_webhook_registered_gets_what_comes_next_signed_with_the_secret_shown_once() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it, description="the shop", headers={"X-Mine": "a-secret-value"})
        assert made["secret"].startswith("whsec_")
        await it.push(a)
        await until(lambda: bool(received(it)), within_s=2, what="it is called")
        [request] = received(it)
        assert signed_by(made["secret"], request)
        assert request.headers["x-mine"] == "a-secret-value"
        status, body = await calls.ask("GET", f"/api/webhooks/{made['webhook']['id']}")
        assert status == 200
        assert made["secret"] not in str(body)
        assert "a-secret-value" not in str(body)
        assert body["data"]["webhook"] == made["webhook"] | {"state": body["data"]["webhook"]["state"]}
        assert body["data"]["webhook"]["headerNames"] == ["X-Mine"]


async def test_what_is_left_out_is_as_the_operator_says() -> None:
    async with rig() as it:
        a = await it.owning()
        shown = (await created(api(it, a), it))["webhook"]
        assert (shown["deadlineS"], shown["maxInFlight"], shown["format"], shown["ordering"]) == (7.0, 3, "normalized", "none")
        assert (shown["instanceIds"], shown["events"], shown["headerNames"], shown["readOnly"]) == ([], [], [], False)
        assert shown["state"] == {
            "enabled": True,
            "disabledReason": None,
            "disabledForS": None,
            "paused": False,
            "pausedForS": None,
            "failingForS": None,
            "circuit": "closed",
        }


async def test_lists_page_through_all_and_only_the_tenants_own() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        mine = {"crm", *[(await created(calls, it))["webhook"]["id"] for _ in range(5)]}
        seen, page = [], {"limit": "2"}
        while True:
            status, body = await calls.ask("GET", "/api/webhooks", None, **page)
            assert status == 200
            seen += [shown["id"] for shown in body["data"]["webhooks"]]
            if body["meta"]["nextCursor"] is None:
                break
            page["cursor"] = body["meta"]["nextCursor"]
        assert sorted(seen) == sorted(mine)
        status, body = await api(it, a, STRANGER).ask("GET", "/api/webhooks")
        assert (status, body["data"]["webhooks"]) == (200, [])


@pytest.mark.parametrize("bad", ["http://127.0.0.1/", "http://169.254.169.254/", "http://localhost/", "http://0x7f.1/", "http://[::1]/"])
async def test_a_url_that_may_not_be_called_is_refused_with_the_reason(bad: str) -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        assert await calls.ask("POST", "/api/webhooks", {"url": bad}) == (409, "FORBIDDEN_DESTINATION")
        made = await created(calls, it)
        assert await calls.ask("PATCH", f"/api/webhooks/{made['webhook']['id']}", {"url": bad}) == (409, "FORBIDDEN_DESTINATION")


async def test_instances_must_be_the_tenants_own_and_headers_not_the_workers() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        assert await calls.ask("POST", "/api/webhooks", {"url": URL, "instanceIds": ["nobody"]}) == (409, "UNKNOWN_INSTANCE")
        assert await api(it, a, STRANGER).ask("POST", "/api/webhooks", {"url": URL, "instanceIds": ["i0"]}) == (409, "UNKNOWN_INSTANCE")
        assert await calls.ask("POST", "/api/webhooks", {"url": URL, "headers": {"Webhook-Id": "x"}}) == (409, "RESERVED_HEADER")
        made = await created(calls, it, instanceIds=["i0"])
        await it.push(a, 4)
        await it.all_delivered("crm")
        assert [request.headers["x-whatsapp-instance"] for request in received(it)] == ["i0"]
        assert made["webhook"]["instanceIds"] == ["i0"]


async def test_another_tenants_webhook_is_not_there() -> None:
    async with rig() as it:
        a = await it.owning()
        stranger = api(it, a, STRANGER)
        for method, path in (
            ("GET", CRM), ("PATCH", CRM), ("DELETE", CRM), ("GET", f"{CRM}/attempts"), ("POST", f"{CRM}/pause"), ("POST", f"{CRM}/resume"),
            ("POST", f"{CRM}/test"), ("POST", f"{CRM}/rotate-secret"),
        ):  # fmt: skip
            assert await stranger.ask(method, path) == (404, "WEBHOOK_NOT_FOUND")
        assert (await api(it, a).ask("GET", CRM))[0] == 200


# --- changed ------------------------------------------------------------------------------------------------------------------


async def test_a_change_changes_what_it_names_and_nothing_else() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it, events=["message"], headers={"x-mine": "1"}, description="old")
        path = f"/api/webhooks/{made['webhook']['id']}"
        status, body = await calls.ask("PATCH", path, {"description": "new", "maxInFlight": 9})
        assert status == 200
        assert body["data"]["webhook"] == made["webhook"] | {"description": "new", "maxInFlight": 9}
        status, body = await calls.ask("PATCH", path, {})
        assert (status, body["data"]["webhook"]["description"]) == (200, "new")


async def test_a_changed_url_gets_what_comes_next() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it)
        other = URL + "/other"
        it.endpoints.script(other, Answers())
        assert (await calls.ask("PATCH", f"/api/webhooks/{made['webhook']['id']}", {"url": other}))[0] == 200
        await it.push(a, 3)
        await until(lambda: len(received(it, other)) == 3, within_s=3, what="the new URL is called")
        assert received(it) == []


async def test_disabled_by_hand_and_enabled_again() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        status, body = await calls.ask("PATCH", CRM, {"enabled": False})
        assert (status, body["data"]["webhook"]["state"]["enabled"]) == (200, False)
        assert body["data"]["webhook"]["state"]["disabledReason"] == "by_hand"
        await it.push(a, 3)
        await pass_time(2)
        assert it.attempts("crm") == []
        status, body = await calls.ask("PATCH", CRM, {"enabled": True})
        assert (status, body["data"]["webhook"]["state"]["enabled"]) == (200, True)
        it.accepted.clear()
        await it.push(a, 3)
        await it.all_delivered(within_s=3)


async def test_a_webhook_that_said_410_is_enabled_by_patch() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        it.answer("crm", Answers(status=410))
        await it.push(a)
        await until(lambda: "crm" in a.engine.standing.disabled, within_s=3, what="it is disabled")
        await pass_time(2)
        assert (await calls.ask("GET", CRM))[1]["data"]["webhook"]["state"]["disabledReason"] == "gone"
        it.answer("crm")
        assert (await calls.ask("PATCH", CRM, {"enabled": True}))[1]["data"]["webhook"]["state"]["enabled"]
        it.accepted.clear()
        await it.push(a, 3)
        await it.all_delivered(within_s=3)


async def test_one_created_disabled_is_never_called() -> None:
    async with rig() as it:
        a = await it.owning()
        made = await created(api(it, a), it, enabled=False)
        assert made["webhook"]["state"]["enabled"] is False
        await it.push(a, 3)
        await it.all_delivered("crm")
        assert received(it) == []


async def test_a_declared_webhook_is_the_files_but_for_enabled_and_paused() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        assert (await calls.ask("GET", CRM))[1]["data"]["webhook"]["readOnly"]
        for method, path, body in (
            ("PATCH", CRM, {"description": "mine"}),
            ("PATCH", CRM, {"url": URL, "enabled": False}),
            ("DELETE", CRM, None),
            ("POST", f"{CRM}/rotate-secret", None),
        ):
            assert await calls.ask(method, path, body) == (409, "DECLARED_IN_FILE")
        assert (await calls.ask("GET", CRM))[1]["data"]["webhook"]["state"]["enabled"]
        assert (await calls.ask("POST", f"{CRM}/pause"))[0] == 200


# --- paused -------------------------------------------------------------------------------------------------------------------


async def test_pause_and_resume_hold_here_at_once_and_may_be_repeated() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        for _ in range(2):
            status, body = await calls.ask("POST", f"{CRM}/pause")
            assert (status, body["data"]["webhook"]["state"]["paused"]) == (200, True)
        await it.push(a, 20)
        await pass_time(30)
        assert it.attempts("crm") == []
        assert (await calls.ask("GET", CRM))[1]["data"]["webhook"]["state"]["pausedForS"] == pytest.approx(30, abs=1)
        for _ in range(2):
            status, body = await calls.ask("POST", f"{CRM}/resume")
            assert (status, body["data"]["webhook"]["state"]["paused"]) == (200, False)
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
        status, body = await calls.ask("POST", f"/api/webhooks/{made['webhook']['id']}/test")
        told, [request] = body["data"]["test"], received(it)
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
        path = f"/api/webhooks/{made['data']['webhook']['id']}"
        status, body = await calls.ask("POST", f"{path}/test")
        told = body["data"]["test"]
        assert (status, told["isOk"], told["status"], told["error"], told["stage"]) == (200, False, None, "tls: scripted", "tls")
        await pass_time(60)
        assert len(received(it)) == 1
        state = (await calls.ask("GET", path))[1]["data"]["webhook"]["state"]
        assert (state["failingForS"], state["circuit"]) == (None, "closed")
        assert (await calls.ask("GET", f"{path}/attempts"))[1]["data"]["attempts"] == []


async def test_a_test_of_a_hanging_webhook_ends_at_its_deadline() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it, deadlineS=2)
        it.endpoints.script(URL, Hangs())
        status, body = await calls.ask("POST", f"/api/webhooks/{made['webhook']['id']}/test")
        told = body["data"]["test"]
        assert (status, told["isOk"]) == (200, False)
        assert told["error"].startswith("timeout")
        assert told["durationS"] == pytest.approx(2, abs=0.1)


# --- secrets, attempts, deleted -----------------------------------------------------------------------------------------------


async def test_a_replaced_secret_signs_beside_the_new_one_until_its_time_is_over() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it)
        path = f"/api/webhooks/{made['webhook']['id']}"
        status, body = await calls.ask("POST", f"{path}/rotate-secret", {"overlapS": 600_000})
        assert status == 200
        assert body["data"]["webhook"]["secrets"] == 2
        await it.push(a)
        await until(lambda: bool(received(it)), within_s=2, what="it is called")
        [request] = received(it)
        assert signed_by(made["secret"], request)
        assert signed_by(body["data"]["secret"], request)
        status, last = await calls.ask("POST", f"{path}/rotate-secret", {"overlapS": 0})
        assert last["data"]["webhook"]["secrets"] == 2, "the first one still has its time; the second ended at once"
        await it.push(a)
        await until(lambda: len(received(it)) == 2, within_s=2, what="it is called")
        request = received(it)[1]
        assert signed_by(last["data"]["secret"], request)
        assert not signed_by(body["data"]["secret"], request)


async def test_replaced_secrets_are_bounded() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        path = f"/api/webhooks/{(await created(calls, it))['webhook']['id']}/rotate-secret"
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
        path, webhook_id = f"/api/webhooks/{made['webhook']['id']}", WebhookId(made["webhook"]["id"])
        assert (await calls.ask("POST", f"{path}/pause"))[0] == 200
        await it.push(a, 10)
        await pass_time(1)
        assert (await calls.ask("DELETE", path))[0] == 204
        assert await calls.ask("DELETE", path) == (404, "WEBHOOK_NOT_FOUND")
        await it.push(a, 5)
        await it.nothing_waits(within_s=60)
        assert received(it) == []
        letters = await it.dead_letters()
        assert {(letter.webhook_id, letter.reason) for letter in letters} == {(webhook_id, DeadReason.WEBHOOK_DELETED)}
        assert len(letters) == 10
        assert webhook_id not in await it.store.webhook_states.all_states()


async def test_a_tenant_has_no_more_webhooks_than_it_may_have() -> None:
    async with rig(*(webhook(f"w{n}", events=("qr",)) for n in range(1_000))) as it:
        a = await it.owning(catalog=Catalog(it.catalog.tenants.values(), it.catalog.instances.values(), it.catalog.webhooks.values()))
        assert await api(it, a).ask("POST", "/api/webhooks", {"url": url("w")}) == (409, "LIMIT_REACHED")
