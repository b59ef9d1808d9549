"""What one attempt sends."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Verifier

from worker.domain.catalog import RetiringSecret, Webhook
from worker.domain.contact import Contact
from worker.domain.event import Event, EventType
from worker.domain.ids import DeliveryId, EventKey, InstanceId, TenantId, Token, WebhookId
from worker.domain.record import Record, decode, encode
from worker.event_integration.request import InvalidHeader, PreparedWebhook, header_safe, wants_contact
from worker.event_integration.signing import InvalidSecret
from worker.event_integration.transport import Request

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
RAW = b'{"event": "message.any",  "payload": {"body": "hi"}}'
ID = DeliveryId("msg_ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def record(subtype: str | None = None, instance: str = "acme-sales", content_type: str = "application/json") -> Record:
    event = Event(
        event_key=EventKey("ab" * 32),
        gateway="waha",
        transport="webhook",
        tenant_id=TenantId("acme"),
        instance_id=InstanceId(instance),
        gateway_instance="default",
        type=EventType.RECEIPT,
        subtype=subtype,
        received_at="2026-11-22T07:45:38.300Z",
        raw=RAW,
        raw_content_type=content_type,
    )
    return decode(encode(event))


def webhook(**fields: object) -> Webhook:
    defaults: dict[str, object] = {"secrets": (SECRET,)}
    return Webhook(
        id=WebhookId("crm"),
        tenant_id=TenantId("acme"),
        url="https://crm.example.com/hook",
        **{**defaults, **fields},  # type: ignore[arg-type]
    )


def request(made_for: Webhook, of: Record, *, attempt: int = 1, wall_now_s: float = 1_790_000_000.9) -> Request:
    return PreparedWebhook(made_for).request(of, ID, attempt, Token(1_790_000_000_000_001), wall_now_s)


def test_a_normalized_request_has_every_header_of_the_contract() -> None:
    sent = request(webhook(headers={"Authorization": "Bearer x"}), record(subtype="read"), attempt=3)
    signature = sent.headers["webhook-signature"]
    assert dict(sent.headers) == {
        "user-agent": "whatsapp-event-worker",
        "authorization": "Bearer x",
        "content-type": "application/json",
        "webhook-id": ID,
        "webhook-timestamp": "1790000000",
        "webhook-signature": signature,
        "x-whatsapp-tenant": "acme",
        "x-whatsapp-instance": "acme-sales",
        "x-whatsapp-event": "receipt/read",
        "x-delivery-attempt": "3",
        "x-fencing-token": "1790000000000001",
    }
    assert sent.url == "https://crm.example.com/hook"
    assert json.loads(sent.body)["raw"] == json.loads(RAW)


def test_the_signature_is_of_the_body_that_is_sent() -> None:
    now_s = time.clock_gettime(time.CLOCK_REALTIME)  # the verifier refuses old timestamps by its own clock
    sent = request(webhook(), record(), wall_now_s=now_s)
    assert Verifier(SECRET).verify(sent.body, dict(sent.headers))["event_key"] == "ab" * 32


def test_a_raw_request_carries_the_gateways_bytes_and_content_type() -> None:
    sent = request(webhook(format="raw"), record(content_type="application/json; charset=utf-8"))
    assert sent.body == RAW
    assert sent.headers["content-type"] == "application/json; charset=utf-8"


def test_a_type_without_subtype_stands_alone() -> None:
    assert request(webhook(), record()).headers["x-whatsapp-event"] == "receipt"


def test_each_attempt_is_stamped_and_signed_anew_under_the_same_id() -> None:
    first, second = (request(webhook(), record(), attempt=n, wall_now_s=1_790_000_000.0 + n) for n in (1, 2))
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


def test_a_request_does_not_touch_the_next_one() -> None:
    prepared = PreparedWebhook(webhook())
    first = prepared.request(record("read"), ID, 1, Token(1), 1.0)
    prepared.request(record("played"), ID, 2, Token(2), 2.0)
    assert first.headers["x-whatsapp-event"] == "receipt/read"


def test_a_replaced_secret_signs_beside_its_successor_until_its_time_is_over() -> None:
    old, older = ("whsec_" + base64.b64encode(text.encode() * 24).decode() for text in ("o", "p"))
    rotated = webhook(retiring=(RetiringSecret(secret=older, until_s=100.0), RetiringSecret(secret=old, until_s=200.0)))
    prepared = PreparedWebhook(rotated)

    def signatures(wall_now_s: float) -> list[str]:
        return prepared.request(record(), ID, 1, Token(1), wall_now_s).headers["webhook-signature"].split(" ")

    def alone(secret: str, wall_now_s: float) -> str:
        return request(webhook(secrets=(secret,)), record(), wall_now_s=wall_now_s).headers["webhook-signature"]

    assert signatures(99.9) == [alone(SECRET, 99.9), alone(older, 99.9), alone(old, 99.9)]
    assert signatures(100.0) == [alone(SECRET, 100.0), alone(old, 100.0)]
    assert signatures(200.0) == [alone(SECRET, 200.0)]
    assert PreparedWebhook(rotated).request(record(), ID, 1, Token(1), 300.0).headers["webhook-signature"] == alone(SECRET, 300.0)


def test_without_secrets_there_is_no_signature_header() -> None:
    assert "webhook-signature" not in request(webhook(secrets=()), record()).headers


def test_a_webhook_may_name_its_own_user_agent() -> None:
    assert request(webhook(headers={"User-Agent": "acme"}), record()).headers["user-agent"] == "acme"


@pytest.mark.parametrize("instance", ["a\r\nx-evil: 1", "a\nb", "a\0b", "vendas São Paulo", "販売"])
def test_an_instance_name_cannot_end_its_header(instance: str) -> None:
    value = request(webhook(), record(instance=instance)).headers["x-whatsapp-instance"]
    assert value.isascii()
    assert value.isprintable()


@given(text=st.text(max_size=2000))
def test_every_header_value_is_printable_ascii_and_bounded(text: str) -> None:
    value = header_safe(text)
    assert value.isascii()
    assert value == "" or value.isprintable()
    assert len(value) <= 1024


@given(text=st.text(alphabet="abcXYZ019-_.@/:; ", max_size=100).filter(lambda t: t == t.strip()))
def test_ordinary_names_stay_as_they_are(text: str) -> None:
    assert header_safe(text) == text


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": "x"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"X-Whatsapp-Tenant": "x"},
        {"bad name": "x"},
        {"": "x"},
        {"x-note": "secret\r\nx-evil: 1"},
        {"x-note": "secret ã"},
        {"x-note": "secret" * 2000},
    ],
)
def test_headers_that_cannot_be_sent_are_refused_by_name_without_their_value(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidHeader) as refused:
        PreparedWebhook(webhook(headers=headers))
    assert repr(next(iter(headers))) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_bad_secret_is_refused_when_prepared() -> None:
    with pytest.raises(InvalidSecret):
        PreparedWebhook(webhook(secrets=("nope",)))


def test_repr_shows_neither_url_nor_secret_nor_header() -> None:
    assert repr(PreparedWebhook(webhook(headers={"authorization": "Bearer x"}))) == "<PreparedWebhook crm>"


ANA = Contact(name='Ana "Nina"\u2028', picture_url="https://pps.example.com/a.jpg?oh=1&oe=2")


@pytest.mark.parametrize(
    ("contact", "told"),
    [
        (ANA, {"name": ANA.name, "picture_url": ANA.picture_url}),
        (Contact(name="Ana"), {"name": "Ana", "picture_url": None}),
        (None, None),
    ],
)
def test_a_webhook_that_wants_contacts_gets_one_field_more_at_the_end(contact: Contact | None, told: object) -> None:
    now_s = time.clock_gettime(time.CLOCK_REALTIME)
    plain = request(webhook(), record())
    sent = PreparedWebhook(webhook(enrich_contact=True)).request(record(), ID, 1, Token(1), now_s, contact)
    assert sent.body.startswith(plain.body[:-1] + b',"contact":')
    assert json.loads(sent.body) == {**json.loads(plain.body), "contact": told}
    assert Verifier(SECRET).verify(sent.body, dict(sent.headers))["contact"] == told


@pytest.mark.parametrize("fields", [{}, {"format": "raw"}, {"format": "raw", "enrich_contact": True}])
def test_nobody_else_is_told_of_a_contact(fields: dict[str, object]) -> None:
    with_it = PreparedWebhook(webhook(**fields)).request(record(), ID, 1, Token(1), 1.0, ANA)
    assert with_it == PreparedWebhook(webhook(**fields | {"enrich_contact": False})).request(record(), ID, 1, Token(1), 1.0)


def test_only_a_normalized_body_has_room_for_a_contact() -> None:
    assert wants_contact(webhook(enrich_contact=True))
    assert not wants_contact(webhook(enrich_contact=True, format="raw"))
    assert not wants_contact(webhook())
