"""The straightforward worker: what a competent team writes first, and what the engine is compared with.

Batches of 100 from a Redis stream and consumer group, `json`, a route by instance, a signature by `hmac`, one POST per event with the
session's defaults and a time limit, at most 64 at once, `asyncio.gather` over the batch, an OpenTelemetry span and three records per
event, then `XACK`, on asyncio's own loop. It keeps no bulkheads, no retries, no fence and no order.

Its lean sister has no spans, two records, and uvloop: what a team has after its first look at a profile. Both have hiredis.

Its events are the engine's own, as JSON: the envelope with `raw` inside.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import aiohttp
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer
from redis.asyncio import Redis

from benchmarks.load import SECRET, segments
from worker.domain.catalog import Catalog
from worker.domain.record import decode, normalized_body

STREAM, GROUP, CONSUMER = "reference:events", "reference", "one"
BATCH = 100
AT_ONCE = 64
DEADLINE_S = 10


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 -- the exporter's signature
        return SpanExportResult.SUCCESS


def _tracer() -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider.get_tracer("reference")


class Reference:
    """`run` handles what is in the stream until `count` events are delivered."""

    def __init__(self, redis_url: str, routes: dict[str, list[str]], *, lean: bool) -> None:
        """`routes`: instance id → URLs. `lean`: without spans and with two records per delivery instead of three."""
        self._redis = Redis.from_url(redis_url)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S))
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tracer = None if lean else _tracer()
        self._routes = routes
        self._key = base64.b64decode(SECRET.removeprefix("whsec_"))
        meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("reference")
        self._accepted = None if lean else meter.create_counter("accepted")
        self._events = meter.create_counter("events")
        self._durations = meter.create_histogram("duration", unit="s")
        self.delivered = 0

    async def open(self) -> None:
        await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)

    async def run(self, count: int) -> None:
        until = self.delivered + count
        while self.delivered < until:
            answer: Any = await self._redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH, block=1000)
            for _, messages in answer:
                await asyncio.gather(*[self._handle(fields[b"event"]) for _, fields in messages])
                await self._redis.xack(STREAM, GROUP, *[message_id for message_id, _ in messages])

    async def close(self) -> None:
        await self._session.close()
        await self._redis.aclose()

    async def _handle(self, data: bytes) -> None:
        async with self._at_once:
            event = json.loads(data)
            if self._accepted is not None:
                self._accepted.add(1, {"tenant": event["tenant_id"], "event_type": event["type"]})
            with self._tracer.start_as_current_span("deliver") if self._tracer is not None else nullcontext() as span:
                if span is not None:
                    span.set_attribute("tenant", event["tenant_id"])
                await self._deliver(event)

    async def _deliver(self, event: dict[str, Any]) -> None:
        for url in self._routes[event["instance_id"]]:
            started = time.perf_counter()
            body = json.dumps(event).encode()
            async with self._session.post(url, data=body, headers=self._headers(event, body)) as response:
                await response.read()
                outcome = "delivered" if response.status < 300 else "failed"
            attributes = {"tenant": event["tenant_id"], "event_type": event["type"], "outcome": outcome}
            self._events.add(1, attributes)
            self._durations.record(time.perf_counter() - started, attributes)
            self.delivered += 1

    def _headers(self, event: dict[str, str], body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        signed = f"{event['event_key']}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": event["event_key"],
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
            "x-whatsapp-tenant": event["tenant_id"],
            "x-whatsapp-instance": event["instance_id"],
            "x-whatsapp-event": event["type"],
        }


def routes_of(catalog: Catalog) -> dict[str, list[str]]:
    return {instance: [webhook.url for webhook in catalog.webhooks_of(instance)] for instance in catalog.instances}


async def prefill_reference(redis_url: str, catalog: Catalog, first: int, count: int) -> None:
    """The same events as `load.prefill`, one stream entry each."""
    redis = Redis.from_url(redis_url)
    for _, events in segments(catalog, first, count):
        pipeline = redis.pipeline(transaction=False)
        for event in events:
            pipeline.xadd(STREAM, {"event": normalized_body(decode(event.record))})
        await pipeline.execute()
    await redis.aclose()
