"""The instances API of contract 5: list, create, show, status, QR, disconnect, delete."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from pydantic import BaseModel

from worker.api import instances_shapes as shapes
from worker.api.endpoints import ApiError, Call, CallKind, Endpoint, Fault, Handler, Reply, uncounted
from worker.api.instances_creation import CREATED, Creation, broker_error
from worker.api.instances_shapes import Fields, InstanceBasic, InstancesQuery
from worker.api.webhooks import FORBIDDEN, MAX_WEBHOOKS, RESERVED
from worker.directory.registering import Declared
from worker.domain.catalog import Catalog, Instance
from worker.domain.errors import StoreUnavailable
from worker.instances.broker import BrokerFailure
from worker.instances.creating import MAX_INSTANCES
from worker.instances.failures import BY_CAUSE, CIRCUIT_OPEN, STORAGE_UNAVAILABLE
from worker.instances.listing import Entry, Listed, Listing, Mode, Wish
from worker.instances.single import HasNoBroker, NotAtItsBroker, Single
from worker.instances.stages import Outcome, Stage, Stages

PATH = "/api/integrations/whatsapp/instances"
ONE = PATH + "/{instanceId}"
TAG = "Instances"

NOT_FOUND = Fault(status=404, code="INSTANCE_NOT_FOUND", when="the tenant has no such instance")
NO_BROKER = Fault(status=409, code="INSTANCE_HAS_NO_BROKER", when="the instance only pushes: there is nobody to ask")
NOT_THERE = Fault(status=409, code="INSTANCE_NOT_AT_BROKER", when="its broker does not have it (any more)")
NO_QR = Fault(status=409, code="QR_NOT_AVAILABLE", when="there is nothing to scan: it is connected already, or not ready yet")
DECLARED = Fault(status=409, code="DECLARED_IN_FILE", when="the instance is declared in the worker's file")
STORAGE = Fault(status=STORAGE_UNAVAILABLE.status, code=STORAGE_UNAVAILABLE.code, when="the worker's store, or the broker's, is away")
BROKER = tuple(
    Fault(status=status, code=code, when="its broker failed; `details` say the cause and what the broker answered")
    for status, code in sorted({*BY_CAUSE.values(), CIRCUIT_OPEN} - {STORAGE_UNAVAILABLE})
)
CREATION = (
    Fault(status=403, code="ADMIN_KEY_REQUIRED", when="`attach` with a tenant's key"),
    Fault(status=409, code="INSTANCE_ALREADY_EXISTS", when="the id is taken; `details.suggestedId` is free"),
    Fault(status=409, code="INSTANCE_ATTACHED_ALREADY", when="what is to be attached belongs to an instance already"),
    Fault(status=409, code="INSTANCE_DELETED", when="it was deleted while it was being created"),
    Fault(status=409, code="NOTHING_TO_ATTACH", when="the broker has no instance of this name"),
    Fault(status=409, code="BROKER_UNKNOWN", when="the tenant has no such broker"),
    Fault(status=409, code="BROKER_OF_OTHER_GATEWAY", when="the broker is another gateway's"),
    Fault(status=409, code="INGEST_SECRET_IS_PUBLIC", when="the secret is a published default"),
    FORBIDDEN,
    RESERVED,
    Fault(
        status=409,
        code="LIMIT_REACHED",
        when=f"the tenant has {MAX_INSTANCES} instances or {MAX_WEBHOOKS} webhooks, or the directory is full",
    ),
    Fault(status=422, code="IDEMPOTENCY_KEY_REUSED", when="the key was used for another body"),
    Fault(status=503, code="STILL_CREATING", when="a call with this key is still running"),
)

T = TypeVar("T")
log = structlog.get_logger("worker.api")


@dataclass(frozen=True, slots=True)
class Instances:
    """The handlers. `clock` is monotonic."""

    catalog: Catalog
    listing: Listing
    single: Single
    stages: Stages
    clock: Callable[[], float]

    async def list(self, call: Call) -> Reply:
        query = call.asked(InstancesQuery)
        begun_s = self.clock()
        wish = Wish(tenant_id=call.tenant_id, mode=query.mode, refresh=query.wants_refresh, after=query.cursor or "", limit=query.limit)
        try:
            listed = await self.stages.timed(call.tenant_id, Stage.LIST, self.listing.page(wish), _outcome)
        except BrokerFailure as exc:
            raise broker_error(exc) from exc
        duration_ms = round((self.clock() - begun_s) * 1000)
        meta = shapes.meta_of(listed, call.tenant_id, refresh_requested=query.wants_refresh, duration_ms=duration_ms)
        return Reply(data=self._shown(listed, query.fields), meta=meta)

    async def get(self, call: Call) -> Reply:
        instance = await self._found(call)
        return Reply(data=self._full(await self.listing.entry(instance)))

    async def status(self, call: Call) -> Reply:
        instance = await self._found(call)
        sighting = await _told(self.single.look(instance))
        return Reply(data=shapes.status_now(instance, sighting))

    async def qr(self, call: Call) -> Reply:
        code = await _told(self.single.qr(await self._found(call)))
        if code is None:
            raise _nothing_to_scan()
        png = None if code.png is None else b64encode(code.png).decode()
        return Reply(data=shapes.Qr(qr=code.text, png=png))

    async def qr_png(self, call: Call) -> Reply:
        code = await _told(self.single.qr(await self._found(call)))
        if code is None:
            raise _nothing_to_scan()
        if code.png is None:
            raise ApiError(409, NO_QR.code, "its broker gives the code as text only; ask for …/qr without .png and draw it")
        return Reply(content=code.png, content_type="image/png")

    async def disconnect(self, call: Call) -> Reply:
        instance = await self._found(call)
        sighting = await _told(self.single.disconnect(instance))
        log.info("instance_disconnected", instance=instance.id)
        return Reply(data=shapes.status_now(instance, sighting))

    async def delete(self, call: Call) -> Reply:
        instance = await self._found(call)
        try:
            await _told(self.single.delete(instance))
        except Declared as exc:
            raise ApiError(409, DECLARED.code, str(exc)) from exc
        log.info("instance_deleted", instance=instance.id)
        return Reply(status=204)

    async def _found(self, call: Call) -> Instance:
        found = await self.single.find(call.tenant_id, call.path["instanceId"])
        if found is None:
            raise ApiError(404, NOT_FOUND.code, "there is no such instance; GET " + PATH + " lists yours")
        return found

    def _shown(self, listed: Listed, fields: Fields) -> shapes.Instances:
        def show(entry: Entry) -> InstanceBasic:
            if fields is Fields.BASIC:
                return shapes.basic(entry)
            return self._full(entry) if fields is Fields.FULL else shapes.metrics(entry, self._webhooks(entry.instance))

        return shapes.Instances(instances=[show(entry) for entry in listed.entries])

    def _full(self, entry: Entry) -> shapes.InstanceFull:
        return shapes.full(entry, self._webhooks(entry.instance), read_only=self.catalog.is_declared(entry.instance))

    def _webhooks(self, instance: Instance) -> int:
        return len(self.catalog.webhooks_of(instance.id))


def instance_endpoints(handlers: Instances, creation: Creation) -> list[Endpoint]:
    """All of them."""
    one = _endpoint
    asking = (NOT_FOUND, NO_BROKER, NOT_THERE, *BROKER)
    endpoints = [
        Endpoint(
            method="GET", path=PATH, summary="The tenant's instances, as last seen; a refresh asks their brokers", tag=TAG,
            handle=handlers.list, query=InstancesQuery, data=shapes.Instances, meta=shapes.InstancesMeta, kind=_list_kind, faults=BROKER,
        ),
        Endpoint(
            method="POST", path=PATH, summary="Creates an instance; repeat a failed call with its Idempotency-Key", tag=TAG,
            handle=creation.create, body=shapes.NewInstance, data=shapes.InstanceMade, status=CREATED, is_idempotent_by_key=True,
            kind=lambda _call: CallKind.CREATE, faults=(*CREATION, *BROKER),
        ),
        one("GET", "One instance, as last seen", handlers.get, data=shapes.InstanceFull),
        one("DELETE", "Deletes it, at its broker first", handlers.delete, status=204, faults=(NOT_FOUND, DECLARED, *BROKER)),
        one("GET", "Its status, asked of its broker", handlers.status, path=ONE + "/status", data=shapes.InstanceStatusNow, faults=asking),
        one("GET", "The code to scan", handlers.qr, path=ONE + "/qr", data=shapes.Qr, faults=(*asking, NO_QR)),
        one("GET", "The code to scan, drawn", handlers.qr_png, path=ONE + "/qr.png", content_type="image/png", faults=(*asking, NO_QR)),
        one("POST", "Logs its number out", handlers.disconnect, path=ONE + "/disconnect", data=shapes.InstanceStatusNow, faults=asking),
    ]  # fmt: skip
    return [replace(endpoint, handle=_storage_told(endpoint.handle), faults=(*endpoint.faults, STORAGE)) for endpoint in endpoints]


def _storage_told(handle: Handler) -> Handler:
    """Our own store's outage in the words of contract 5."""

    async def told(call: Call) -> Reply:
        try:
            return await handle(call)
        except StoreUnavailable as exc:
            log.warning("instances_store_unavailable", cause=str(exc))
            message = "the store did not answer; whether it was done is unknown: look, or repeat the call with its Idempotency-Key"
            raise ApiError(STORAGE.status, STORAGE.code, message, details={"cause": "storage"}, retry_after_s=2) from exc

    return told


def _endpoint(  # noqa: PLR0913 -- what differs between endpoints of one instance
    method: str,
    summary: str,
    handle: Callable[[Call], Awaitable[Reply]],
    *,
    path: str = ONE,
    data: type[BaseModel] | None = None,
    content_type: str | None = None,
    status: int = 200,
    faults: tuple[Fault, ...] = (NOT_FOUND,),
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        summary=summary,
        tag=TAG,
        handle=handle,
        data=data,
        content_type=content_type,
        status=status,
        kind=_read_kind if method == "GET" else uncounted,
        faults=faults,
    )


async def _told(asked: Awaitable[T]) -> T:
    """What asking one instance's broker raises, in the API's words."""
    try:
        return await asked
    except BrokerFailure as exc:
        raise broker_error(exc) from exc
    except HasNoBroker as exc:
        raise ApiError(409, NO_BROKER.code, str(exc)) from exc
    except NotAtItsBroker as exc:
        raise ApiError(409, NOT_THERE.code, str(exc)) from exc


def _outcome(listed: Listed) -> Outcome:
    return Outcome.OK if listed.failure is None else Outcome.STALE


def _list_kind(call: Call) -> CallKind:
    query = call.asked(InstancesQuery)
    if query.wants_refresh:
        return CallKind.REFRESH
    return CallKind.SYNC if query.mode is Mode.SYNC else CallKind.READ


def _read_kind(_call: Call) -> CallKind:
    return CallKind.READ


def _nothing_to_scan() -> ApiError:
    return ApiError(409, NO_QR.code, "there is nothing to scan: it is connected already, or not ready yet; …/status says which")
