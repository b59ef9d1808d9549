"""A new instance from its creation to its first delivery, with a real worker that is killed in between (issue 5 "Shows")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import orjson
import pytest

from tests.e2e.rig import Rig, Worker, free_port, until
from worker.api.authentication import key_sha256
from worker.fake_gateway.server import API_KEY, FakeGateway, Plan, fake_gateway
from worker.fake_gateway.troubles import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PATH = "/api/integrations/whatsapp/instances"
KEY = "wak_of_tenant_t"
PUSHES = 20


def toml(broker_url: str) -> str:
    return f"""
[[tenants]]
id = "t"
api_keys_sha256 = ["{key_sha256(KEY)}"]
[[brokers]]
id = "main"
gateway = "waha"
url = "{broker_url}"
api_key = "{API_KEY}"
"""


@dataclass
class Site:
    rig: Rig
    worker: Worker
    fake: FakeGateway

    async def ask(self, method: str, path: str, *, key: str | None = None, **body: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {KEY}", **({"idempotency-key": key} if key else {})}
        async with self.rig.session.request(method, self.worker.url + path, json=body or None, headers=headers) as answer:
            text = await answer.read()
            return answer.status, orjson.loads(text) if text else None

    async def create(self, key: str) -> tuple[int, Any]:
        webhook = {"url": self.rig.sink.url("crm"), "events": ["message"]}
        return await self.ask("POST", PATH, key=key, name="Vendas", gateway="waha", webhook=webhook)


@pytest.fixture
async def site(rig: Rig) -> AsyncIterator[Site]:
    async with fake_gateway(Plan(gateway="waha")) as fake:
        port = free_port()
        worker = rig.worker(toml(fake.url), HTTP__PORT=str(port), HTTP__PUBLIC_URL=f"http://127.0.0.1:{port}")
        worker.port, worker.url = port, f"http://127.0.0.1:{port}"
        await worker.start()
        yield Site(rig, worker, fake)


async def test_a_worker_killed_between_its_row_and_the_broker_goes_on_by_the_key_with_the_same_row(site: Site) -> None:
    hangs = site.fake.trouble("POST /api/sessions", Kind.HANG)
    async with anyio.create_task_group() as callers:

        async def call() -> None:
            with pytest.raises(aiohttp.ClientError):
                await site.create("k")

        callers.start_soon(call)
        await until(lambda: hangs.seen == 1, 10, "the broker is asked")
        await site.worker.kill()
    assert not site.fake.instances
    await site.worker.start()
    [half_made] = (await site.ask("GET", PATH + "?fields=full"))[1]["data"]["instances"]
    assert half_made["isMade"] is False
    status, body = await site.create("k")
    assert status == 201, body
    made = body["data"]
    assert (made["id"], made["gatewayInstance"]) == (half_made["id"], half_made["gatewayInstance"])
    assert list(site.fake.instances) == [made["gatewayInstance"]]
    status, listed = await site.ask("GET", PATH + "?refresh=1")
    assert [one["id"] for one in listed["data"]["instances"]] == [made["id"]]
    assert (await site.create("k"))[1] == body
    await pushes_arrive(site, made["gatewayInstance"])


async def pushes_arrive(site: Site, name: str) -> None:
    """The broker was told where to push and how to sign; whoever does not sign is turned away."""
    assert await site.fake.push(name, PUSHES) == {"202": PUSHES}
    await until(lambda: site.rig.sink.got("crm") != set(), 20, "the webhook made with the instance gets its messages")
    site.fake.instances[name].push_secret = "somebody-elses-secret-of-32-chars"
    assert await site.fake.push(name, 1) == {"401": 1}
