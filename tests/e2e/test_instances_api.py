"""The instances API against a gateway that fails as gateways do (contract 5, design 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.e2e.api_world import ADMIN_KEY, OTHER_KEY, Answer
from tests.e2e.instances_world import OWNER, PATH, World, instances_api
from worker.fake_gateway.troubles import Kind

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with instances_api() as opened:
        yield opened


async def create(world: World, *, key: str | None = None, **body: object) -> Answer:
    headers = {} if key is None else {"Idempotency_Key": key}
    return await world.api.ask("POST", PATH, data={"name": "Vendas", "gateway": "waha", **body}, **headers)


def fails(world: World, status: int, match: str = "*") -> None:
    """From now on it answers so."""
    world.fake.clear()
    world.fake.trouble(match, Kind.STATUS, status=status, times=None)


def heals(world: World) -> None:
    world.fake.clear()


async def test_the_night_of_the_note(world: World) -> None:
    """Its broker answers 503, 503, 502 to three refreshes, then 502 to create; then it heals."""
    for status in (503, 503, 502):
        fails(world, status)
        listed = await world.api.ask("GET", PATH + "?refresh=1")
        meta = listed.body["meta"]
        assert (listed.status, meta["stale"], meta["refreshFailed"]) == (200, True, True)
        failure = meta["refreshFailure"]
        assert (failure["cause"], failure["status"], failure["code"]) == ("service_unavailable", status, "BROKER_UNAVAILABLE")
        assert failure["attempts"] == 4
    fails(world, 502)
    refused = await create(world, key="first-instance")
    assert (refused.status, refused.code) == (503, "BROKER_UNAVAILABLE")
    assert refused.details.keys() == {"cause", "status", "brokerCode", "responseTimeMs", "requestId", "retryAfterS"}
    assert (refused.details["cause"], refused.details["status"]) == ("service_unavailable", 502)
    assert refused.details["responseTimeMs"] >= 0
    heals(world)
    made = await create(world, key="first-instance")
    assert made.status == 201
    again = await create(world, key="first-instance")
    assert (again.status, again.body["data"]) == (201, made.body["data"])
    listed = await world.api.ask("GET", PATH + "?refresh=1")
    assert [one["id"] for one in listed.body["data"]["instances"] if one["id"] != "acme-sales"] == [made.body["data"]["id"]]
    assert list(world.fake.instances) == [made.body["data"]["gatewayInstance"]]


async def test_a_list_without_refresh_asks_no_broker(world: World) -> None:
    await create(world)
    world.fake.requests.clear()
    for query in ("", "?mode=db", "?mode=snapshot", "?refresh=0", "?fields=full"):
        assert (await world.api.ask("GET", PATH + query)).status == 200
    assert not world.fake.requests


async def test_an_instance_is_listed_with_what_its_broker_last_showed(world: World) -> None:
    made = (await create(world, id="sales-1")).body["data"]
    world.fake.pair(made["gatewayInstance"], "5511900000001")
    before = (await world.api.ask("GET", PATH + "/sales-1")).body["data"]
    assert (before["status"], before["connected"]) == ("connecting", False)
    listed = await world.api.ask("GET", PATH + "?refresh=yes")
    [one] = [one for one in listed.body["data"]["instances"] if one["id"] == "sales-1"]
    assert one.keys() == {
        "id", "tenantId", "name", "gateway", "status", "connected", "phoneNumber", "lastActivity", "shard", "owner"
    }  # fmt: skip
    assert (one["name"], one["status"], one["connected"], one["phoneNumber"]) == ("Vendas", "connected", True, "5511900000001")
    assert (one["tenantId"], one["gateway"], one["owner"]) == ("acme", "waha", OWNER)
    meta = listed.body["meta"]
    assert meta.keys() == {
        "tenantId", "mode", "refreshRequested", "refreshFailed", "stale", "snapshotAgeS", "refreshFailure", "durationMs", "warnings",
        "nextCursor",
    }  # fmt: skip
    assert (meta["refreshRequested"], meta["refreshFailed"], meta["stale"], meta["refreshFailure"]) == (True, False, False, None)
    after = (await world.api.ask("GET", PATH + "/sales-1")).body["data"]
    assert after["phoneNumber"] == "5511900000001"


async def test_while_the_broker_is_down_the_last_snapshot_is_shown_with_its_age(world: World) -> None:
    made = (await create(world, id="sales-1")).body["data"]
    world.fake.pair(made["gatewayInstance"])
    await world.api.ask("GET", PATH + "?refresh=1")
    fails(world, 503)
    listed = await world.api.ask("GET", PATH + "?refresh=1")
    [one] = [one for one in listed.body["data"]["instances"] if one["id"] == "sales-1"]
    assert (one["connected"], listed.body["meta"]["stale"]) == (True, True)
    assert 0 <= listed.body["meta"]["snapshotAgeS"] < 10


async def test_pages_follow_each_other_by_cursor(world: World) -> None:
    for number in range(4):
        await create(world, id=f"n{number}", gateway="generic")
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await world.api.ask("GET", PATH + "?limit=2" + cursor)
        seen += [one["id"] for one in answer.body["data"]["instances"]]
        if answer.body["meta"]["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.body['meta']['nextCursor']}"
    assert seen == ["acme-sales", "n0", "n1", "n2", "n3"]


async def test_a_lost_answer_is_made_up_for_within_the_call(world: World) -> None:
    """The broker makes it and its answer is lost: the next try finds it."""
    lost = world.fake.trouble("POST /api/sessions", Kind.LOSE_ANSWER)
    made = await create(world, key="k")
    assert (made.status, lost.seen) == (201, 1)
    assert list(world.fake.instances) == [made.body["data"]["gatewayInstance"]]


async def test_a_lost_answer_and_a_broker_that_stays_away_then_the_key_goes_on_with_the_same_row(world: World) -> None:
    world.fake.trouble("POST /api/sessions", Kind.LOSE_ANSWER)
    world.fake.trouble("GET *", Kind.STATUS, status=503, times=None)
    failed = await create(world, key="k")
    assert (failed.status, failed.code) == (503, "BROKER_UNAVAILABLE")
    heals(world)
    made = await create(world, key="k")
    assert made.status == 201
    assert list(world.fake.instances) == [made.body["data"]["gatewayInstance"]]
    assert len((await world.api.ask("GET", PATH)).body["data"]["instances"]) == 2


async def test_a_failed_call_without_a_key_leaves_no_row_unless_the_broker_may_have_made_it(world: World) -> None:
    fails(world, 401)
    assert (await create(world)).code == "BROKER_AUTH"
    assert len((await world.api.ask("GET", PATH)).body["data"]["instances"]) == 1
    heals(world)
    world.fake.trouble("POST /api/sessions", Kind.LOSE_ANSWER)
    world.fake.trouble("GET *", Kind.STATUS, status=503, times=None)
    assert (await create(world)).code == "BROKER_UNAVAILABLE"
    [_, half] = (await world.api.ask("GET", PATH + "?fields=full")).body["data"]["instances"]
    assert (half["isMade"], [half["gatewayInstance"]]) == (False, list(world.fake.instances))


async def test_the_code_to_scan_is_a_picture_where_its_broker_draws_one(world: World) -> None:
    await create(world, id="sales")
    text_only = await world.api.ask("GET", PATH + "/sales/qr.png")
    assert (text_only.status, text_only.code) == (409, "QR_NOT_AVAILABLE")
    assert "text only" in text_only.body["error"]["message"]
    async with instances_api(gateway="baileys") as other:
        await create(other, id="sales", gateway="baileys")
        picture = await other.api.ask("GET", PATH + "/sales/qr.png")
        assert (picture.status, picture.headers["content-type"], picture.body[:4]) == (200, "image/png", b"\x89PNG")
        assert (await other.api.ask("GET", PATH + "/sales/qr")).body["data"]["qr"] is None


async def test_the_same_key_with_another_body_is_refused_and_changes_nothing(world: World) -> None:
    await create(world, key="k")
    other = await create(world, key="k", name="Suporte")
    assert (other.status, other.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(world.fake.instances) == 1


async def test_a_taken_id_is_refused_with_a_free_one_and_the_refusal_is_final(world: World) -> None:
    await create(world, id="sales")
    refused = await create(world, id="sales", key="k")
    assert (refused.status, refused.code, refused.details["suggestedId"]) == (409, "INSTANCE_ALREADY_EXISTS", "sales-2")
    await world.api.ask("DELETE", PATH + "/sales")
    assert (await create(world, id="sales", key="k")).body["error"]["code"] == "INSTANCE_ALREADY_EXISTS"
    assert (await create(world, id="sales", key="another")).status == 201


async def test_the_id_of_a_deleted_instance_stays_its_tenants_for_its_gateway_may_go_on_pushing(world: World) -> None:
    await create(world, id="sales")
    await world.api.ask("DELETE", PATH + "/sales")
    refused = await world.api.ask("POST", PATH, key=OTHER_KEY, data={"name": "Mine now", "gateway": "waha", "id": "sales"})
    assert (refused.status, refused.code) == (409, "INSTANCE_ALREADY_EXISTS")
    assert (await create(world, id="sales")).status == 201


@pytest.mark.parametrize("name", ["acme-sales", "other-sales"])
async def test_an_id_of_the_file_is_taken_whoever_asks(world: World, name: str) -> None:
    refused = await create(world, id=name)
    assert (refused.status, refused.code, refused.details["suggestedId"]) == (409, "INSTANCE_ALREADY_EXISTS", f"{name}-2")


async def test_whoever_names_a_strangers_instance_gets_one_of_his_own(world: World) -> None:
    """Tenant B asks for the name that A, or nobody here, has at the broker."""
    theirs = (await create(world, name="Vendas")).body["data"]["gatewayInstance"]
    await world.broker.create("somebody-elses", None)
    world.fake.pair(theirs, "5511900000001")
    for name in (theirs, "somebody-elses"):
        answer = await world.api.ask("POST", PATH, key=OTHER_KEY, data={"name": name, "gateway": "waha"})
        mine = answer.body["data"]
        assert (answer.status, mine["tenantId"], mine["phoneNumber"]) == (201, "other", None)
        assert mine["gatewayInstance"] not in {theirs, "somebody-elses"}
    assert len(world.fake.instances) == 4


async def test_only_the_operator_attaches_what_a_broker_has_and_only_what_nobody_has(world: World) -> None:
    await world.broker.create("somebody-elses", None)
    asked = {"name": "Vendas", "gateway": "waha", "attach": "somebody-elses"}
    refused = await world.api.ask("POST", PATH, data=asked)
    assert (refused.status, refused.code) == (403, "ADMIN_KEY_REQUIRED")
    unknown = await world.api.ask("POST", PATH, key=ADMIN_KEY, data=asked | {"attach": "nobody"}, X_Tenant_Id="acme")
    assert (unknown.status, unknown.code) == (409, "NOTHING_TO_ATTACH")
    attached = await world.api.ask("POST", PATH, key=ADMIN_KEY, data=asked, X_Tenant_Id="acme")
    assert (attached.status, attached.body["data"]["gatewayInstance"]) == (201, "somebody-elses")
    for tenant in ("acme", "other"):
        again = await world.api.ask("POST", PATH, key=ADMIN_KEY, data=asked, X_Tenant_Id=tenant)
        assert (again.status, again.code) == (409, "INSTANCE_ATTACHED_ALREADY")
    assert len(world.fake.instances) == 1
    assert [one["id"] for one in (await world.api.ask("GET", PATH, key=OTHER_KEY)).body["data"]["instances"]] == ["other-sales"]


async def test_another_tenants_instance_is_as_unknown_as_one_that_is_none(world: World) -> None:
    await create(world, id="sales")
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/status"), ("GET", "/qr"), ("GET", "/qr.png"), ("POST", "/disconnect")):
        theirs = await world.api.ask(method, f"{PATH}/sales{rest}", key=OTHER_KEY)
        nobodys = await world.api.ask(method, f"{PATH}/nobody{rest}", key=OTHER_KEY)
        assert (theirs.status, theirs.code) == (404, "INSTANCE_NOT_FOUND")
        theirs.body["error"].pop("requestId"), nobodys.body["error"].pop("requestId")
        assert theirs.body == nobodys.body
    assert len(world.fake.instances) == 1


async def test_status_qr_and_disconnect_ask_the_broker(world: World) -> None:
    name = (await create(world, id="sales")).body["data"]["gatewayInstance"]
    assert (await world.api.ask("GET", PATH + "/sales/status")).body["data"]["status"] == "qr_required"
    code = (await world.api.ask("GET", PATH + "/sales/qr")).body["data"]
    assert code["qr"] is not None or code["png"] is not None
    world.fake.pair(name, "5511900000001")
    status = (await world.api.ask("GET", PATH + "/sales/status")).body["data"]
    assert (status["connected"], status["phoneNumber"]) == (True, "5511900000001")
    nothing = await world.api.ask("GET", PATH + "/sales/qr")
    assert (nothing.status, nothing.code) == (409, "QR_NOT_AVAILABLE")
    gone = await world.api.ask("POST", PATH + "/sales/disconnect")
    assert (gone.status, gone.body["data"]["connected"]) == (200, False)
    assert (await world.api.ask("GET", PATH + "/sales/status")).body["data"]["connected"] is False
    assert (await world.api.ask("GET", PATH + "/sales")).body["data"]["connected"] is False


async def test_what_failed_when_asking_one_instance_is_told_with_its_cause(world: World) -> None:
    await create(world, id="sales")
    for status, ours, code, cause in (
        (401, 502, "BROKER_AUTH", "auth"),
        (429, 429, "BROKER_QUOTA_EXCEEDED", "rate_limited"),
        (503, 503, "BROKER_UNAVAILABLE", "service_unavailable"),
    ):
        fails(world, status)
        answer = await world.api.ask("GET", PATH + "/sales/status")
        assert (answer.status, answer.code, answer.details["cause"], answer.details["status"]) == (ours, code, cause, status)


async def test_delete_goes_to_the_broker_first_and_keeps_the_row_while_that_fails(world: World) -> None:
    await create(world, id="sales")
    fails(world, 503)
    kept = await world.api.ask("DELETE", PATH + "/sales")
    assert (kept.status, kept.code) == (503, "BROKER_UNAVAILABLE")
    assert (await world.api.ask("GET", PATH + "/sales")).status == 200
    heals(world)
    assert (await world.api.ask("DELETE", PATH + "/sales")).status == 204
    assert not world.fake.instances
    assert (await world.api.ask("DELETE", PATH + "/sales")).status == 404


async def test_one_that_its_broker_forgot_is_told_so_and_can_be_deleted(world: World) -> None:
    name = (await create(world, id="sales")).body["data"]["gatewayInstance"]
    await world.broker.delete(name)
    answer = await world.api.ask("GET", PATH + "/sales/status")
    assert (answer.status, answer.code) == (409, "INSTANCE_NOT_AT_BROKER")
    listed = await world.api.ask("GET", PATH + "?refresh=1")
    assert "1 instances are not at their broker" in listed.body["meta"]["warnings"][0]
    assert (await world.api.ask("DELETE", PATH + "/sales")).status == 204


async def test_a_declared_instance_is_read_only(world: World) -> None:
    answer = await world.api.ask("DELETE", PATH + "/acme-sales")
    assert (answer.status, answer.code) == (409, "DECLARED_IN_FILE")


async def test_an_instance_without_a_broker_only_pushes(world: World) -> None:
    made = (await create(world, id="meta", gateway="cloud-api", ingestSecret="the app's own".replace(" ", "-"))).body["data"]
    assert (made["broker"], made["isMade"], made["status"], made["ingestPath"]) == (None, True, "unknown", "/ingest/cloud-api/meta")
    assert (made["ingestSecret"], len(made["ingestVerifyToken"])) == ("the-app's-own", 32)
    shown = (await world.api.ask("GET", PATH + "/meta")).body["data"]
    assert not {"ingestSecret", "ingestVerifyToken"} & shown.keys()
    assert (await world.api.ask("GET", PATH + "/meta/status")).body["data"]["status"] == "unknown"
    for method, rest in (("GET", "/qr"), ("POST", "/disconnect")):
        answer = await world.api.ask(method, PATH + "/meta" + rest)
        assert (answer.status, answer.code) == (409, "INSTANCE_HAS_NO_BROKER")
    assert (await world.api.ask("DELETE", PATH + "/meta")).status == 204


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"broker": "nobody"}, 409, "BROKER_UNKNOWN"),
        ({"broker": "main", "gateway": "gowa"}, 409, "BROKER_OF_OTHER_GATEWAY"),
        ({"ingestSecret": "changeme"}, 409, "INGEST_SECRET_IS_PUBLIC"),
        ({"webhook": {"url": "https://10.0.0.1/"}}, 409, "FORBIDDEN_DESTINATION"),
        ({"webhook": {"url": "https://crm.example.com/", "headers": {"Webhook-Id": "x"}}}, 409, "RESERVED_HEADER"),
        ({"gateway": "signal"}, 400, "INVALID_REQUEST"),
        ({"id": "../etc"}, 400, "INVALID_REQUEST"),
        ({"name": "   "}, 400, "INVALID_REQUEST"),
        ({"name": "x" * 101}, 400, "INVALID_REQUEST"),
        ({"tenantId": "other"}, 400, "INVALID_REQUEST"),
        ({"webhook": {"url": "https://crm.example.com/", "events": ["nothing"]}}, 400, "INVALID_REQUEST"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_made(world: World, body: dict[str, Any], status: int, code: str) -> None:
    answer = await create(world, **body)
    assert (answer.status, answer.code) == (status, code)
    assert not world.fake.instances
    assert len((await world.api.ask("GET", PATH)).body["data"]["instances"]) == 1


async def test_a_webhook_made_with_its_instance_is_the_same_however_often_the_call_is_repeated(world: World) -> None:
    webhook = {"url": "https://crm.example.com/hooks", "events": ["message"]}
    fails(world, 503, "POST *")
    assert (await create(world, key="k", webhook=webhook)).status == 503
    heals(world)
    first, second = [(await create(world, key="k", webhook=webhook)).body["data"] for _ in range(2)]
    assert first == second
    [row] = [one for one in world.api.catalog.webhooks.values() if one.url == webhook["url"]]
    assert (row.id, row.secrets) == (first["webhook"]["id"], (first["webhook"]["secret"],))
    assert (str(row.tenant_id), list(row.instance_ids), row.events) == ("acme", [first["id"]], ("message",))
    assert first["webhooks"] == 2  # this one, and the file's for all instances


async def test_a_broker_is_told_where_to_push_and_with_which_secret() -> None:
    async with instances_api(public_url="https://events.example.com/") as world:
        made = (await create(world, id="sales")).body["data"]
        [there] = world.fake.instances.values()
        assert there.push_url == "https://events.example.com/ingest/waha/sales"
        assert there.push_secret == made["ingestSecret"]
        assert world.api.catalog.instances[made["id"]].ingest_secrets == (made["ingestSecret"],)


async def test_a_broker_of_another_tenant_does_not_exist() -> None:
    async with instances_api(tenant_ids=["other"]) as world:
        named = await create(world, broker="main")
        assert (named.status, named.code) == (409, "BROKER_UNKNOWN")
        alone = await create(world)
        assert (alone.status, alone.body["data"]["broker"]) == (201, None)
        listed = await world.api.ask("GET", PATH + "?refresh=1")
        assert (listed.status, listed.body["meta"]["stale"]) == (200, False)
        assert "no broker is configured" in listed.body["meta"]["warnings"][0]
        assert not world.fake.requests


async def test_each_kind_of_call_has_its_own_limit() -> None:
    limits = {"refresh": "1/60", "sync": "1/60", "read": "2/60", "create": "1/60"}
    async with instances_api(limits=limits) as world:
        asked = [PATH + "?refresh=1", PATH + "?refresh=on", PATH + "?mode=sync", PATH + "?mode=sync", PATH, PATH + "/acme-sales", PATH]
        assert [(await world.api.ask("GET", path)).status for path in asked] == [200, 429, 200, 429, 200, 200, 429]
        assert [(await create(world, key="k")).status for _ in range(2)] == [201, 201]
        assert (await create(world, key="another")).status == 429


async def test_a_sync_within_its_cooldown_shows_the_snapshot_and_says_so(world: World) -> None:
    await create(world)
    await world.api.ask("GET", PATH + "?mode=sync")
    world.fake.requests.clear()
    again = await world.api.ask("GET", PATH + "?mode=sync")
    assert (again.status, again.body["meta"]["refreshRequested"]) == (200, False)
    assert "every 30 s" in again.body["meta"]["warnings"][0]
    assert not world.fake.requests


async def test_many_repeats_at_once_are_one_call(world: World) -> None:
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await create(world, key="k"))

    async with anyio.create_task_group() as callers:
        for _ in range(50):
            callers.start_soon(ask)
    assert {answer.status for answer in answers} == {201}
    assert len({str(answer.body["data"]) for answer in answers}) == 1
    assert len(world.fake.instances) == 1


async def test_while_the_store_is_away_that_is_the_cause_told(world: World) -> None:
    world.api.store.faults.away = True
    for method, path in (("GET", PATH), ("GET", PATH + "?refresh=1"), ("GET", PATH + "/nobody"), ("DELETE", PATH + "/nobody")):
        answer = await world.api.ask(method, path)
        assert (answer.status, answer.code, answer.details["cause"]) == (503, "WHATSAPP_STORAGE_UNAVAILABLE", "storage")
        assert "Retry-After" in answer.headers
    assert (await create(world, key="k")).code == "WHATSAPP_STORAGE_UNAVAILABLE"
    world.api.store.faults.away = False
    assert (await create(world, key="k")).status == 201
