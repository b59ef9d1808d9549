"""The demo's events are what its three gateways really send: each body decodes into one event of its own instance."""

from __future__ import annotations

import random

from worker.demo import DemoGateway, with_demo
from worker.domain.catalog import Catalog
from worker.domain.event import EventType
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.gateways import cloud_api, generic, waha
from worker.gateways.port import Push

DECODERS = {"generic": generic.decode, "waha": waha.decode, "cloud-api": cloud_api.decode}


def test_every_demo_body_is_one_message_or_receipt_of_a_demo_instance() -> None:
    catalog = with_demo(Catalog([], [], []), "http://127.0.0.1:8080")
    gateway = DemoGateway(random.Random(7))
    seen = set()
    for _ in range(60):
        name, body = gateway.next_push()
        (event,) = DECODERS[name](Push(headers={"content-type": "application/json"}, body=body))
        assert event.type in {EventType.MESSAGE, EventType.RECEIPT}
        instance = catalog.instances[InstanceId(f"demo-{name}")]
        assert event.gateway_instance in {None, instance.gateway_instance}
        seen.add((name, event.type))
    assert seen == {(name, EventType.MESSAGE) for name in DECODERS} | {("cloud-api", EventType.RECEIPT)}


def test_no_two_demo_events_carry_the_same_message_id() -> None:
    gateway = DemoGateway(random.Random(7))
    ids = [
        event.message_ids
        for name, body in (gateway.next_push() for _ in range(300))
        for event in DECODERS[name](Push(headers={}, body=body))
    ]
    assert len(set(ids)) == 300


def test_the_slow_and_the_failing_receiver_are_asked_no_more_than_they_can_take() -> None:
    catalog = with_demo(Catalog([], [], []), "http://127.0.0.1:8080")
    wanted = {str(instance): [str(webhook.id) for webhook in catalog.webhooks_of(instance)] for instance in catalog.instances}
    assert wanted == {
        "demo-generic": ["demo-fast", "demo-slow", "demo-failing"],
        "demo-waha": ["demo-fast", "demo-slow"],
        "demo-cloud-api": ["demo-fast", "demo-slow"],
    }
    assert catalog.webhooks[WebhookId("demo-slow")].events == ("receipt/read",)
    assert set(catalog.tenants) == {TenantId("demo")}
