"""wuzapi's and baileys-acessuswpp's adapters against what those gateways' documents and sources show, word for word.

Telephone numbers, names and tokens are replaced by invented ones.
"""

from __future__ import annotations

import hmac

import orjson
import pytest

from tests.contract.canned_broker import DOT, PUSH, saying
from worker.instances.broker import AlreadyExists, BrokerCause, BrokerFailure, BrokerInstance, InstanceStatus, NoSuchInstance, NotConnected

pytestmark = pytest.mark.anyio

# ─── wuzapi ───

WUZAPI_ROW = """{"id": 1, "name": "admin", "token": "SAMPLE-TOKEN-NOT-A-SECRET", "webhook": "https://example.com/webhook", "jid":
 "5511900000002@s.whatsapp.net", "qrcode": "", "connected": true, "expiration": 0, "events": "Message,ReadReceipt"}"""
"""API.md, "List All Users"; the source adds `loggedIn` and an envelope."""
NO_SESSION = '{"code":500,"error":"No session","success":false}'
NO_SESSION_NOW = '{"code":500,"error":"no session","success":false}'
DONE = '{"code":200,"data":{"Details":"Logged out"},"success":true}'
CONNECTED = """{"code":200,"data":{"details":"Connected!","events":"Message","jid":"5511900000003.0:52@s.whatsapp.net","webhook":
 "http://some.site/webhook?token=123456"},"success":true}"""


def token_of(name: str) -> str:
    """What makes a second create of ours meet its own user: derived from the admin's key and the name, for ever."""
    return hmac.digest(b"the-key", f"whatsapp-worker user {name}".encode(), "sha256").hex()


def listed(**changes: object) -> str:
    return orjson.dumps({"code": 200, "data": [orjson.loads(WUZAPI_ROW) | changes], "success": True}).decode()


async def test_wuzapi_lists_users_with_an_envelope_and_without() -> None:
    """Before there was `loggedIn`, `connected` said both."""
    connected = BrokerInstance(name="admin", status=InstanceStatus.CONNECTED, phone_number="5511900000002")
    for said in (f"[{WUZAPI_ROW}]", listed(loggedIn=True)):
        async with saying("wuzapi", {"GET /admin/users": (200, said)}) as (broker, canned):
            assert await broker.instances() == [connected]
        assert canned.asked[0].headers["Authorization"] == "the-key"
        assert "token" not in canned.asked[0].headers


@pytest.mark.parametrize(
    ("connected", "logged_in", "status", "phone"),
    [
        (True, True, InstanceStatus.CONNECTED, "5511900000002"),
        (True, False, InstanceStatus.QR_REQUIRED, None),
        (False, False, InstanceStatus.DISCONNECTED, None),
    ],
)
async def test_wuzapi_says_who_it_is_only_of_one_that_is_logged_in(
    connected: bool, logged_in: bool, status: InstanceStatus, phone: str | None
) -> None:
    said = listed(connected=connected, loggedIn=logged_in, jid="5511900000002.0:52@s.whatsapp.net")
    async with saying("wuzapi", {"GET /admin/users": (200, said)}) as (broker, _):
        assert await broker.status("admin") == BrokerInstance(name="admin", status=status, phone_number=phone)


@pytest.mark.parametrize(
    ("code", "said"), [(200, '{"id": 2}'), (201, '{"code":201,"data":{"id":"f2a9c1","name":"acme-1"},"success":true}')]
)
async def test_wuzapi_makes_a_user_with_a_token_of_ours_and_starts_it(code: int, said: str) -> None:
    answers = {"POST /admin/users": (code, said), "POST /session/connect": (200, CONNECTED)}
    async with saying("wuzapi", answers) as (broker, canned):
        assert await broker.create("acme-1", PUSH) == BrokerInstance(name="acme-1", status=InstanceStatus.CONNECTING)
    made, started = canned.asked
    assert made.body == {"name": "acme-1", "token": token_of("acme-1"), "webhook": PUSH.url, "events": "All", "hmacKey": PUSH.secret}
    assert started.body == {"Subscribe": ["All"], "Immediate": True}
    assert started.headers["token"] == token_of("acme-1")
    assert "Authorization" not in started.headers, "the admin's key is for the admin's paths"


@pytest.mark.parametrize("said", ["User with the same token already exists", "user with this token already exists"])
async def test_wuzapi_has_our_user_already_and_starts_it_where_that_was_left_undone(said: str) -> None:
    answers = {
        "POST /admin/users": (409, f'{{"code":409,"error":"{said}","success":false}}'),
        "POST /session/connect": (500, '{"code":500,"error":"Already Connected","success":false}'),
    }
    async with saying("wuzapi", answers) as (broker, canned):
        with pytest.raises(AlreadyExists):
            await broker.create("acme-1", None)
    assert [asked.path for asked in canned.asked] == ["/admin/users", "/session/connect"]


async def test_wuzapi_finds_a_strangers_user_by_its_name_and_remembers_its_token() -> None:
    """`saying` has one answer for each path: it cannot refuse the first token. The fake can."""
    from worker.adapters.brokers import open_broker
    from worker.fake_gateway.server import Plan, fake_gateway
    from worker.instances.broker import BrokerConfig

    async with fake_gateway(Plan(gateway="wuzapi")) as fake:
        stranger = fake.instances.make("theirs")
        stranger.token = "a-token-that-they-chose"
        broker = open_broker(BrokerConfig(id="main", gateway="wuzapi", url=fake.url, api_key=fake.api_key))
        fake.pair("theirs")
        for _ in range(3):
            assert await broker.picture("theirs", "5511900000001@s.whatsapp.net") is not None
        assert fake.requests["GET /admin/users"] == 1
        stranger.token = "another-one"
        assert await broker.picture("theirs", "5511900000001@s.whatsapp.net") is not None
        await broker.delete("theirs")
        assert not fake.instances
        await broker.close()


async def test_wuzapi_gives_the_code_as_a_picture() -> None:
    said = f'{{"code":200,"data":{{"QRCode":"data:image/png;base64,{DOT}"}},"success":true}}'
    async with saying("wuzapi", {"GET /session/qr": (200, said)}) as (broker, _):
        code = await broker.qr("acme-1")
    assert code is not None
    assert code.text is None
    assert (code.png or b"").startswith(b"\x89PNG")


@pytest.mark.parametrize("said", ["Already Loggedin", "already logged in", "Not connected", "not connected"])
async def test_wuzapi_has_no_code(said: str) -> None:
    async with saying("wuzapi", {"GET /session/qr": (500, f'{{"code":500,"error":"{said}","success":false}}')}) as (broker, _):
        assert await broker.qr("acme-1") is None


async def test_wuzapi_has_not_written_the_code_yet() -> None:
    async with saying("wuzapi", {"GET /session/qr": (200, '{"code":200,"data":{"QRCode":""},"success":true}')}) as (broker, _):
        assert await broker.qr("acme-1") is None


@pytest.mark.parametrize("said", [NO_SESSION, NO_SESSION_NOW])
async def test_wuzapi_is_started_by_whoever_asks_for_a_code(said: str) -> None:
    answers = {"GET /session/qr": (500, said), "POST /session/connect": (200, CONNECTED)}
    async with saying("wuzapi", answers) as (broker, canned):
        assert await broker.qr("acme-1") is None
    assert canned.asked[-1].path == "/session/connect"


@pytest.mark.parametrize(
    ("code", "said"),
    [(200, DONE), (500, NO_SESSION), (500, NO_SESSION_NOW), (500, '{"code":500,"error":"Could not logout as it was not logged in"}')],
)
async def test_wuzapi_is_logged_out_or_was(code: int, said: str) -> None:
    async with saying("wuzapi", {"POST /session/logout": (code, said)}) as (broker, _):
        await broker.disconnect("acme-1")


@pytest.mark.parametrize(
    "said",
    ['{"Details": "User deleted successfully"}', '{"code":200,"data":{"id":"1"},"details":"User deleted successfully","success":true}'],
)
async def test_wuzapi_is_deleted_by_its_number_after_it_was_logged_out(said: str) -> None:
    answers = {
        "GET /admin/users": (200, listed(name="acme-1")),
        "POST /session/logout": (200, DONE),
        "DELETE /admin/users/1": (200, said),
    }
    async with saying("wuzapi", answers) as (broker, canned):
        await broker.delete("acme-1")
    assert [f"{asked.method} {asked.path}" for asked in canned.asked] == list(answers)
    assert canned.asked[1].headers["token"] == "SAMPLE-TOKEN-NOT-A-SECRET"


@pytest.mark.parametrize(
    "said", ['{"code":500,"error":"x","success":false}', '{"code":500,"success":true}', '{"success":false,"Details":"x","id":1}']
)
async def test_wuzapi_contradicts_the_status_of_its_answer(said: str) -> None:
    answers = {"GET /admin/users": (200, listed(name="acme-1")), "POST /session/logout": (200, DONE), "DELETE /admin/users/1": (200, said)}
    async with saying("wuzapi", {**answers, "POST /admin/users": (200, said)}) as (broker, _):
        for change in (broker.delete("acme-1"), broker.create("acme-2", None)):
            with pytest.raises(BrokerFailure) as caught:
                await change
            assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.PROTOCOL, False)


@pytest.mark.parametrize("said", ["{}", '{"code":200,"success":true}', '{"data":null}', "null"])
async def test_wuzapi_without_a_list_has_not_said_that_a_user_is_gone(said: str) -> None:
    async with saying("wuzapi", {"GET /admin/users": (200, said)}) as (broker, _):
        for question in (broker.delete("acme-1"), broker.status("acme-1"), broker.instances()):
            with pytest.raises(BrokerFailure) as caught:
                await question
            assert caught.value.cause is BrokerCause.PROTOCOL


@pytest.mark.parametrize(
    ("code", "said", "found"),
    [
        (
            200,
            '{"code":200,"data":{"URL":"https://pps.example.com/a.jpg","ID":"1645308319","Type":"image"},"success":true}',
            "https://pps.example.com/a.jpg",
        ),
        (
            200,
            '{"URL":"https://pps.example.com/a.jpg","ID":"1645308319","Type":"preview","DirectPath":"/v/a.jpg"}',
            "https://pps.example.com/a.jpg",
        ),
        (500, '{"code":500,"error":"No avatar found","success":false}', None),
        (500, '{"code":500,"error":"Failed to get avatar: that user or group does not have a profile picture"}', None),
        (500, '{"code":500,"error":"Failed to get avatar: the user has hidden their profile picture from you"}', None),
    ],
)
async def test_wuzapi_has_a_picture_or_may_not_show_it(code: int, said: str, found: str | None) -> None:
    async with saying("wuzapi", {"POST /user/avatar": (code, said)}) as (broker, canned):
        assert await broker.picture("acme-1", "5511900000004@c.us") == found
    assert canned.asked[0].body == {"Phone": "5511900000004@s.whatsapp.net", "Preview": False}


@pytest.mark.parametrize(
    "said",
    [
        "No session",
        "Failed to get avatar: websocket not connected",
        "Failed to get avatar: the store doesn't contain a device: not logged in",
    ],
)
async def test_wuzapi_can_ask_nobody_for_a_picture(said: str) -> None:
    async with saying("wuzapi", {"POST /user/avatar": (500, orjson.dumps({"code": 500, "error": said}).decode())}) as (broker, _):
        with pytest.raises(NotConnected):
            await broker.picture("acme-1", "5511900000004@c.us")


async def test_wuzapi_cannot_reach_its_database() -> None:
    said = '{"code":500,"error":"Problem accessing DB","success":false}'
    async with saying("wuzapi", {"GET /admin/users": (500, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.instances()
    assert (caught.value.cause, caught.value.broker_code) == (BrokerCause.STORAGE, "Problem accessing DB")


async def test_wuzapi_wants_a_longer_secret() -> None:
    said = '{"code":400,"error":"HMAC key must be at least 32 characters long","success":false}'
    async with saying("wuzapi", {"POST /admin/users": (400, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.create("acme-1", PUSH)
    assert (caught.value.broker_code, caught.value.is_certain) == ("HMAC key must be at least 32 characters long", True)


# ─── baileys-acessuswpp ───

SNAPSHOT = """{"id":"inst-1","name":"Minha Instancia","connected":true,"connectionState":"open","connectionUpdatedAt":
 "2026-11-22T07:45:38.120Z","connectionStateDetail":null,"user":{"id":"5511900000001:12@s.whatsapp.net","lid":"100000000000001:12@lid",
 "name":"Sample"},"qrVersion":3,"hasLastQr":true,"qrReceivedAt":null,"qrExpiresAt":null,"pairingAttempts":0,"lastError":null,
 "hasStoredPhone":false,"note":"","network":{"proxyUrl":"http://user:pass@host:1"},"pairedAt":1730000000000,"queue":{"enabled":false}}"""
"""docs/api-reference.md, "InstanceSnapshot", in the types of its source."""
OFFLINE = '{"error":"instance_offline","state":"close","updatedAt":"2026-11-22T07:45:38.120Z"}'
UNKNOWN = '{"error":"instance_not_found"}'


def snapshot(**changes: object) -> str:
    return orjson.dumps(orjson.loads(SNAPSHOT) | changes).decode()


async def test_baileys_is_well() -> None:
    said = """{"status":"ok","uptime":123.45,"instances":[{"id":"inst-1","connected":true,"connectionState":"open"}],
 "queue":{"pending":0,"total":0,"lastEventAt":null,"lastAckAt":null},"proxyMetrics":{"total":0,"ok":0,"blocked":0,"failed":0}}"""
    async with saying("baileys", {"GET /health": (200, said)}) as (broker, _):
        await broker.health()


async def test_baileys_lists_instances() -> None:
    async with saying("baileys", {"GET /instances": (200, f"[{SNAPSHOT}]")}) as (broker, canned):
        assert await broker.instances() == [
            BrokerInstance(
                name="inst-1",
                status=InstanceStatus.CONNECTED,
                phone_number="5511900000001",
                profile_name="Sample",
                last_activity="2026-11-22T07:45:38.120Z",
            )
        ]
    assert canned.asked[0].headers["X-API-Key"] == "the-key"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (snapshot(connectionState="close", user=None), InstanceStatus.DISCONNECTED),
        (snapshot(connectionState="qr_timeout", user=None), InstanceStatus.QR_REQUIRED),
        (snapshot(connectionState="connecting", user=None, hasLastQr=True), InstanceStatus.QR_REQUIRED),
        (snapshot(connectionState="connecting", user=None, hasLastQr=False), InstanceStatus.CONNECTING),
        (snapshot(connectionState="connecting", user=None, hasLastQr=False, pairedAt=None), InstanceStatus.QR_REQUIRED),
        (snapshot(connectionState="a word of tomorrow"), InstanceStatus.UNKNOWN),
    ],
)
async def test_baileys_has_its_words_for_a_status(said: str, status: InstanceStatus) -> None:
    async with saying("baileys", {"GET /instances/inst-1": (200, said)}) as (broker, _):
        assert (await broker.status("inst-1")).status is status


async def test_baileys_makes_an_instance() -> None:
    said = """{"id":"acme-1","name":"acme-1","dir":"...","metadata":{"note":"","createdAt":"ISO","updatedAt":"ISO","revisions":[]}}"""
    async with saying("baileys", {"POST /instances": (200, said)}) as (broker, canned):
        assert await broker.create("acme-1", PUSH) == BrokerInstance(name="acme-1", status=InstanceStatus.CONNECTING)
    assert canned.asked[0].body == {"name": "acme-1"}


async def test_baileys_has_the_instance_already() -> None:
    async with saying("baileys", {"POST /instances": (409, '{"error":"instance_exists"}')}) as (broker, _):
        with pytest.raises(AlreadyExists):
            await broker.create("acme-1", None)


async def test_baileys_shows_no_code_of_one_that_is_connected_though_it_keeps_the_last() -> None:
    async with saying("baileys", {"GET /instances/inst-1": (200, SNAPSHOT)}) as (broker, canned):
        assert await broker.qr("inst-1") is None
    assert len(canned.asked) == 1


async def test_baileys_says_that_it_is_done() -> None:
    answers = {
        "POST /instances/inst-1/logout": (200, '{"ok":true,"message":"Sessão desconectada. Um novo QR aparecerá em breve."}'),
        "DELETE /instances/inst-1": (200, '{"ok":true,"message":"Instância removida permanentemente."}'),
    }
    async with saying("baileys", answers) as (broker, canned):
        await broker.disconnect("inst-1")
        await broker.delete("inst-1")
    assert len(canned.asked) == 2


async def test_baileys_logs_out_and_wipes_what_is_offline() -> None:
    answers = {
        "POST /instances/inst-1/logout": (503, OFFLINE),
        "POST /instances/inst-1/session/wipe": (202, '{"ok":true,"message":"Sessão reiniciando. O QR será regenerado em instantes."}'),
    }
    async with saying("baileys", answers) as (broker, canned):
        await broker.disconnect("inst-1")
    assert [f"{asked.method} {asked.path}" for asked in canned.asked] == list(answers)


async def test_baileys_does_not_know_an_instance() -> None:
    answers = {
        "GET /instances/nobody": (404, UNKNOWN),
        "POST /instances/nobody/logout": (404, UNKNOWN),
        "DELETE /instances/nobody": (404, UNKNOWN),
    }
    async with saying("baileys", answers) as (broker, _):
        for call in (broker.status, broker.qr, broker.disconnect):
            with pytest.raises(NoSuchInstance):
                await call("nobody")
        await broker.delete("nobody")


async def test_baileys_keeps_its_default_instance() -> None:
    said = '{"error":"default_instance_cannot_be_deleted"}'
    async with saying("baileys", {"DELETE /instances/default": (400, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.delete("default")
    assert (caught.value.broker_code, caught.value.is_certain) == ("default_instance_cannot_be_deleted", True)


@pytest.mark.parametrize(
    ("contact", "number", "found"),
    [("5511900000001@s.whatsapp.net", "5511900000001", "https://pps.example.com/a.jpg"), ("100000000000001@lid", "0", None)],
)
async def test_baileys_can_be_asked_about_telephone_numbers_only(contact: str, number: str, found: str | None) -> None:
    path = f"GET /instances/inst-1/profile-pic?number={number}"
    async with saying("baileys", {path: (200, '{"profilePicUrl":"https://pps.example.com/a.jpg"}')}) as (broker, _):
        assert await broker.picture("inst-1", contact) == found


async def test_baileys_can_ask_nobody_for_a_picture() -> None:
    async with saying("baileys", {"GET /instances/inst-1/profile-pic?number=5511900000001": (503, OFFLINE)}) as (broker, _):
        with pytest.raises(NotConnected):
            await broker.picture("inst-1", "5511900000001@c.us")


async def test_baileys_pauses_what_it_thinks_is_a_risk() -> None:
    said = '{"error":"risk_paused","message":"Envios pausados por risco elevado"}'
    async with saying("baileys", {"POST /instances": (429, said)}) as (broker, _):
        with pytest.raises(BrokerFailure) as caught:
            await broker.create("acme-1", None)
    assert (caught.value.cause, caught.value.broker_code) == (BrokerCause.RATE_LIMITED, "risk_paused")
