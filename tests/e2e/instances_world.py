"""The instances API as a worker serves it: its parts over a store, a fake gateway behind a real adapter."""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from tests.e2e.api_world import Api, Offer, api
from worker.adapters.brokers import open_broker
from worker.api.endpoints import Endpoint
from worker.api.instances import Instances, instance_endpoints
from worker.api.instances_creation import Creation, NewWebhooks
from worker.api.webhooks import Defaults
from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog
from worker.domain.ids import OwnerId, Shard, TenantId, WebhookId
from worker.fake_gateway.server import FakeGateway, Plan, fake_gateway
from worker.instances import naming
from worker.instances.broker import Broker, BrokerConfig
from worker.instances.creating import Chance
from worker.instances.parts import InstanceParts, Known, Served, Store, Surroundings
from worker.instances.repairing import Clocks
from worker.metrics import Metrics

PATH = "/api/integrations/whatsapp/instances"
SHARDS = 2
SECRET_PREFIX = "whsec_"
OWNER = OwnerId("worker-1")


def parts_over(known: Known, store: Store, brokers: Sequence[Served], *, seed: int = 1, public_url: str | None = None) -> InstanceParts:
    """As a worker of its own: its breakers, its single flights, its randomness."""
    chance = random.Random(seed)

    async def holders(shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        return dict.fromkeys(shards, OWNER)

    clock = asyncio.get_running_loop().time
    around = Surroundings(
        clocks=Clocks(monotonic_s=clock, age_s=lambda _at: 0.0),
        chance=Chance(text=lambda n: "".join(chance.choices(naming.ALPHABET, k=n)), now=lambda: "2026-11-22T07:45:38.120Z"),
        unit_random=chance.random,
        holders=holders,
        owns=lambda _instance_id: True,
        shards=SHARDS,
        public_url=public_url,
    )
    return InstanceParts(known, store, brokers, around, Metrics())


def endpoints_of(parts: InstanceParts, known: Known) -> list[Endpoint]:
    clock = asyncio.get_running_loop().time

    async def objection(url: str) -> str | None:
        return "it is inside" if "//10." in url else None

    webhooks = NewWebhooks(
        defaults=Defaults(deadline_s=10.0, max_in_flight=8),
        objection=objection,
        new_id=lambda: WebhookId("wh-" + parts.creating.random_text(8)),
        new_secret=lambda: SECRET_PREFIX + b64encode(parts.creating.random_text(32).encode()).decode(),
    )
    handlers = Instances(known.catalog, parts.listing, parts.single, parts.stages, clock)
    creation = Creation(known.catalog, known.registrar, parts.creating, parts.listing, parts.once, parts.stages, webhooks, clock)
    return instance_endpoints(handlers, creation)


@dataclass
class World:
    """The API, its parts and the gateway behind it."""

    api: Api
    fake: FakeGateway
    broker: Broker = field(repr=False)
    parts: InstanceParts = field(repr=False)


@asynccontextmanager
async def instances_api(
    *, gateway: str = "waha", tenant_ids: Sequence[str] = (), public_url: str | None = None, limits: dict[str, str] | None = None
) -> AsyncIterator[World]:
    async with fake_gateway(Plan(gateway=gateway)) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway=fake.gateway, url=fake.url, api_key=fake.api_key, timeout_s=5))
        made: list[InstanceParts] = []

        def offer(catalog: Catalog, registrar: Registrar, store: Store) -> list[Endpoint]:
            known = Known(catalog=catalog, registrar=registrar)
            served = Served(broker, frozenset(TenantId(one) for one in tenant_ids))
            made.append(parts_over(known, store, [served], public_url=public_url))
            return endpoints_of(made[0], known)

        offered: Offer = offer
        try:
            async with api(offered, limits=limits) as opened:
                yield World(opened, fake, broker, made[0])
        finally:
            with anyio.move_on_after(2, shield=True):
                await broker.close()
