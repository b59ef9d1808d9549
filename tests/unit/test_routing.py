"""Which webhooks want an event."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from worker.domain.catalog import Catalog, Instance, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.event_integration import routing
from worker.event_integration.routing import Router, wants

TENANT = TenantId("acme")


@dataclass(frozen=True)
class Kind:
    instance_id: InstanceId
    type: str
    subtype: str | None = None
    tenant_id: TenantId = TENANT


def webhook(name: str = "crm", **fields: object) -> Webhook:
    return Webhook(id=WebhookId(name), tenant_id=TENANT, url="https://crm.example.com/hook", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "event_type", "subtype", "wanted"),
    [
        ((), "message", None, True),
        (("message",), "message", None, True),
        (("message",), "message", "edited", True),
        (("message",), "receipt", None, False),
        (("message/edited",), "message", "edited", True),
        (("message/edited",), "message", "revoked", False),
        (("message/edited",), "message", None, False),
        (("receipt/*",), "receipt", "read", True),
        (("receipt/*",), "receipt", None, True),
        (("receipt/*",), "message", "read", False),
        (("*",), "presence", None, True),
        (("*/read",), "receipt", "read", True),
        (("*/read",), "receipt", "delivered", False),
        (("*/*",), "call", "offer", True),
        (("qr", "call"), "call", None, True),
        (("mess",), "message", None, False),
    ],
)
def test_a_filter_lets_through_what_it_names(events: tuple[str, ...], event_type: str, subtype: str | None, wanted: bool) -> None:
    assert wants(webhook(events=events), event_type, subtype) is wanted


def test_an_event_goes_to_the_enabled_webhooks_of_its_instance_that_want_it_in_order() -> None:
    sales, support = InstanceId("sales"), InstanceId("support")
    instances = [Instance(id=i, tenant_id=TENANT, gateway="waha", gateway_instance=i) for i in (sales, support)]
    webhooks = [
        webhook("z"),
        webhook("only-support", instance_ids=frozenset({support})),
        webhook("only-receipts", events=("receipt",)),
        webhook("off", enabled=False),
        webhook("a", events=("message",)),
    ]
    router = Router(Catalog([], instances, webhooks))
    for _ in range(2):  # the second answer is the remembered one
        assert [w.id for w in router.routes(Kind(sales, "message"))] == ["z", "a"]
        assert [w.id for w in router.routes(Kind(support, "receipt", "read"))] == ["z", "only-support", "only-receipts"]
        assert router.routes(Kind(sales, "message", None, TenantId("another"))) == ()


def test_an_event_is_routed_by_the_tenant_it_was_accepted_for_whatever_has_become_of_its_instance() -> None:
    """Accepted by a worker that knew the instance, read by one that does not yet; deleted since; or registered anew by another tenant."""
    sales, other = InstanceId("sales"), TenantId("other")
    catalog = Catalog(
        [],
        [],
        [
            webhook("all"),
            webhook("only-sales", instance_ids=frozenset({sales})),
            webhook("support", instance_ids=frozenset({InstanceId("x")})),
        ],
    )
    router = Router(catalog)
    for _ in range(2):
        assert [w.id for w in router.routes(Kind(sales, "message"))] == ["all", "only-sales"]
        catalog.put(Instance(id=sales, tenant_id=other, gateway="waha", gateway_instance="x"))
        catalog.put(Webhook(id=WebhookId("theirs"), tenant_id=other, url="https://theirs.example.com"))
        router.forget()
    assert [w.id for w in router.routes(Kind(sales, "message", None, other))] == ["theirs"]


def test_a_changed_catalog_is_asked_anew_once_the_router_was_told() -> None:
    sales = InstanceId("sales")
    catalog = Catalog([], [Instance(id=sales, tenant_id=TENANT, gateway="waha", gateway_instance="x")], [])
    router = Router(catalog)
    assert router.routes(Kind(sales, "message")) == ()
    catalog.put(webhook("new"))
    router.forget()
    assert [w.id for w in router.routes(Kind(sales, "message"))] == ["new"]
    catalog.put(webhook("new", enabled=False))
    router.forget()
    assert router.routes(Kind(sales, "message")) == ()


def test_subtypes_from_outside_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_REMEMBERED", 3)
    instance = Instance(id=InstanceId("i"), tenant_id=TENANT, gateway="generic", gateway_instance="i")
    asked: list[InstanceId] = []

    class Counting(Catalog):
        def webhooks_for(self, tenant_id: TenantId, instance_id: InstanceId) -> tuple[Webhook, ...]:
            asked.append(instance_id)
            return super().webhooks_for(tenant_id, instance_id)

    router = Router(Counting([], [instance], [webhook()]))
    for number in [*range(5), 0]:
        assert len(router.routes(Kind(InstanceId("i"), "unknown", str(number)))) == 1
    assert len(asked) == 6
