"""The whole API as a worker serves it: every endpoint of `management_endpoints`, over an engine that runs on the twins."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import anyio
import orjson

from tests.e2e.api_world import ACME, ADMIN_KEY, NO_LIMITS, Client
from tests.e2e.api_world import declared as declared_by_file
from worker.adapters.memory_store import MemoryStore
from worker.adapters.memory_transport import Answers, MemoryTransport
from worker.api.authentication import key_sha256
from worker.api.endpoints import Endpoint
from worker.api.frame import Frame
from worker.api.server import application, serving
from worker.client_registry.registry import Identity
from worker.directory.port import Revision
from worker.domain.catalog import Catalog, Instance, Row, Tenant, Webhook
from worker.domain.ids import EventKey, InstanceId, OwnerId, TenantId, WebhookId
from worker.engine import Engine, EngineSettings, World
from worker.event_integration.outcome import RetryPolicy
from worker.event_integration.past import LetterFilter
from worker.event_integration.pipeline import Clocks
from worker.ingest.preparation import Stamps
from worker.management import ManagementSettings, instance_parts, open_api

SHARDS = 2
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://crm.example.com/hooks"
FORBIDDEN = "https://refused.example.com/hooks"
"""Answers 410: each of its events is a dead letter."""
REGISTERED = TenantId("registered")
REGISTERED_KEY = "wak_registered_at_run_time"
EVENTS = 12


@dataclass
class Managed(Client):
    """The API, the engine behind it, and what tenant `acme` has."""

    frame: Frame
    engine: Engine
    letters: list[str]
    event_keys: list[str]

    @property
    def endpoints(self) -> list[Endpoint]:
        return list(self.frame.endpoints)


@asynccontextmanager
async def managed() -> AsyncIterator[Managed]:
    """`acme` and `other` are declared, `registered` is not; `acme` also has what was registered at run time, and dead letters."""
    clock = asyncio.get_running_loop().time
    store, transport = MemoryStore(shards=SHARDS, clock=clock), MemoryTransport()
    transport.script(URL, Answers(status=200))
    transport.script(FORBIDDEN, Answers(status=410))
    engine = _engine(store, transport)
    frame, settings = Frame(), ManagementSettings(shards=SHARDS, admin_key=ADMIN_KEY, rate_limits=NO_LIMITS)
    async with anyio.create_task_group() as running:
        await running.start(engine.run)
        await _register(engine)
        open_api(frame, engine, store, settings, instance_parts(engine, store, settings, ()))
        async with (
            serving(application(frame.routes(), max_body_bytes=4 << 20), "127.0.0.1", 0) as listening,
            aiohttp.ClientSession(f"http://127.0.0.1:{listening.port}", timeout=aiohttp.ClientTimeout(10)) as client,
        ):
            letters, keys = await _happenings(engine, store)
            yield Managed(client=client, port=listening.port, frame=frame, engine=engine, letters=letters, event_keys=keys)
        running.cancel_scope.cancel()


def _engine(store: MemoryStore, transport: MemoryTransport) -> Engine:
    clock = asyncio.get_running_loop().time
    chance = random.Random(5)
    return Engine(
        store,
        transport,
        _declared(),
        Identity(owner=OwnerId("worker-1"), task="worker", family="", revision=0, sole=True),
        EngineSettings(shards=SHARDS, retry=RetryPolicy(schedule_s=(1,), max_age_s=3_600)),
        World(
            clocks=Clocks(monotonic_s=clock, wall_s=lambda: 1_763_790_000.0 + clock(), unit_random=chance.random),
            stamps=Stamps(received_at=lambda: "2026-11-22T07:45:38.300Z", fresh_key=lambda: EventKey(f"ulid:{chance.getrandbits(60)}")),
        ),
    )


def _declared() -> Catalog:
    known = declared_by_file()
    return Catalog(known.tenants.values(), known.instances.values(), known.webhooks.values())


async def _register(engine: Engine) -> None:
    registered = Tenant(id=REGISTERED, api_keys_sha256=(key_sha256(REGISTERED_KEY),))
    number = Instance(id=InstanceId("acme-live"), tenant_id=ACME, gateway="generic", gateway_instance="acme-live", name="Live")
    hooks = {"acme-hook": URL, "acme-refused": FORBIDDEN}
    rows: list[Row] = [registered, number]
    rows += [Webhook(id=WebhookId(n), tenant_id=ACME, url=u, secrets=(SECRET,)) for n, u in hooks.items()]
    for row in rows:
        await engine.registrar.put(row, expected=Revision(0))


async def _happenings(engine: Engine, store: MemoryStore) -> tuple[list[str], list[str]]:
    """Events of `acme`, and the dead letters they became; ids."""
    body = orjson.dumps([{"type": "message", "message_ids": [f"m{n}"], "chat_id": "5511@s.whatsapp.net"} for n in range(EVENTS)])
    answer = await engine.ingest.accept("generic", "acme-live", {"content-type": "application/json"}, body)
    assert answer.status == 202, answer
    with anyio.fail_after(20):
        while True:
            page = await store.dead_letters.page(LetterFilter(tenant_id=ACME), after=None, limit=EVENTS)
            if len(page.letters) == EVENTS:
                return [letter.delivery_id for letter in page.letters], [letter.event_key for letter in page.letters]
            await anyio.sleep(0.02)
