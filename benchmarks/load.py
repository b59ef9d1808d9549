"""What is delivered in every bench: the same catalog, the same events of 1 KB, put into a journal through its port."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import orjson

from worker.adapters.clock import rfc3339
from worker.adapters.redis_store import RedisStore, open_redis_store
from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.ids import EventKey, InstanceId, Shard, TenantId, WebhookId
from worker.gateways import GATEWAYS
from worker.gateways.port import Push
from worker.ingest.preparation import Preparation, Prepared, Stamps
from worker.journal.port import NewEvent

SHARDS = 16
TENANTS = 4
BODY_BYTES = 1024
SEGMENT_EVENTS = 256
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105 -- invented; the reference signs with the same


def catalog_of(urls: list[str]) -> Catalog:
    """One instance, and one webhook that wants all of it, for each URL; four tenants share them."""
    tenants = [Tenant(id=TenantId(f"tenant-{n}")) for n in range(TENANTS)]
    instances, webhooks = [], []
    for n, url in enumerate(urls):
        owner, instance = tenants[n % TENANTS].id, InstanceId(f"instance-{n}")
        instances.append(Instance(id=instance, tenant_id=owner, gateway="waha", gateway_instance=f"session-{n}"))
        webhooks.append(
            Webhook(id=WebhookId(f"webhook-{n}"), tenant_id=owner, url=url, instance_ids=frozenset({instance}), secrets=(SECRET,))
        )
    return Catalog(tenants, instances, webhooks)


def talk_catalog(url: str, *, ordering: str) -> Catalog:
    """One webhook that wants all of eight instances of one tenant, up to 64 at once."""
    tenant = Tenant(id=TenantId("tenant"))
    instances = [
        Instance(id=InstanceId(f"instance-{n}"), tenant_id=tenant.id, gateway="waha", gateway_instance=f"session-{n}") for n in range(8)
    ]
    webhook = Webhook(id=WebhookId("webhook"), tenant_id=tenant.id, url=url, secrets=(SECRET,), ordering=ordering, max_in_flight=64)
    return Catalog([tenant], instances, [webhook])


def waha_body(number: int, instance: Instance, chats: int = 1000) -> bytes:
    """A WAHA text message, invented, of exactly 1 KB; each number another message of one of so many chats."""
    person = f"5511{number % chats:09d}"
    message_id = f"3EB0{number:016X}"
    payload = {
        "id": f"false_{person}@c.us_{message_id}",
        "timestamp": 1_763_797_538 + number // 1000,
        "from": f"{person}@c.us",
        "fromMe": False,
        "source": "app",
        "to": "5511900000009@c.us",
        "participant": None,
        "body": "",
        "hasMedia": False,
        "media": None,
        "ack": 1,
        "ackName": "SERVER",
        "replyTo": None,
        "_data": {"key": {"remoteJid": f"{person}@s.whatsapp.net", "fromMe": False, "id": message_id}, "pushName": "Ana"},
    }
    push = {
        "id": f"evt_{number:026d}",
        "timestamp": 1_763_797_539_000 + number,
        "event": "message",
        "session": instance.gateway_instance,
        "me": {"id": "5511900000009@c.us", "pushName": "Shop"},
        "environment": {"version": "2026.1.0", "engine": "NOWEB", "tier": "PLUS"},
        "payload": payload,
    }
    payload["body"] = "x" * (BODY_BYTES - len(orjson.dumps(push)))
    return orjson.dumps(push)


def preparation_for(catalog: Catalog) -> Preparation:
    """As the worker's, but that keys are never drawn: every event here has an identity."""
    stamps = Stamps(received_at=lambda: rfc3339(datetime.now(UTC)), fresh_key=lambda: EventKey("ulid:none"))
    return Preparation(catalog=catalog, shards=SHARDS, stamps=stamps)


def segments(catalog: Catalog, first: int, count: int, chats: int = 1000) -> Iterator[tuple[Shard, list[NewEvent]]]:
    """`count` events in turn over all instances, as what a gateway's pushes become, in segments as full as they get."""
    preparation, instances = preparation_for(catalog), list(catalog.instances.values())
    waiting: dict[Shard, list[NewEvent]] = {}
    for number in range(first, first + count):
        instance = instances[number % len(instances)]
        prepared = preparation.prepare(GATEWAYS["waha"], instance, Push(headers={}, body=waha_body(number, instance, chats)))
        assert isinstance(prepared, Prepared)
        for shard, event in prepared.items:
            segment = waiting.setdefault(shard, [])
            segment.append(event)
            if len(segment) == SEGMENT_EVENTS:
                yield shard, waiting.pop(shard)
    yield from waiting.items()


async def prefill(store: RedisStore, catalog: Catalog, first: int, count: int, chats: int = 1000) -> None:
    """Puts events `first` to `first + count` into the journal; the numbers make them different."""
    for shard, events in segments(catalog, first, count, chats):
        await store.journal.append(shard, events)


async def prefill_at(url: str, catalog: Catalog, count: int) -> None:
    """The same into a store of its own opening."""
    async with open_redis_store(url, shards=SHARDS) as store:
        await prefill(store, catalog, 0, count)
