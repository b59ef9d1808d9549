"""The API over a real socket and the twins of the store: its frame, with endpoints of a test's choice behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import orjson
from multidict import CIMultiDictProxy

from worker.adapters.memory_store import MemoryStore
from worker.api.authentication import Authentication, key_sha256
from worker.api.endpoints import Endpoint
from worker.api.frame import Frame
from worker.api.limits import Limits, rates
from worker.api.server import application, serving
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId

ADMIN_KEY = "the-operator-of-these-tests"
ACME_KEY, OTHER_KEY = "wak_acme", "wak_other"
ACME, OTHER = TenantId("acme"), TenantId("other")
NO_LIMITS = dict.fromkeys(("refresh", "sync", "read", "create"), "off")


class Answer(NamedTuple):
    status: int
    body: Any
    headers: CIMultiDictProxy[str]

    @property
    def code(self) -> str:
        """Empty where it is no error."""
        return str(self.body["error"]["code"]) if isinstance(self.body, dict) and "error" in self.body else ""

    @property
    def details(self) -> dict[str, Any]:
        return dict(self.body["error"]["details"])


@dataclass
class Client:
    """A client on the API."""

    client: aiohttp.ClientSession = field(repr=False)
    port: int

    async def ask(self, method: str, path: str, *, key: str | None = ACME_KEY, data: Any = None, **headers: str) -> Answer:
        """`data`: bytes as they are, anything else as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        if data is not None and not isinstance(data, bytes):
            data, sent = orjson.dumps(data), {"content-type": "application/json", **sent}
        async with self.client.request(method, path, data=data, headers=sent, skip_auto_headers=["content-type"]) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json" and body
            return Answer(answer.status, orjson.loads(body) if is_json else body, answer.headers)


@dataclass
class Api(Client):
    """The API's frame, and what stands behind it. `now` is the clock of the lock-out."""

    frame: Frame
    authentication: Authentication
    store: MemoryStore
    catalog: Catalog
    registrar: Registrar
    now: list[float]


def declared() -> Catalog:
    """Two tenants of the file, each with an instance and a webhook."""
    tenants = [Tenant(id=t, api_keys_sha256=(key_sha256(key),)) for t, key in ((ACME, ACME_KEY), (OTHER, OTHER_KEY))]
    instances = [Instance(id=InstanceId(f"{t.id}-sales"), tenant_id=t.id, gateway="waha", gateway_instance="default") for t in tenants]
    webhooks = [
        Webhook(
            id=WebhookId(f"{t.id}-crm"), tenant_id=t.id, url="https://crm.example.com/", secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",)
        )
        for t in tenants
    ]
    return Catalog(tenants, instances, webhooks)


Offer = Callable[[Catalog, Registrar, MemoryStore], Sequence[Endpoint]]


@asynccontextmanager
async def api(
    offer: Offer,
    *,
    admin_key: str | None = ADMIN_KEY,
    limits: Mapping[str, str] | None = None,
    is_open: bool = True,
    is_shut: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Api]:
    clock = asyncio.get_running_loop().time
    now = [0.0]
    store, catalog = MemoryStore(shards=2, clock=clock), declared()
    registrar = Registrar(store.directory, Replica(catalog), clock)
    authentication = Authentication(catalog, registrar, admin_key=admin_key, clock=lambda: now[0])
    frame = Frame(is_shut=is_shut)
    meter = Limits(store.call_counts, rates(NO_LIMITS | dict(limits or {})), is_known=store.idempotency.knows)
    if is_open:
        frame.open(offer(catalog, registrar, store), authentication, meter)
    async with (
        serving(application(frame.routes(), max_body_bytes=4 << 20), "127.0.0.1", 0) as listening,
        aiohttp.ClientSession(f"http://127.0.0.1:{listening.port}", timeout=aiohttp.ClientTimeout(10)) as client,
    ):
        yield Api(client, listening.port, frame, authentication, store, catalog, registrar, now)
