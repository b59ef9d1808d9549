"""The webhooks API of a component test's workers: calls, and what the webhooks they register received."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook as Verifier

from tests.component.api_calls import Api
from tests.component.rig import Rig, Worker
from worker.adapters.memory_transport import Answers
from worker.domain.destinations import Destinations
from worker.domain.ids import TenantId
from worker.event_integration.transport import Request
from worker.management import ManagementSettings, management_endpoints

STRANGER = TenantId("stranger")
URL = "http://198.51.101.7/hook"
"""Public, and nobody has to be asked where it is."""
CRM = "/api/webhooks/crm"


def api(it: Rig, worker: Worker, tenant: TenantId | None = None) -> Api:
    settings = ManagementSettings(shards=it.shards, deadline_s=7.0, max_in_flight=3, destinations=Destinations())
    endpoints = management_endpoints(worker.engine, it.store, settings)
    return Api(endpoints) if tenant is None else Api(endpoints, tenant)


async def created(calls: Api, it: Rig, **more: Any) -> dict[str, Any]:
    status, body = await calls.ask("POST", "/api/webhooks", {"url": URL, **more})
    assert status == 201, body
    it.endpoints.script(URL, Answers())
    return dict(body["data"])


def received(it: Rig, at: str = URL) -> list[Request]:
    return [attempt.request for attempt in it.endpoints.attempts if attempt.request.url == at]


def signed_by(secret: str, request: Request) -> bool:
    """By the published library, which knows nothing of ours; virtual time is none of its business."""
    signature = Verifier(secret).sign
    stamp = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    return signature(request.headers["webhook-id"], stamp, request.body.decode()) in request.headers["webhook-signature"].split()
