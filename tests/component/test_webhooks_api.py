"""Webhooks over the API, with engines that deliver (contract 5): registered, changed, enabled."""

from __future__ import annotations

import anyio
import pytest

from tests.component.rig import pass_time, rig, until, url, webhook
from tests.component.webhook_calls import CRM, STRANGER, URL, api, created, received, signed_by
from worker.adapters.memory_transport import Answers
from worker.domain.catalog import Catalog

pytestmark = pytest.mark.anyio
STANDING = ("enabled", "disabledReason", "disabledForS", "paused", "pausedForS", "failingForS", "circuit")


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
        status, body = await calls.ask("GET", f"/api/webhooks/{made['id']}")
        assert status == 200
        assert made["secret"] not in str(body)
        assert "a-secret-value" not in str(body)
        assert body["data"] | {"secret": made["secret"]} == made
        assert body["data"]["headerNames"] == ["X-Mine"]


async def test_what_is_left_out_is_as_the_operator_says() -> None:
    async with rig() as it:
        a = await it.owning()
        shown = await created(api(it, a), it)
        assert (shown["deadlineS"], shown["maxInFlight"], shown["format"], shown["ordering"]) == (7.0, 3, "normalized", "none")
        assert (shown["instanceIds"], shown["events"], shown["headerNames"], shown["readOnly"]) == ([], [], [], False)
        assert {name: shown[name] for name in STANDING} == {
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
        mine = {"crm", *[(await created(calls, it))["id"] for _ in range(5)]}
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
        assert await calls.ask("PATCH", f"/api/webhooks/{made['id']}", {"url": bad}) == (409, "FORBIDDEN_DESTINATION")


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
        assert made["instanceIds"] == ["i0"]


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
        path = f"/api/webhooks/{made['id']}"
        status, body = await calls.ask("PATCH", path, {"description": "new", "maxInFlight": 9})
        assert status == 200
        assert body["data"] | {"secret": made["secret"]} == made | {"description": "new", "maxInFlight": 9}
        status, body = await calls.ask("PATCH", path, {})
        assert (status, body["data"]["description"]) == (200, "new")


async def test_a_changed_url_gets_what_comes_next() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        made = await created(calls, it)
        other = URL + "/other"
        it.endpoints.script(other, Answers())
        assert (await calls.ask("PATCH", f"/api/webhooks/{made['id']}", {"url": other}))[0] == 200
        await it.push(a, 3)
        await until(lambda: len(received(it, other)) == 3, within_s=3, what="the new URL is called")
        assert received(it) == []


async def test_disabled_by_hand_and_enabled_again() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        status, body = await calls.ask("PATCH", CRM, {"enabled": False})
        assert (status, body["data"]["enabled"]) == (200, False)
        assert body["data"]["disabledReason"] == "by_hand"
        await it.push(a, 3)
        await pass_time(2)
        assert it.attempts("crm") == []
        status, body = await calls.ask("PATCH", CRM, {"enabled": True})
        assert (status, body["data"]["enabled"]) == (200, True)
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
        assert (await calls.ask("GET", CRM))[1]["data"]["disabledReason"] == "gone"
        it.answer("crm")
        assert (await calls.ask("PATCH", CRM, {"enabled": True}))[1]["data"]["enabled"]
        it.accepted.clear()
        await it.push(a, 3)
        await it.all_delivered(within_s=3)


async def test_one_created_disabled_is_never_called() -> None:
    async with rig() as it:
        a = await it.owning()
        made = await created(api(it, a), it, enabled=False)
        assert made["enabled"] is False
        await it.push(a, 3)
        await it.all_delivered("crm")
        assert received(it) == []


async def test_a_declared_webhook_is_the_files_but_for_enabled_and_paused() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        assert (await calls.ask("GET", CRM))[1]["data"]["readOnly"]
        for method, path, body in (
            ("PATCH", CRM, {"description": "mine"}),
            ("PATCH", CRM, {"url": URL, "enabled": False}),
            ("DELETE", CRM, None),
            ("POST", f"{CRM}/rotate-secret", None),
        ):
            assert await calls.ask(method, path, body) == (409, "DECLARED_IN_FILE")
        assert (await calls.ask("GET", CRM))[1]["data"]["enabled"]
        assert (await calls.ask("POST", f"{CRM}/pause"))[0] == 200


async def test_a_tenant_has_no_more_webhooks_than_it_may_have() -> None:
    async with rig(*(webhook(f"w{n}", events=("qr",)) for n in range(1_000))) as it:
        a = await it.owning(catalog=Catalog(it.catalog.tenants.values(), it.catalog.instances.values(), it.catalog.webhooks.values()))
        assert await api(it, a).ask("POST", "/api/webhooks", {"url": url("w")}) == (409, "LIMIT_REACHED")


async def test_a_webhook_larger_than_a_row_may_be_is_refused() -> None:
    async with rig() as it:
        a = await it.owning()
        calls = api(it, a)
        headers = {f"x-{n}": "x" * 8_000 for n in range(50)}
        assert await calls.ask("POST", "/api/webhooks", {"url": URL, "headers": headers}) == (409, "LIMIT_REACHED")
        path = f"/api/webhooks/{(await created(calls, it))['id']}"
        assert await calls.ask("PATCH", path, {"headers": headers}) == (409, "LIMIT_REACHED")


async def test_two_who_change_one_webhook_both_get_what_they_asked_for() -> None:
    async with rig() as it:
        a = await it.owning()
        b = await it.start("b", revision=0)
        path = f"/api/webhooks/{(await created(api(it, a), it))['id']}"
        async with anyio.create_task_group() as asking:
            asking.start_soon(api(it, a).ask, "PATCH", path, {"description": "by a"})
            asking.start_soon(api(it, b).ask, "PATCH", path, {"maxInFlight": 77})
        await pass_time(1)
        for worker in (a, b):
            shown = (await api(it, worker).ask("GET", path))[1]["data"]
            assert (shown["description"], shown["maxInFlight"]) == ("by a", 77)


async def test_what_one_worker_registered_another_shows_at_once() -> None:
    async with rig() as it:
        a = await it.owning()
        b = await it.start("b", revision=0)
        made = await created(api(it, a), it)
        status, body = await api(it, b).ask("GET", f"/api/webhooks/{made['id']}")
        assert (status, body["data"]["url"]) == (200, URL)
