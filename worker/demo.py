"""The demo: a tenant with three instances and three webhooks, and a gateway that pushes five events a second through the real ingest.

Nothing here is special to the worker: what it declares could stand in a configuration file, and what it pushes comes in by HTTP.
The people are made up: their numbers are Brazilian in form and belong to nobody (subscriber part 9 0000 00xx).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import orjson
import structlog

from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId

EVENTS_PER_S = 5.0
TENANT = TenantId("demo")
_PHONE_NUMBER_ID = "100000000000001"
_CHATS = 20
_TEXTS = ("Bom dia!", "O pedido já saiu?", "Obrigada 🙂", "Pode ser às 15h?", "Segue o comprovante.", "👍")
_NAMES = ("Ana", "Bruno", "Carla", "Davi", "Elisa")

Post = Callable[[str, bytes], Awaitable[int | None]]
"""Posts a body to a URL; answers the status, None when there was no answer."""

log = structlog.get_logger("worker.demo")


def with_demo(declared: Catalog, base_url: str) -> Catalog:
    """`declared` plus the demo. Pure.

    Adds the tenant `demo`, the instances `demo-generic`, `demo-waha`, `demo-cloud-api`, and the webhooks `demo-fast`, `demo-slow`,
    `demo-failing`. `base_url` is the worker's own HTTP address.
    """
    gateways = (("generic", "demo"), ("waha", "default"), ("cloud-api", _PHONE_NUMBER_ID))
    return Catalog(
        [*declared.tenants.values(), Tenant(id=TENANT)],
        [*declared.instances.values(), *(_instance(gateway, name) for gateway, name in gateways)],
        [*declared.webhooks.values(), *(_webhook(temper, base_url) for temper in ("fast", "slow", "failing"))],
    )


def _instance(gateway: str, gateway_instance: str) -> Instance:
    return Instance(id=InstanceId(f"demo-{gateway}"), tenant_id=TENANT, gateway=gateway, gateway_instance=gateway_instance)


def _webhook(temper: str, base_url: str) -> Webhook:
    # What the slow and the failing one want is little enough for them to keep up: a demo may run for days.
    return Webhook(
        id=WebhookId(f"demo-{temper}"),
        tenant_id=TENANT,
        url=f"{base_url}/demo/sink/{temper}",
        instance_ids=frozenset({InstanceId("demo-generic")} if temper == "failing" else ()),
        events=("receipt/read",) if temper == "slow" else (),
    )


async def push_demo_events(post: Post, base_url: str, *, seed: int | None = None) -> None:
    """Pushes a made-up event every 0.2 s, gateway after gateway, until cancelled. A refused one is dropped: the next one comes.

    Says once when the worker begins to refuse and once when it takes events again.
    """
    gateway = DemoGateway(random.Random(seed))  # noqa: S311 - made-up texts need no secrecy
    refused = False
    while True:
        name, body = gateway.next_push()
        status = await post(f"{base_url}/ingest/{name}/demo-{name}", body)
        if refused != (status not in {200, 202}):
            refused = not refused
            log.info("demo events are refused" if refused else "demo events are taken again", status=status)
        await anyio.sleep(1 / EVENTS_PER_S)  # noqa: TID251 - the demo's pace


class DemoGateway:
    """Makes bodies of the three gateways in turn, each with an id of its own. Pure but for the randomness it is given."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._life = f"{chance.getrandbits(40):010X}"
        self._count = count(1)

    def next_push(self) -> tuple[str, bytes]:
        """The gateway's name, and a body of one event."""
        number = next(self._count)
        message_id = f"3EB0{self._life}{number:08X}"
        name, body = (("generic", self._generic), ("waha", self._waha), ("cloud-api", self._cloud_api))[number % 3]
        return name, orjson.dumps(body(message_id))

    def _generic(self, message_id: str) -> dict[str, Any]:
        chat = f"{self._digits()}@s.whatsapp.net"
        event = {"type": "message", "message_ids": [message_id], "chat_id": chat, "sender_id": chat, "push_name": self._name()}
        return {**event, "text": self._text()}

    def _waha(self, message_id: str) -> dict[str, Any]:
        chat = f"{self._digits()}@c.us"
        payload = {"id": f"false_{chat}_{message_id}", "from": chat, "fromMe": False, "body": self._text(), "hasMedia": False}
        return {"id": f"evt_{message_id}", "event": "message", "session": "default", "engine": "GOWS", "payload": payload}

    def _cloud_api(self, message_id: str) -> dict[str, Any]:
        digits = self._digits()
        value: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "5511900000000", "phone_number_id": _PHONE_NUMBER_ID},
        }
        if self._chance.random() < 0.5:  # noqa: PLR2004 - half and half
            told = {"id": f"wamid.{message_id}", "status": self._status(), "timestamp": "1795344000", "recipient_id": digits}
            value["statuses"] = [told]
        else:
            value["contacts"] = [{"wa_id": digits, "profile": {"name": self._name()}}]
            said = {"id": f"wamid.{message_id}", "from": digits, "timestamp": "1795344000", "type": "text"}
            value["messages"] = [{**said, "text": {"body": self._text()}}]
        return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [{"field": "messages", "value": value}]}]}

    def _status(self) -> str:
        return self._chance.choice(("sent", "delivered", "delivered", "read"))

    def _digits(self) -> str:
        return f"55119000000{self._chance.randrange(_CHATS):02d}"

    def _name(self) -> str:
        return self._chance.choice(_NAMES)

    def _text(self) -> str:
        return self._chance.choice(_TEXTS)
