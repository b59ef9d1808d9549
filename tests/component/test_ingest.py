"""Ingest at its handler, below HTTP, on the twin of the store in virtual time: every answer of contract 3 and what it promises."""

from __future__ import annotations

import hashlib
import hmac

import anyio
import orjson
import pytest
import structlog

from tests.component.ingest_world import SECRET, SHARDS, message, told, world
from worker.domain.ids import InstanceId, Position, shard_of
from worker.domain.record import normalized_body, raw_body
from worker.gateways import GATEWAYS
from worker.ingest.entrance import Entrance
from worker.ingest.handler import INGEST_DURABLE_S
from worker.ingest.intake import MAX_NAMES_LOGGED
from worker.ingest.reply import Reply

pytestmark = pytest.mark.anyio


def signature(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"x-signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


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


async def test_each_name_that_nobody_registered_is_told_once_and_no_phone_number_with_it() -> None:
    names = ["a-stranger", "a-stranger", "5511900000001", "two\nlines"]
    async with world() as it:
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                await it.push("sales", [message(f"k{n}", gateway_instance=name) for n, name in enumerate(names)])
            await it.push("support", message("k9", gateway_instance="a-stranger"))
        assert it.metrics.ingest_misnamed.cells == {("acme",): 9}
    assert [(entry["event"], entry["instance"], entry["gateway_instance"]) for entry in logs] == [
        ("gateway_instance_unknown", "sales", "a-stranger"),
        ("gateway_instance_unknown", "sales", "…0001"),
        ("gateway_instance_unknown", "sales", "two_lines"),
        ("gateway_instance_unknown", "support", "a-stranger"),
    ]


async def test_names_from_outside_do_not_fill_the_log() -> None:
    async with world() as it:
        with structlog.testing.capture_logs() as logs:
            await it.push("sales", [message(f"k{n}", gateway_instance=f"stranger-{n % 10}-{n}") for n in range(MAX_NAMES_LOGGED + 20)])
    assert len(logs) == MAX_NAMES_LOGGED


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
        assert told(answer)["message"] == "must be true or false; nothing was stored: see docs/gateways.md, generic"
        assert (await it.push("sales", b"not json")).status == 400
        foreign = await it.ingest.accept("cloud-api", "meta", {}, b"[]")
        assert told(foreign)["message"].endswith("nothing was stored: send the gateway's own body unchanged")
        assert await it.records() == []


async def test_an_unknown_instance_and_one_of_another_gateway_are_404() -> None:
    async with world() as it:
        answers = [
            await it.push("nobody", message("k1")),
            await it.ingest.accept("waha", "sales", {}, b"{}"),
            await it.ingest.accept("no-such-gateway", "sales", {}, b"{}"),
        ]
    assert [(answer.status, told(answer)["code"]) for answer in answers] == [(404, "UNKNOWN_INSTANCE")] * 3
    assert told(answers[2])["message"] == f'no gateway "no-such-gateway"; one of {", ".join([*GATEWAYS, "broken"])}'


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


async def test_a_form_kept_whole_has_its_secrets_overwritten_too() -> None:
    form = "application/x-www-form-urlencoded"
    async with world() as it:
        await it.push("broken", b"token=abc&jsonData=%7B%22token%22%3A%22abc%22%7D", {"content-type": form})
        [record] = await it.records()
    assert raw_body(record) == (b"token=***&jsonData=%7B%22token%22%3A%22***%22%7D", form)


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
    handshake = await entrance.challenge("cloud-api", "meta", {})
    assert handshake is not None
    assert handshake.status == 503
    assert entrance.finished("generic", early) is early
    async with world() as it:
        entrance.open(it.ingest)
        assert (await entrance.accept("generic", "sales", {}, orjson.dumps(message("k1")))).status == 202
        assert await entrance.challenge("generic", "sales", {}) is None
        it.door.leave()
        assert entrance.finished("generic", early).headers["Connection"] == "close"


async def test_metas_challenge_comes_back_only_for_the_right_token() -> None:
    asked = {"hub.mode": "subscribe", "hub.verify_token": "a-token-of-ours", "hub.challenge": "1158201444"}
    async with world() as it:
        met = await it.ingest.challenge("cloud-api", "meta", asked)
        assert met is not None
        assert (met.status, met.body, met.content_type) == (200, b"1158201444", "text/plain")
        for name, query in [("meta", {**asked, "hub.verify_token": "wrong"}), ("meta", {**asked, "hub.mode": "x"}), ("meta-silent", asked)]:
            failed = await it.ingest.challenge("cloud-api", name, query)
            assert failed is not None
            assert failed.status == 403
        unknown = await it.ingest.challenge("cloud-api", "nobody", asked)
        assert unknown is not None
        assert unknown.status == 404
        assert await it.ingest.challenge("generic", "sales", asked) is None


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
