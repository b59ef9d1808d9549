"""Endpoints of a test's own: one that says what it was asked, and some that fail in every way there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import anyio
import structlog
from pydantic import Field

from worker.adapters.memory_store import MemoryStore
from worker.api.endpoints import ApiError, ApiModel, Audience, Call, CallKind, Endpoint, Query, Reply
from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog
from worker.domain.errors import StoreFull, StoreUnavailable

SECRET = "s3cr3t-of-a-customer"
JSON = {"content_type": "application/json"}


class Asked(Query):
    refresh_it: bool = False
    limit: int = Field(50, ge=1, le=100)
    mode: Literal["db", "sync"] = "db"


class Sent(ApiModel):
    display_name: str = Field(min_length=1, max_length=10)
    events: list[str] = Field([], max_length=3)
    deadline_s: float | None = Field(None, ge=1, le=30)
    many: int = Field(1, ge=0, le=10)
    deep: dict[str, Any] = Field({})


class Seen(ApiModel):
    tenant: str | None
    actor: str
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]


log = structlog.get_logger("tests.api")


async def echo(call: Call) -> Reply:
    log.info("handled")
    query = call.query.model_dump() if call.query else {}
    body = call.body.model_dump() if call.body else {}
    return Reply(data=Seen(tenant=call.tenant, actor=call.actor, path=dict(call.path), query=query, body=body))


def failing(fault: Exception) -> Any:
    async def handle(_call: Call) -> Reply:
        raise fault

    return handle


async def fail_for_good(_call: Call) -> Reply:
    raise ZeroDivisionError(SECRET)


async def too_slow(_call: Call) -> Reply:
    await anyio.sleep_forever()
    raise AssertionError


FAULTS = {
    "away": failing(StoreUnavailable("redis (data): no answer")),
    "full": failing(StoreFull("redis: maxmemory")),
    "bug": fail_for_good,
    "slow": too_slow,
    "told": failing(ApiError(409, "TAKEN", "choose another", details={"id": "x"}, retry_after_s=1.2)),
}


def offer(_catalog: Catalog, _registrar: Registrar, _store: MemoryStore) -> Sequence[Endpoint]:
    posted = Endpoint(
        method="POST", path="/api/things", summary="", tag="t", handle=echo, data=Seen, body=Sent, is_idempotent_by_key=True,
        kind=lambda _call: CallKind.CREATE,
    )  # fmt: skip
    return [
        posted,
        Endpoint(method="GET", path="/api/things", summary="", tag="t", handle=echo, data=Seen, query=Asked),
        Endpoint(method="GET", path="/api/things/{thingId}", summary="", tag="t", handle=echo, data=Seen),
        Endpoint(method="POST", path="/api/things/all", summary="", tag="t", handle=echo, data=Seen),
        Endpoint(method="GET", path="/api/operation", summary="", tag="t", handle=echo, data=Seen, audience=Audience.ADMIN),
        *(Endpoint(method="GET", path=f"/api/{name}", summary="", tag="t", handle=handle) for name, handle in FAULTS.items()),
    ]
