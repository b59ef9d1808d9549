"""Past events over the API, with engines that deliver: the timeline of one, and a time range once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tests.component.api_calls import Api
from tests.component.rig import ACME, WALL_AT_ZERO_S, Rig, Worker, pass_time, rig, until, webhook
from worker.adapters.clock import rfc3339
from worker.adapters.memory_transport import Answers, Fails, Hangs
from worker.api.events import event_endpoints
from worker.domain.catalog import Tenant, Webhook
from worker.domain.ids import DeliveryId, EventKey, TenantId, WebhookId
from worker.event_integration.attempts_log import KEPT, AttemptEntry
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.transport import Cause, Stage
from worker.event_integration.webhook_states import DisabledReason
from worker.ingest.door import RoomLimits
from worker.management import ManagementSettings, management_endpoints

pytestmark = pytest.mark.anyio

STRANGER = TenantId("stranger")
ONCE = RetryPolicy(schedule_s=(), max_age_s=86_400)
FORBIDDEN = Fails(cause=Cause.FORBIDDEN, stage=Stage.DNS)


def at(offset_s: float) -> str:
    """RFC 3339, from the instant at which all events of a rig are received."""
    return rfc3339(datetime.fromtimestamp(WALL_AT_ZERO_S + offset_s, UTC))


def api(it: Rig, worker: Worker, tenant: TenantId = ACME) -> Api:
    return Api(management_endpoints(worker.engine, it.store, ManagementSettings(shards=it.shards)), tenant)


async def timeline(it: Rig, worker: Worker, event_key: str) -> dict[str, Any]:
    status, body = await api(it, worker).ask("GET", f"/api/events/{event_key}")
    assert status == 200, body
    return dict(body["data"])


async def replay_all(calls: Api, name: str = "crm", **body: Any) -> tuple[int, int]:
    replayed = skipped = 0
    for _ in range(1_000):
        status, told = await calls.ask("POST", f"/api/webhooks/{name}/replay", {"since": at(-60), **body})
        assert status == 200, told
        replayed, skipped = replayed + told["data"]["replayed"], skipped + told["data"]["skipped"]
        if told["meta"]["nextCursor"] is None:
            return replayed, skipped
        body["cursor"] = told["meta"]["nextCursor"]
    raise AssertionError("a replay that never ends")


def key_of(it: Rig, name: str, number: int = -1) -> str:
    return str(orjson.loads(it.attempts(name)[number].body)["event_key"])


async def saved(it: Rig) -> None:
    """Until the journal knows what is done."""
    await it.nothing_waits()
    await pass_time(2)


# --- the timeline of one event ------------------------------------------------------------------------------------------------


async def test_a_delivered_event_tells_where_it_stood_and_how_it_went() -> None:
    async with rig(webhook("crm"), webhook("erp", events=("receipt",))) as it:
        a = await it.owning()
        await it.push(a)
        await saved(it)
        told = await timeline(it, a, key_of(it, "crm"))
        assert (told["type"], told["gateway"], told["acceptedAt"][:19]) == ("message", "generic", at(0)[:19])
        assert told["journaled"]["position"] == 1
        crm, erp = told["deliveries"]
        assert (crm["webhookId"], crm["state"], crm["attempts"]) == ("crm", "delivered", 1)
        assert [(one["attempt"], one["outcome"], one["status"]) for one in crm["log"]] == [(1, "delivered", 200)]
        assert (erp["webhookId"], erp["state"], erp["log"]) == ("erp", "not_routed", [])


async def test_an_event_that_is_tried_again_tells_when_and_why() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a)
        await pass_time(2)
        [delivery] = (await timeline(it, a, key_of(it, "crm")))["deliveries"]
        assert (delivery["state"], delivery["attempts"], delivery["error"]) == ("retrying", 1, "HTTP 500")
        assert 0 < delivery["nextAttemptInS"] < 6
        it.answer("crm")
        await it.all_delivered()


async def test_an_event_under_way_waits_and_one_that_died_says_of_what() -> None:
    async with rig(webhook("crm"), webhook("bad"), retry=ONCE) as it:
        a = await it.owning()
        it.answer("crm", Hangs())
        it.answer("bad", FORBIDDEN)
        await it.push(a)
        await pass_time(1)
        crm, bad = (await timeline(it, a, key_of(it, "crm")))["deliveries"]
        assert (crm["state"], crm["nextAttemptInS"]) == ("waiting", None)
        assert (bad["state"], bad["reason"]) == ("dead", "forbidden_destination")


async def test_a_dead_letter_of_a_deleted_webhook_is_part_of_its_events_timeline() -> None:
    async with rig(retry=ONCE) as it:
        late = Webhook(id=WebhookId("late"), tenant_id=ACME, url="http://late.example/hook")
        it.catalog.put(late)
        a = await it.owning()
        it.endpoints.script(late.url, FORBIDDEN)
        await it.push(a)
        await saved(it)
        it.catalog.drop(late)
        crm, gone = (await timeline(it, a, key_of(it, "crm")))["deliveries"]
        assert (crm["state"], gone["webhookId"], gone["state"]) == ("delivered", "late", "dead")


async def test_another_tenants_event_is_like_one_that_never_was() -> None:
    async with rig() as it:
        it.catalog.put(Tenant(id=STRANGER))
        a = await it.owning()
        await it.push(a)
        await saved(it)
        stranger = api(it, a, STRANGER)
        for event_key in (key_of(it, "crm"), "0" * 64, "ulid:01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            assert await stranger.ask("GET", f"/api/events/{event_key}") == (404, "EVENT_NOT_FOUND")
        assert await stranger.ask("GET", "/api/events/elephant") == (404, "NOT_FOUND")


async def test_an_event_the_journal_has_forgotten_is_told_by_its_attempts() -> None:
    async with rig(keep_s=1.0) as it:
        a = await it.owning()
        await it.push(a)
        await saved(it)
        event_key = key_of(it, "crm")
        for _ in range(4):
            await pass_time(30)
            await it.push(a)
        await saved(it)
        told = await timeline(it, a, event_key)
        assert (told["acceptedAt"], told["instanceId"], told["type"]) == (None, None, None)
        assert told["journaled"]["position"] == 1
        assert [(one["state"], one["attempts"]) for one in told["deliveries"]] == [("delivered", 1)]


async def test_a_discarded_letter_leaves_its_delivery_unknown_while_its_attempts_are_remembered() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        it.answer("crm", FORBIDDEN)
        await it.push(a)
        await saved(it)
        [letter] = await it.dead_letters()
        assert (await api(it, a).ask("DELETE", f"/api/dead-letters/{letter.delivery_id}"))[0] == 204
        [delivery] = (await timeline(it, a, letter.event_key))["deliveries"]
        assert (delivery["state"], delivery["reason"], delivery["attempts"]) == ("unknown", None, 1)
        assert delivery["error"].startswith("forbidden_destination")


async def test_a_webhook_that_came_after_an_event_was_not_meant_by_it() -> None:
    async with rig(webhook("crm"), webhook("one", instance_ids=frozenset({"i1"}))) as it:
        a = await it.owning()
        await it.push(a, instance="i2")
        await saved(it)
        it.catalog.put(Webhook(id=WebhookId("new"), tenant_id=ACME, url="http://new.example/hook", created_at=at(1)))
        states = {one["webhookId"]: one["state"] for one in (await timeline(it, a, key_of(it, "crm")))["deliveries"]}
        assert states == {"crm": "delivered", "one": "not_routed", "new": "not_routed"}


def others(at_s: Sequence[float]) -> list[AttemptEntry]:
    """Attempts of other events, that long after the rig's events were received."""
    key, name = EventKey("f" * 64), DeliveryId("d")
    return [
        AttemptEntry(at_s=WALL_AT_ZERO_S + s, event_key=key, delivery_id=name, attempt=1, outcome="delivered", duration_s=0.1) for s in at_s
    ]


@pytest.mark.parametrize(
    ("logged_at_s", "asked_at_s", "state"),
    [
        pytest.param([], 60, "not_routed", id="a log of nothing reaches back"),
        pytest.param(range(50), 60, "not_routed", id="a log with room has lost nothing"),
        pytest.param(range(-50, 50), 60, "not_routed", id="a full log that begins before the event"),
        pytest.param(range(10, 110), 200, "delivered", id="a full log that begins after it"),
        pytest.param([], 1, "delivered", id="a log that may not be written yet"),
        pytest.param([], 8 * 86_400, "delivered", id="a log that may have been forgotten whole"),
        pytest.param([-60], 8 * 86_400, "not_routed", id="a log that was not"),
    ],
)
async def test_a_webhook_that_was_disabled_when_an_event_came_was_not_routed_it_as_far_as_its_log_reaches_back(
    logged_at_s: Sequence[float], asked_at_s: float, state: str
) -> None:
    assert len(logged_at_s) <= KEPT
    async with rig(webhook("crm"), webhook("off", enabled=False)) as it:
        a = await it.owning()
        await it.push(a)
        await saved(it)
        await it.store.attempts_log.add({WebhookId("off"): others(logged_at_s)})
        endpoints = event_endpoints(it.store.past, it.store.attempts_log, it.catalog, lambda: WALL_AT_ZERO_S + asked_at_s)
        _, body = await Api(endpoints).ask("GET", f"/api/events/{key_of(it, 'crm')}")
        assert [(one["state"], one["attempts"]) for one in body["data"]["deliveries"]] == [("delivered", 1), (state, 0)]


async def test_a_damaged_record_leaves_what_the_attempts_tell() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a)
        await saved(it)
        for state in it.store.past._shards.values():  # noqa: SLF001 -- damage
            state.segments = [s._replace(events=tuple(replace(e, record=b"damaged") for e in s.events)) for s in state.segments]
        told = await timeline(it, a, key_of(it, "crm"))
        assert (told["type"], [one["state"] for one in told["deliveries"]]) == (None, ["delivered"])
        assert await replay_all(api(it, a), until=at(60)) == (0, 0)


# --- a time range once more ---------------------------------------------------------------------------------------------------


async def test_a_time_range_is_delivered_once_more_under_the_same_webhook_ids() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 30)
        await saved(it)
        assert await replay_all(api(it, a), until=at(60)) == (30, 0)
        await until(lambda: len(it.attempts("crm")) == 60, within_s=20, what="all came twice")
        assert len({request.headers["webhook-id"] for request in it.attempts("crm")}) == 30
        await it.nothing_waits()


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_of_a_time_range_hold_each_event_once(limit: int) -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 25)
        await saved(it)
        assert await replay_all(api(it, a), until=at(60), limit=limit, ratePerS=1000) == (25, 0)
        await until(lambda: len(it.attempts("crm")) == 50, within_s=20, what="all came twice")


async def test_only_what_the_webhooks_filter_wants_and_the_time_range_holds() -> None:
    async with rig(webhook("crm"), webhook("one", instance_ids=frozenset({"i1"})), webhook("erp", events=("receipt",))) as it:
        a = await it.owning()
        await it.push(a, 12)
        await saved(it)
        calls = api(it, a)
        assert await replay_all(calls, "one", until=at(60)) == (3, 0)
        assert await replay_all(calls, "erp", until=at(60)) == (0, 0)
        assert await replay_all(calls, since=at(1), until=at(60)) == (0, 0)
        assert await replay_all(calls, until=at(0)) == (0, 0)


async def test_a_new_webhook_is_given_what_came_before_it() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Hangs())
        await it.push(a, 9)
        await pass_time(0.5)
        it.catalog.put(Webhook(id=WebhookId("new"), tenant_id=ACME, url="http://new.example/hook", created_at=at(1)))
        it.endpoints.script("http://new.example/hook", Answers())
        assert await replay_all(api(it, a), "new", until=at(60)) == (9, 0)
        await it.all_delivered("new", within_s=10)
        it.answer("crm")
        await it.all_delivered("crm")


async def test_what_waits_for_the_webhook_already_is_skipped() -> None:
    async with rig() as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500))
        await it.push(a, 6)
        await pass_time(2)
        assert await replay_all(api(it, a), until=at(60)) == (0, 6)
        it.answer("crm")
        await it.all_delivered()


async def test_dead_letters_of_that_time_are_replayed_with_it_or_left() -> None:
    async with rig(retry=ONCE) as it:
        a = await it.owning()
        await it.push(a, 4)
        await saved(it)
        it.answer("crm", FORBIDDEN)
        await it.push(a, 6)
        await saved(it)
        it.answer("crm")
        assert await replay_all(api(it, a), until=at(60), includeDeadLetters=False) == (4, 6)
        await saved(it)
        assert await replay_all(api(it, a), until=at(60), limit=4) == (10, 0)
        await it.all_delivered()
        assert await it.dead_letters() == []


async def test_a_replay_that_runs_twice_queues_nothing_twice() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 20)
        await saved(it)
        first = await replay_all(api(it, a), until=at(60), ratePerS=1)
        assert first == (20, 0)
        assert sum(await replay_all(api(it, a), until=at(60), ratePerS=1)) == 20
        await until(lambda: len(it.attempts("crm")) >= 40, within_s=60, what="all came twice")
        await it.nothing_waits()
        assert len(it.attempts("crm")) <= 45


@pytest.mark.parametrize("is_declared_so", [True, False])
async def test_a_disabled_webhook_is_replayed_nothing(is_declared_so: bool) -> None:
    async with rig(webhook("crm", enabled=not is_declared_so)) as it:
        a = await it.owning()
        if not is_declared_so:
            await it.store.webhook_states.disable(WebhookId("crm"), DisabledReason.GONE)
            await until(lambda: WebhookId("crm") in a.engine.standing.disabled, within_s=3, what="known disabled")
        body = {"since": at(-60)}
        assert await api(it, a).ask("POST", "/api/webhooks/crm/replay", body) == (409, "WEBHOOK_DISABLED")
        assert await api(it, a).ask("POST", "/api/webhooks/nobodys/replay", body) == (404, "WEBHOOK_NOT_FOUND")


async def test_a_paused_webhook_is_replayed_to_when_it_goes_on() -> None:
    async with rig() as it:
        a = await it.owning()
        await it.push(a, 5)
        await saved(it)
        await it.store.webhook_states.pause(WebhookId("crm"))
        await pass_time(3)
        assert await replay_all(api(it, a), until=at(60)) == (5, 0)
        await pass_time(30)
        assert len(it.attempts("crm")) == 5
        await it.store.webhook_states.resume(WebhookId("crm"))
        await until(lambda: len(it.attempts("crm")) == 10, within_s=20, what="all came twice")


async def test_a_tenant_whose_share_is_full_adds_nothing_by_replaying() -> None:
    async with rig(room=RoomLimits(max_events=40, max_bytes=1 << 30, tenant_share=0.5)) as it:
        it.catalog.put(Tenant(id=STRANGER))  # with one tenant there is nobody to share with
        a = await it.owning()
        await it.push(a, 5)
        await saved(it)
        it.answer("crm", Answers(status=500))
        await it.push(a, 20)
        await pass_time(3)
        body = {"since": at(-60), "until": at(60)}
        assert await api(it, a).ask("POST", "/api/webhooks/crm/replay", body) == (503, "TENANT_BACKLOG_FULL")
        it.answer("crm")
        await it.all_delivered()
