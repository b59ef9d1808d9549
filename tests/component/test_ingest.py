"""Ingest at its handler, below HTTP, on the twin of the store in virtual time: every answer of contract 3 and what it promises."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
import pytest
import structlog

from worker.adapters.memory_store import MemoryStore
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull
from worker.domain.ids import EventKey, InstanceId, Position, Shard, TenantId, shard_of
from worker.domain.record import Record, decode, normalized_body
from worker.gateways import GATEWAYS
from worker.gateways.port import Decoded, Gateway, Push
from worker.ingest.door import REFRESH_DEADLINE_S, Door, RoomLimits
from worker.ingest.entrance import Entrance
from worker.ingest.handler import INGEST_DURABLE_S, Ingest
from worker.ingest.preparation import Preparation, Stamps
from worker.ingest.reply import Reply
from worker.ingest.segments import SegmentWriter, WriterLimits
from worker.metrics import Metrics

pytestmark = pytest.mark.anyio

SHARDS = 4
ACME, BETA = TenantId("acme"), TenantId("beta")
SECRET = "a-long-secret-of-acme"
ROOMY = WriterLimits()


def instance(name: str, tenant: TenantId, gateway: str, called: str, **more: Any) -> Instance:
    return Instance(id=InstanceId(name), tenant_id=tenant, gateway=gateway, gateway_instance=called, **more)


CATALOG = Catalog(
    [Tenant(id=ACME), Tenant(id=BETA)],
    [
        instance("sales", ACME, "generic", "sales-phone"),
        instance("support", ACME, "generic", "support-phone"),
        instance("signed", ACME, "generic", "signed-phone", ingest_secrets=("an-older-secret", SECRET)),
        instance("meta", ACME, "cloud-api", "100200300", ingest_verify_token="a-token-of-ours"),
        instance("meta-silent", ACME, "cloud-api", "100200301"),
        instance("foreign", BETA, "generic", "beta-phone"),
        instance("broken", ACME, "broken", "broken-phone", ingest_secrets=()),
        instance("broken-signed", ACME, "broken", "broken-signed", ingest_secrets=(SECRET,)),
    ],
    [],
)


class BrokenGateway:
    """A gateway's module with a fault in it."""

    ACCEPTED_STATUS = 202
    PUBLISHED_SECRETS: frozenset[str] = frozenset()

    @staticmethod
    def verify(push: Push, secrets: Sequence[str]) -> bool:
        raise KeyError(push.headers.get("x-signature"), len(secrets))

    @staticmethod
    def decode(push: Push) -> list[Decoded]:
        return [push.body["data"]]  # type: ignore[call-overload]


@dataclass
class World:
    """Ingest on a twin, and what the twin holds."""

    store: MemoryStore
    ingest: Ingest
    door: Door
    writer: SegmentWriter
    metrics: Metrics = field(repr=False)

    async def push(self, name: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        found = CATALOG.instances.get(InstanceId(name))
        gateway = "generic" if found is None else found.gateway
        return await self.ingest.accept(gateway, name, headers or {"content-type": "application/json"}, data)

    async def records(self) -> list[Record]:
        """All that is in the journal, shard by shard."""
        cursors = {Shard(n): Position(1) for n in range(SHARDS)}
        segments = await self.store.journal.read(cursors, max_segments=10_000, block_s=0)
        return [decode(data) for segment in segments for data in segment.records]


@asynccontextmanager
async def world(
    *, limits: WriterLimits = ROOMY, room: RoomLimits | None = None, gateways: Mapping[str, Gateway] | None = None
) -> AsyncIterator[World]:
    clock = asyncio.get_running_loop().time
    store = MemoryStore(shards=SHARDS, clock=clock)
    metrics = Metrics()
    writer = SegmentWriter(store.journal, SHARDS, clock, observe_append_s=metrics.journal_append_duration.record, limits=limits)
    door = Door(store.room, [Shard(n) for n in range(SHARDS)], room or RoomLimits(max_events=1_000, max_bytes=100 << 20, tenant_share=0.5))
    numbers = iter(range(10_000))
    stamps = Stamps(received_at=lambda: "2026-11-22T07:45:38.300Z", fresh_key=lambda: EventKey(f"ulid:{next(numbers)}"))
    preparation = Preparation(catalog=CATALOG, shards=SHARDS, stamps=stamps)
    ingest = Ingest(preparation, gateways or {**GATEWAYS, "broken": BrokenGateway()}, writer, door, metrics, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        yield World(store, ingest, door, writer, metrics)
        tasks.cancel_scope.cancel()


def told(answer: Reply) -> Any:
    return orjson.loads(answer.body)


def signature(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"x-signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def message(key: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "event_key": key, **more}


async def test_202_says_that_the_event_is_in_the_journal() -> None:
    async with world() as it:
        answer = await it.push("sales", message("k1", text="hello"))
        assert (answer.status, told(answer)) == (202, {"accepted": 1, "duplicates": 0})
        [record] = await it.records()
    assert record.instance_id == "sales"
    assert orjson.loads(normalized_body(record))["text"] == "hello"


async def test_the_same_event_again_is_a_duplicate_and_not_stored_twice() -> None:
    async with world() as it:
        await it.push("sales", message("k1"))
        assert told(await it.push("sales", message("k1"))) == {"accepted": 0, "duplicates": 1}
        assert len(await it.records()) == 1


async def test_nobody_is_told_received_before_the_append_has_answered() -> None:
    async with world() as it:
        it.store.faults.stall()
        answers: list[Reply] = []

        async def push() -> None:
            answers.append(await it.push("sales", message("k1")))

        async with anyio.create_task_group() as pushes:
            pushes.start_soon(push)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            it.store.faults.resume()
        assert answers[0].status == 202


async def test_several_events_for_several_shards_are_all_appended_before_the_answer() -> None:
    names = ["sales-phone", "support-phone", "signed-phone"]
    body = [message(f"k{n}", gateway_instance=names[n % 3]) for n in range(30)]
    async with world() as it:
        answer = await it.push("sales", body)
        assert told(answer) == {"accepted": 30, "duplicates": 0}
        records = await it.records()
    assert {record.instance_id for record in records} == {"sales", "support", "signed"}
    assert len({shard_of(record.instance_id, SHARDS) for record in records}) > 1
    assert len(records) == 30


async def test_one_shard_that_fails_makes_the_whole_body_come_again() -> None:
    body = [message("k1", gateway_instance="sales-phone"), message("k2", gateway_instance="support-phone")]
    async with world() as it:
        it.store.faults.fail_next(1)
        assert (await it.push("sales", body)).status == 503
        again = await it.push("sales", body)
        assert again.status == 202
        assert len(await it.records()) == 2
        assert told(again)["accepted"] + told(again)["duplicates"] == 2


async def test_the_instance_named_in_the_body_decides_within_the_tenant() -> None:
    async with world() as it:
        await it.push("sales", message("k1", gateway_instance="support-phone"))
        [record] = await it.records()
    assert record.instance_id == "support"


async def test_a_name_that_nobody_registered_is_kept_under_the_path_and_counted() -> None:
    async with world() as it:
        assert (await it.push("sales", message("k1", gateway_instance="a-stranger"))).status == 202
        [record] = await it.records()
        assert it.metrics.ingest_misnamed.cells == {("acme",): 1}
    assert record.instance_id == "sales"
    assert record.envelope["gateway_instance"] == "a-stranger"


async def test_another_tenants_instance_is_never_reached_by_its_name() -> None:
    async with world() as it:
        await it.push("sales", message("k1", gateway_instance="beta-phone"))
        [record] = await it.records()
    assert (record.tenant_id, record.instance_id) == ("acme", "sales")


async def test_meta_is_told_200() -> None:
    value = {"metadata": {"phone_number_id": "100200300"}, "statuses": [{"id": "wamid.1", "status": "read", "timestamp": "1763790000"}]}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]}
    async with world() as it:
        answer = await it.push("meta", body)
    assert (answer.status, told(answer)) == (200, {"accepted": 1, "duplicates": 0})


async def test_what_is_no_envelope_is_refused_with_the_field_and_nothing_is_stored() -> None:
    async with world() as it:
        answer = await it.push("sales", [message("k1"), {"type": "message", "is_group": "yes"}])
        assert (answer.status, told(answer)["code"], told(answer)["field"]) == (400, "MALFORMED_EVENT", "[1].is_group")
        assert (await it.push("sales", b"not json")).status == 400
        assert await it.records() == []


async def test_an_unknown_instance_and_one_of_another_gateway_are_404() -> None:
    async with world() as it:
        answers = [
            await it.push("nobody", message("k1")),
            await it.ingest.accept("waha", "sales", {}, b"{}"),
            await it.ingest.accept("no-such-gateway", "sales", {}, b"{}"),
        ]
    assert [(answer.status, told(answer)["code"]) for answer in answers] == [(404, "UNKNOWN_INSTANCE")] * 3


async def test_a_push_for_an_instance_with_secrets_must_be_signed_with_any_one_of_them() -> None:
    body = orjson.dumps(message("k1"))
    async with world() as it:
        assert (await it.push("signed", body, signature(body))).status == 202
        assert (await it.push("signed", body, signature(body, "an-older-secret"))).status == 202
        for headers in ({}, signature(b"another body"), signature(body, "wrong")):
            answer = await it.push("signed", body, headers)
            assert (answer.status, told(answer)["code"]) == (401, "BAD_SIGNATURE")
        assert len(await it.records()) == 1


async def test_a_fault_in_a_gateways_module_keeps_the_body_whole_with_its_secrets_overwritten() -> None:
    async with world() as it:
        with structlog.testing.capture_logs() as logs:
            answers = [await it.push("broken", b'{"text": "hi", "token": "abc"}') for _ in range(3)]
        records = await it.records()
    assert [answer.status for answer in answers] == [202] * 3
    assert [(record.type, record.subtype, record.instance_id) for record in records] == [("unknown", "undecodable", "broken")] * 3
    assert orjson.loads(normalized_body(records[0]))["raw"] == {"text": "hi", "token": "***"}
    assert [entry["event"] for entry in logs] == ["gateway_module_failed"], "once, not three times"
    assert "hi" not in str(logs)


async def test_a_body_kept_whole_that_is_not_json_is_not_called_json() -> None:
    async with world() as it:
        await it.push("broken", b"\xff{", {"content-type": "application/json"})
        [record] = await it.records()
    assert record.raw_content_type == "application/octet-stream"
    assert orjson.loads(normalized_body(record))["raw"] == "/3s="


async def test_a_fault_in_the_check_of_a_signature_lets_nobody_in() -> None:
    async with world() as it:
        answer = await it.push("broken-signed", {})
        assert (answer.status, await it.records()) == (401, [])


async def test_a_store_that_is_away_is_503_with_retry_after_and_nothing_is_lost_by_sending_again() -> None:
    async with world() as it:
        it.store.faults.away = True
        answer = await it.push("sales", message("k1"))
        assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
        it.store.faults.away = False
        assert (await it.push("sales", message("k1"))).status == 202


async def test_an_answer_that_was_lost_ends_as_a_duplicate() -> None:
    async with world() as it:
        it.store.faults.lose_next_answers(1)
        assert (await it.push("sales", message("k1"))).status == 503
        assert told(await it.push("sales", message("k1"))) == {"accepted": 0, "duplicates": 1}


async def test_a_store_that_does_not_answer_is_503_at_the_deadline_and_never_an_early_2xx() -> None:
    async with world() as it:
        it.store.faults.stall()
        started_s = anyio.current_time()
        answer = await it.push("sales", message("k1"))
        assert anyio.current_time() - started_s == pytest.approx(INGEST_DURABLE_S, abs=0.01)
        assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_UNAVAILABLE")


async def test_a_store_that_refuses_to_grow_is_journal_full() -> None:
    async def refuse(script: str) -> None:
        if script == "append":
            raise StoreFull("maxmemory")

    async with world() as it:
        it.store.faults.before = refuse
        answer = await it.push("sales", message("k1"))
    assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_FULL")


async def test_a_tenant_beyond_its_share_is_refused_while_another_is_served() -> None:
    async with world(room=RoomLimits(max_events=10, max_bytes=1 << 20, tenant_share=0.5)) as it:
        codes = [told(await it.push("sales", message(f"k{n}"))).get("code") for n in range(6)]
        other = await it.push("foreign", message("k"))
    assert codes == [None] * 5 + ["TENANT_BACKLOG_FULL"]
    assert other.status == 202


async def test_a_full_journal_is_refused_before_anything_is_stored() -> None:
    async with world(room=RoomLimits(max_events=5, max_bytes=1 << 20, tenant_share=1.0)) as it:
        await it.push("sales", [message(f"k{n}") for n in range(4)])
        answer = await it.push("foreign", message("k"))
        assert (answer.status, told(answer)["code"]) == (503, "JOURNAL_FULL")
        assert len(await it.records()) == 4


async def test_a_worker_without_room_spends_no_time_on_what_it_refuses() -> None:
    async with world(room=RoomLimits(max_events=0, max_bytes=0, tenant_share=1.0)) as it:
        assert told(await it.push("sales", b"not even json"))["code"] == "JOURNAL_FULL"
        assert told(await it.push("signed", message("k1")))["code"] == "JOURNAL_FULL"


async def test_the_figures_are_read_anew_each_second_so_that_room_made_elsewhere_opens_the_door() -> None:
    async with world(room=RoomLimits(max_events=10, max_bytes=1 << 20, tenant_share=1.0)) as it, anyio.create_task_group() as tasks:
        await tasks.start(it.door.run)
        it.door.count(ACME, 8, 0)
        assert told(await it.push("sales", message("k1")))["code"] == "JOURNAL_FULL"
        await anyio.sleep(1.1)  # noqa: TID251 -- virtual time
        assert (await it.push("sales", message("k1"))).status == 202
        it.door.shut()


async def test_a_store_that_hangs_holds_up_a_refresh_for_its_deadline_at_most() -> None:
    async with world() as it:
        it.store.faults.stall()
        started_s = anyio.current_time()
        assert not await it.door.refresh()
        assert anyio.current_time() - started_s == pytest.approx(REFRESH_DEADLINE_S, abs=0.01)


async def test_a_leaving_worker_still_journals_and_closes_each_connection() -> None:
    async with world() as it:
        it.door.leave()
        answer = await it.push("sales", message("k1"))
        assert (answer.status, answer.headers["Connection"]) == (202, "close")
        assert (await it.push("nobody", message("k1"))).headers["Connection"] == "close"


async def test_from_teardown_on_every_push_is_503_draining() -> None:
    async with world() as it:
        it.door.shut()
        answer = await it.push("sales", message("k1"))
        assert (answer.status, told(answer)["code"], answer.headers["Connection"]) == (503, "DRAINING", "close")
        assert await it.records() == []


async def test_a_closed_writer_is_503_draining() -> None:
    async with world() as it:
        assert await it.writer.close(Deadline(name="test", at_s=anyio.current_time() + 1))
        assert told(await it.push("sales", message("k1")))["code"] == "DRAINING"


async def test_what_waits_for_the_journal_is_bounded_and_refused_beyond() -> None:
    async with world(limits=WriterLimits(shard_events=100, shard_bytes=8_000, total_bytes=20_000)) as it:
        it.store.faults.stall()
        answers: list[Reply] = []

        async def push(n: int) -> None:
            answers.append(await it.push("sales", message(f"k{n}", text="x" * 1_000)))

        async with anyio.create_task_group() as pushes:
            for n in range(20):
                pushes.start_soon(push, n)
            await anyio.wait_all_tasks_blocked()
            assert it.writer.held_bytes <= 8_000
            assert {told(answer)["code"] for answer in answers} == {"JOURNAL_UNAVAILABLE"}
            refused = len(answers)
            it.store.faults.resume()
        assert sorted(answer.status for answer in answers) == [202] * (20 - refused) + [503] * refused
        assert 0 < refused < 20


async def test_a_body_that_could_never_wait_at_once_is_413() -> None:
    async with world(limits=WriterLimits(shard_events=10, shard_bytes=1 << 20, total_bytes=1 << 20)) as it:
        answer = await it.push("sales", [message(f"k{n}") for n in range(11)])
        assert (answer.status, told(answer)["code"]) == (413, "BODY_TOO_LARGE")
        assert (await it.push("sales", message("k"))).status == 202


async def test_pushes_that_wait_together_share_a_segment() -> None:
    async with world() as it:
        async with anyio.create_task_group() as pushes:
            for n in range(100):
                pushes.start_soon(it.push, "sales", message(f"k{n}"))
        assert it.store.faults.calls.count("append") <= 3
        assert len(await it.records()) == 100


async def test_no_segment_holds_more_than_256_events() -> None:
    async with world() as it:
        await it.push("sales", [message(f"k{n}") for n in range(600)])
        segments = await it.store.journal.read({shard_of(InstanceId("sales"), SHARDS): Position(1)}, max_segments=100, block_s=0)
    assert [len(segment.records) for segment in segments] == [256, 256, 88]


async def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    async with world() as it:
        it.store.faults.stall()
        answers: list[Reply] = []

        async def push() -> None:
            answers.append(await it.push("sales", message("staying")))

        async with anyio.create_task_group() as pushes:
            with anyio.move_on_after(0.5):
                pushes.start_soon(push)
                await it.push("sales", message("leaving"))
            it.store.faults.resume()
        assert answers[0].status == 202


async def test_before_the_store_is_there_a_push_is_told_to_come_again() -> None:
    entrance = Entrance()
    early = await entrance.accept("generic", "sales", {}, b"{}")
    assert (early.status, told(early)["code"]) == (503, "JOURNAL_UNAVAILABLE")
    handshake = entrance.challenge("cloud-api", "meta", {})
    assert handshake is not None
    assert handshake.status == 503
    assert entrance.finished("generic", early) is early
    async with world() as it:
        entrance.open(it.ingest)
        assert (await entrance.accept("generic", "sales", {}, orjson.dumps(message("k1")))).status == 202
        assert entrance.challenge("generic", "sales", {}) is None
        it.door.leave()
        assert entrance.finished("generic", early).headers["Connection"] == "close"


async def test_metas_challenge_comes_back_only_for_the_right_token() -> None:
    asked = {"hub.mode": "subscribe", "hub.verify_token": "a-token-of-ours", "hub.challenge": "1158201444"}
    async with world() as it:
        met = it.ingest.challenge("cloud-api", "meta", asked)
        assert met is not None
        assert (met.status, met.body, met.content_type) == (200, b"1158201444", "text/plain")
        for name, query in [("meta", {**asked, "hub.verify_token": "wrong"}), ("meta", {**asked, "hub.mode": "x"}), ("meta-silent", asked)]:
            failed = it.ingest.challenge("cloud-api", name, query)
            assert failed is not None
            assert failed.status == 403
        unknown = it.ingest.challenge("cloud-api", "nobody", asked)
        assert unknown is not None
        assert unknown.status == 404
        assert it.ingest.challenge("generic", "sales", asked) is None


async def test_what_came_in_and_what_did_not_is_counted() -> None:
    async with world() as it:
        await it.push("sales", [message("k1"), message("k2")])
        await it.push("sales", message("k1"))
        await it.push("sales", b"not json")
        it.store.faults.away = True
        await it.push("sales", message("k3"))
        counted = it.ingest.statistics()
    assert {name: counted[name] for name in ("events", "duplicates", "refused", "rejected")} == {
        "events": 2,
        "duplicates": 1,
        "refused": 1,
        "rejected": 1,
    }
    assert it.metrics.ingest_events.cells == {("acme", "message"): 2}
    assert it.metrics.ingest_requests.cells["generic", "accepted"] == 2
