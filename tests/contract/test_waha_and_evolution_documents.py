"""The adapters against what the gateways' own documents and sources show, word for word: no fake of ours stands between.

Each answer is a document's or an issue's example, with telephone numbers, names and tokens replaced by invented ones.
"""

from __future__ import annotations

import orjson
import pytest

from tests.contract.canned_broker import DOT, PUSH, saying
from worker.instances.broker import (
    AlreadyExists,
    BrokerCause,
    BrokerFailure,
    BrokerInstance,
    InstanceStatus,
    NoSuchInstance,
    NotConnected,
    QrCode,
)

pytestmark = pytest.mark.anyio

# ─── WAHA ───

WAHA_SESSION = """{"name": "default", "status": "WORKING", "config": {"proxy": null, "webhooks": [{"url":
 "https://webhook.site/11111111-1111-1111-1111-11111111", "events": ["message", "session.status"], "hmac": null, "retries": null,
 "customHeaders": null}], "debug": false}, "me": {"id": "79111111@c.us", "pushName": "WAHA"}, "engine": {"engine": "NOWEB"}}"""
"""Its page "Sessions": list, and get."""
WAHA_500 = """{"statusCode":500,"timestamp":"2024-06-14T15:56:41.070Z","exception":{"stack":"Error: not-authorized\\n at","message":
 "not-authorized","data":401,"isBoom":true,"isServer":true,"output":{},"name":"Error"},"request":{"path":"/api/contacts/profile-picture",
 "method":"GET","body":{},"query":{}},"version":{"version":"2024.6.3","engine":"NOWEB","tier":"PLUS","browser":"/usr/bin/chromium"}}"""
"""devlikeapro/waha#381."""
WAHA_NOT_SCANNING = """{"error": "Session status is not as expected. Try again later or restart the session", "session": "default",
 "status": "STOPPED", "expected": ["WORKING"]}"""
WAHA_PICTURE = "GET /api/contacts/profile-picture?contactId=11231231231@c.us&session=default"


async def test_waha_lists_sessions_the_stopped_ones_too() -> None:
    async with saying("waha", {"GET /api/sessions?all=true": (200, f"[{WAHA_SESSION}]")}) as (broker, canned):
        assert await broker.instances() == [
            BrokerInstance(name="default", status=InstanceStatus.CONNECTED, phone_number="79111111", profile_name="WAHA")
        ]
    assert canned.asked[0].headers["X-Api-Key"] == "the-key"


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("STOPPED", InstanceStatus.DISCONNECTED),
        ("STARTING", InstanceStatus.CONNECTING),
        ("SCAN_QR_CODE", InstanceStatus.QR_REQUIRED),
        ("WORKING", InstanceStatus.CONNECTED),
        ("FAILED", InstanceStatus.FAILED),
        ("A_WORD_OF_TOMORROW", InstanceStatus.UNKNOWN),
    ],
)
async def test_waha_has_its_words_for_a_status(word: str, status: InstanceStatus) -> None:
    said = WAHA_SESSION.replace("WORKING", word)
    async with saying("waha", {"GET /api/sessions/default": (200, said)}) as (broker, _):
        assert (await broker.status("default")).status is status


async def test_waha_is_told_where_to_push_and_how_to_sign() -> None:
    made = '{"name": "acme-1", "status": "STARTING", "engine": {"engine": "WEBJS"}, "config": {}, "me": null}'
    async with saying("waha", {"POST /api/sessions": (201, made)}) as (broker, canned):
        assert await broker.create("acme-1", PUSH) == BrokerInstance(name="acme-1", status=InstanceStatus.CONNECTING)
    body = canned.asked[0].body
    webhook = body["config"]["webhooks"][0]
    assert (body["name"], body["start"], webhook["url"], webhook["hmac"]) == ("acme-1", True, PUSH.url, {"key": PUSH.secret})
    assert {"session.status", "message.any", "message.ack"} <= set(webhook["events"])
    assert "message" not in webhook["events"], "each message would come twice"


async def test_waha_has_the_session_already() -> None:
    said = """{"message":"Session 'acme-1' already exists. Use PUT to update it.","error":"Unprocessable Entity","statusCode":422}"""
    async with saying("waha", {"POST /api/sessions": (422, said)}) as (broker, _):
        with pytest.raises(AlreadyExists):
            await broker.create("acme-1", None)


async def test_waha_core_has_one_session_only_and_that_is_a_quota() -> None:
    said = """{"message":"WAHA Core support only 'default' session. If you want to run more then one WhatsApp account - please get WAHA PLUS
 version. Check this out: https://waha.devlike.pro/","error":"Unprocessable Entity","statusCode":422}""".replace("\n", "")
    async with saying("waha", {"POST /api/sessions": (422, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.create("acme-1", None)
    assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.QUOTA, True)


async def test_waha_gives_the_code_as_text() -> None:
    answers = {
        "GET /api/sessions/default": (200, WAHA_SESSION.replace("WORKING", "SCAN_QR_CODE")),
        "GET /api/default/auth/qr?format=raw": (200, '{"value": "value-that-you-need-to-use-to-generate-qr-code"}'),
    }
    async with saying("waha", answers) as (broker, _):
        assert await broker.qr("default") == QrCode("value-that-you-need-to-use-to-generate-qr-code", None)


@pytest.mark.parametrize("status", [200, 204])
async def test_waha_deletes_without_a_word_and_shows_the_session_that_it_logged_out(status: int) -> None:
    answers = {"DELETE /api/sessions/default": (status, ""), "POST /api/sessions/default/logout": (201, WAHA_SESSION)}
    async with saying("waha", answers) as (broker, canned):
        await broker.disconnect("default")
        await broker.delete("default")
    assert len(canned.asked) == 2


@pytest.mark.parametrize(
    ("status", "said", "found"),
    [
        (200, '{"profilePictureURL": "https://example.com/profile.jpg"}', "https://example.com/profile.jpg"),
        (200, '{"profilePictureURL": null}', None),
        (500, WAHA_500, None),
    ],
)
async def test_waha_has_a_picture_or_may_not_show_it(status: int, said: str, found: str | None) -> None:
    async with saying("waha", {WAHA_PICTURE: (status, said)}) as (broker, _):
        assert await broker.picture("default", "11231231231@s.whatsapp.net") == found


async def test_waha_says_that_a_session_is_not_working() -> None:
    async with saying("waha", {WAHA_PICTURE: (422, WAHA_NOT_SCANNING)}) as (broker, _):
        with pytest.raises(NotConnected):
            await broker.picture("default", "11231231231@c.us")


async def test_waha_is_warned_by_whatsapp_of_too_many_questions() -> None:
    async with saying("waha", {WAHA_PICTURE: (500, WAHA_500.replace("not-authorized", "rate-overlimit"))}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.picture("default", "11231231231@c.us")
    assert caught.value.cause is BrokerCause.RATE_LIMITED


async def test_waha_that_stops_is_not_well() -> None:
    async with saying("waha", {"GET /health": (503, '{"status": "shutting_down", "info": {}, "error": {}, "details": {}}')}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.health()
    assert (caught.value.cause, caught.value.status) == (BrokerCause.SERVICE_UNAVAILABLE, 503)


async def test_no_cookie_and_nothing_compressed_whatever_a_broker_wishes() -> None:
    async with saying("waha", {"GET /api/sessions?all=true": (200, "[]")}) as (broker, canned):
        for _ in range(2):
            await broker.instances()
    assert all("Cookie" not in asked.headers and asked.headers["Accept-Encoding"] == "identity" for asked in canned.asked)


@pytest.mark.parametrize("path", ["/behind/a%20proxy", "/behind/a%20proxy/", "/behind/a%20proxy?of=theirs"])
async def test_a_broker_may_stand_below_a_path(path: str) -> None:
    async with saying("waha", {"GET /behind/a%20proxy/api/sessions/a%2Fb": (200, WAHA_SESSION)}, path) as (broker, _):
        assert (await broker.status("a/b")).name == "default"


# ─── Evolution API ───

EVOLUTION_ROW = """{"id":"421a4121-a3d9-40cc-a8db-c3a1df353126","name":"acme-1","connectionStatus":"open","ownerJid":
 "5511900000001@s.whatsapp.net","profileName":"Sample","profilePicUrl":null,"integration":"WHATSAPP-BAILEYS","number":null,"businessId":null,
 "token":"SAMPLE-TOKEN-NOT-A-SECRET","clientName":"evolution","disconnectionReasonCode":null,"disconnectionObject":null,
 "disconnectionAt":null,"createdAt":"2026-11-20T10:00:00.000Z","updatedAt":"2026-11-22T07:45:38.120Z","Chatwoot":null,"Proxy":null,
 "Setting":null,"_count":{"Message":1,"Contact":2,"Chat":3}}"""
"""The columns of its table `Instance`, and what `fetchInstances` includes."""
EVOLUTION_DOCUMENT = """[{"instance":{"instanceName":"example-name","instanceId":"421a4121-a3d9-40cc-a8db-c3a1df353126","owner":
 "5511900000001@s.whatsapp.net","profileName":"Sample","profilePictureUrl":null,"profileStatus":"","status":"open","serverUrl":
 "https://example.evolution-api.com","apikey":"SAMPLE-TOKEN-NOT-A-SECRET"}}]"""
"""Its OpenAPI document, `GET /instance/fetchInstances`."""


async def test_evolution_lists_instances_in_both_shapes() -> None:
    async with saying("evolution", {"GET /instance/fetchInstances": (200, f"[{EVOLUTION_ROW}]")}) as (broker, canned):
        assert await broker.instances() == [
            BrokerInstance(
                name="acme-1",
                status=InstanceStatus.CONNECTED,
                phone_number="5511900000001",
                profile_name="Sample",
                last_activity="2026-11-22T07:45:38.120Z",
            )
        ]
    assert canned.asked[0].headers["apikey"] == "the-key"
    async with saying("evolution", {"GET /instance/fetchInstances": (200, EVOLUTION_DOCUMENT)}) as (broker, _):
        assert [(i.name, i.status, i.phone_number) for i in await broker.instances()] == [
            ("example-name", InstanceStatus.CONNECTED, "5511900000001")
        ]


@pytest.mark.parametrize(
    ("word", "owner", "status"),
    [
        ("close", "null", InstanceStatus.DISCONNECTED),
        ("connecting", "null", InstanceStatus.QR_REQUIRED),
        ("connecting", '"5511900000001@s.whatsapp.net"', InstanceStatus.CONNECTING),
        ("open", '"5511900000001@s.whatsapp.net"', InstanceStatus.CONNECTED),
    ],
)
async def test_evolution_has_its_words_for_a_status(word: str, owner: str, status: InstanceStatus) -> None:
    row = orjson.loads(EVOLUTION_ROW) | {"connectionStatus": word, "ownerJid": orjson.loads(owner)}
    path = "GET /instance/fetchInstances?instanceName=acme-1"
    async with saying("evolution", {path: (200, orjson.dumps([row]).decode())}) as (broker, _):
        assert (await broker.status("acme-1")).status is status


async def test_evolution_is_told_where_to_push_and_how_to_sign() -> None:
    made = """{"instance":{"instanceName":"acme-1","instanceId":"421a4121-a3d9-40cc-a8db-c3a1df353126","integration":"WHATSAPP-BAILEYS",
 "webhookWaBusiness":null,"accessTokenWaBusiness":"","status":"connecting"},"hash":"SAMPLE-TOKEN-NOT-A-SECRET","webhook":{},"websocket":{},
 "rabbitmq":{},"nats":{},"sqs":{},"settings":{"rejectCall":false},"qrcode":{"pairingCode":null,"code":"2@x","base64":"data:","count":1}}"""
    async with saying("evolution", {"POST /instance/create": (201, made)}) as (broker, canned):
        assert await broker.create("acme-1", PUSH) == BrokerInstance(name="acme-1", status=InstanceStatus.QR_REQUIRED)
    body = canned.asked[0].body
    assert (body["instanceName"], body["integration"], body["qrcode"]) == ("acme-1", "WHATSAPP-BAILEYS", True)
    webhook = body["webhook"]
    assert (webhook["url"], webhook["headers"]) == (PUSH.url, {"jwt_key": PUSH.secret})
    assert {"MESSAGES_UPSERT", "MESSAGES_UPDATE", "CONNECTION_UPDATE", "QRCODE_UPDATED"} <= set(webhook["events"])


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, """{"status":403,"error":"Forbidden","response":{"message":["This name \\"acme-1\\" is already in use."]}}"""),
        (
            400,
            """{"status":400,"error":"Bad Request","response":{"message":["Invalid `prisma.instance.create()` invocation: Unique constraint
 failed on the fields: (`name`)"]}}""".replace("\n", ""),
        ),
    ],
)
async def test_evolution_has_the_instance_already(status: int, said: str) -> None:
    async with saying("evolution", {"POST /instance/create": (status, said)}) as (broker, _):
        with pytest.raises(AlreadyExists):
            await broker.create("acme-1", None)


async def test_evolution_cannot_reach_its_database() -> None:
    said = """{"status":500,"error":"Internal Server Error","response":{"message":"Can't reach database server at `postgres:5432`"}}"""
    async with saying("evolution", {"GET /instance/fetchInstances": (500, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.instances()
    assert (caught.value.cause, caught.value.broker_code) == (BrokerCause.STORAGE, "Internal Server Error")


async def test_evolution_gives_the_code_as_text_and_as_a_picture() -> None:
    said = f'{{"pairingCode":"WZYEH1YY","code":"2@y8eK","base64":"data:image/png;base64,{DOT}","count":1}}'
    async with saying("evolution", {"GET /instance/connect/acme-1": (200, said)}) as (broker, _):
        code = await broker.qr("acme-1")
    assert code is not None
    assert code.text == "2@y8eK"
    assert (code.png or b"").startswith(b"\x89PNG")


@pytest.mark.parametrize("said", ['{"instance":{"instanceName":"acme-1","state":"open"}}', '{"count":0}', "{}"])
async def test_evolution_has_no_code(said: str) -> None:
    async with saying("evolution", {"GET /instance/connect/acme-1": (200, said)}) as (broker, _):
        assert await broker.qr("acme-1") is None


async def test_evolution_hides_a_failure_in_a_success() -> None:
    said = '{"error":true,"message":"Error: something of its own"}'
    async with saying("evolution", {"GET /instance/connect/acme-1": (200, said)}) as (broker, _):
        with pytest.raises(BrokerFailure):
            await broker.qr("acme-1")


async def test_evolution_logs_out_what_is_not_connected() -> None:
    said = """{"status":400,"error":"Bad Request","response":{"message":["The \\"acme-1\\" instance is not connected"]}}"""
    async with saying("evolution", {"DELETE /instance/logout/acme-1": (400, said)}) as (broker, _):
        await broker.disconnect("acme-1")


async def test_evolution_says_that_it_is_done() -> None:
    """Its `instance.controller.ts`."""
    said = """{"status":"SUCCESS","error":false,"response":{"message":"Instance logged out"}}"""
    answers = {f"DELETE /instance/{verb}/acme-1": (200, said) for verb in ("logout", "delete")}
    async with saying("evolution", answers) as (broker, canned):
        await broker.disconnect("acme-1")
        await broker.delete("acme-1")
    assert len(canned.asked) == 2


@pytest.mark.parametrize("verb", ["logout", "delete"])
async def test_evolution_hides_a_failure_of_a_change_in_a_success(verb: str) -> None:
    said = """{"status":"SUCCESS","error":true,"response":{"message":"something of its own"}}"""
    async with saying("evolution", {f"DELETE /instance/{verb}/acme-1": (200, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await {"logout": broker.disconnect, "delete": broker.delete}[verb]("acme-1")
    assert not caught.value.is_certain


async def test_evolution_does_not_know_an_instance() -> None:
    said = """{"status":404,"error":"Not Found","response":{"message":["The \\"acme-1\\" instance does not exist"]}}"""
    answers = {f"DELETE /instance/{verb}/acme-1": (404, said) for verb in ("logout", "delete")}
    async with saying("evolution", answers) as (broker, _):
        with pytest.raises(NoSuchInstance):
            await broker.disconnect("acme-1")
        await broker.delete("acme-1")
