"""Webhooks over the API: list, register, show, change, delete (contract 5). What is done with one is `webhooks_acting.py`.

What is registered is a row of the directory; whether it is enabled or paused is a state beside it, for declared webhooks too.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from worker.api.endpoints import ApiError, Call, Endpoint, Fault, PageMeta, Reply
from worker.api.targets import NOT_FOUND, not_found
from worker.api.webhooks_shapes import (
    ManyWebhooks,
    NewWebhook,
    WebhookChange,
    WebhookFacts,
    WebhookMade,
    WebhookShown,
    WebhooksQuery,
    webhook_shown,
    with_secret,
)
from worker.directory.port import Kind, Revision, RowConflict
from worker.directory.registering import Declared, Registrar
from worker.domain.catalog import Catalog, Webhook
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.domain.webhook_rules import is_our_header
from worker.event_integration.attempts_log import AttemptsLog
from worker.event_integration.circuit import CircuitState
from worker.event_integration.standing import Standing
from worker.event_integration.trial import Trials
from worker.event_integration.webhook_states import DisabledReason, WebhookStates

MAX_WEBHOOKS = 1_000
"""Of one tenant."""
TAG = "Webhooks"
ONE = "/api/webhooks/{webhookId}"

FORBIDDEN = Fault(status=409, code="FORBIDDEN_DESTINATION", when="events may not be sent to this URL")
UNKNOWN_INSTANCE = Fault(status=409, code="UNKNOWN_INSTANCE", when="the tenant has no such instance")
RESERVED = Fault(status=409, code="RESERVED_HEADER", when="the worker sets this header itself")
LIMIT = Fault(status=409, code="LIMIT_REACHED", when=f"the tenant has {MAX_WEBHOOKS} webhooks, or a row is larger than may be kept")
DECLARED = Fault(status=409, code="DECLARED_IN_FILE", when="the webhook is declared in the worker's file")
CONFLICT = Fault(status=409, code="CHANGED_MEANWHILE", when="others change the same webhook all the time")

Objection = Callable[[str], Awaitable[str | None]]

log = structlog.get_logger("worker.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a webhook has that does not say otherwise."""

    deadline_s: float
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookServices:
    """What the endpoints work with. `objection` to a URL: why it may not be called; `new_…`: unguessable, fresh each time."""

    catalog: Catalog
    registrar: Registrar
    states: WebhookStates
    standing: Standing
    attempts_log: AttemptsLog
    trials: Trials
    circuit: Callable[[WebhookId], CircuitState]
    objection: Objection
    wall_s: Callable[[], float]
    created_at: Callable[[], str]
    new_id: Callable[[], WebhookId]
    new_secret: Callable[[], str]
    defaults: Defaults


class Finding:
    """The webhook a call is about, and how it is shown."""

    def __init__(self, services: WebhookServices) -> None:
        self._services = services

    async def named(self, call: Call) -> Webhook:
        """The tenant's webhook of this id. Raises `ApiError` 404, for another tenant's as for one that is not there."""
        webhook_id = WebhookId(call.path["webhookId"])
        known = self._services.catalog.webhooks.get(webhook_id)
        if known is None:  # perhaps another worker has just registered it
            stored = await self._services.registrar.find(Kind.WEBHOOK, webhook_id)
            known = stored.row if stored is not None and isinstance(stored.row, Webhook) else None
        if known is None or known.tenant_id != call.tenant_id:
            raise not_found()
        return known

    def shown(self, webhook: Webhook) -> WebhookShown:
        services = self._services
        return webhook_shown(
            webhook,
            services.standing.state_of(webhook.id),
            services.circuit(webhook.id),
            read_only=services.catalog.is_declared(webhook),
            wall_s=services.wall_s(),
        )

    async def changed(self, webhook: Webhook, edit: Callable[[Webhook], Webhook]) -> Webhook:
        """The webhook as `edit` makes it, written. Raises `ApiError`."""
        try:
            row = await self._services.registrar.change(webhook, edit)
        except Declared as exc:
            raise ApiError(409, DECLARED.code, str(exc)) from exc
        except RowConflict as exc:
            raise conflict(exc) from exc
        if row is None:
            raise not_found()
        return row

    async def look(self) -> None:
        """This worker goes by a state that was just written at once; where the store is away again, within seconds like the others."""
        try:
            await self._services.standing.look()
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("webhook_states_not_reached", cause=str(exc), next_step="looked at again within a second")


@dataclass(frozen=True, slots=True)
class _Webhooks:
    """The handlers."""

    services: WebhookServices
    finding: Finding

    async def page(self, call: Call) -> Reply:
        asked = call.asked(WebhooksQuery)
        mine, after = self.services.catalog.webhooks_of_tenant(call.tenant_id), asked.cursor or ""
        ids = heapq.nsmallest(asked.limit + 1, (webhook_id for webhook_id in mine if webhook_id > after))
        shown = [self.finding.shown(mine[webhook_id]) for webhook_id in ids[: asked.limit]]
        return Reply(data=ManyWebhooks(webhooks=shown), meta=PageMeta(next_cursor=shown[-1].id if len(ids) > asked.limit else None))

    async def create(self, call: Call) -> Reply:
        sent, services = call.sent(NewWebhook), self.services
        if len(services.catalog.webhooks_of_tenant(call.tenant_id)) >= MAX_WEBHOOKS:
            raise ApiError(409, LIMIT.code, f"a tenant has at most {MAX_WEBHOOKS} webhooks; delete one that nobody needs")
        await self._check(call.tenant_id, sent.url, sent.instance_ids, sent.headers)
        secret = services.new_secret()
        bare = Webhook(
            id=services.new_id(),
            tenant_id=call.tenant_id,
            url=sent.url,
            instance_ids=frozenset(map(InstanceId, sent.instance_ids)),
            secrets=(secret,),
            created_at=services.created_at(),
        )
        webhook = as_sent(bare, sent, services.defaults)
        if not sent.enabled:  # before anybody can route to it
            await services.states.disable(webhook.id, DisabledReason.BY_HAND)
            await self.finding.look()
        try:
            await services.registrar.put(webhook, expected=Revision(0))
        except RowConflict as exc:
            raise conflict(exc) from exc
        log.info("webhook_created", webhook=webhook.id)
        return Reply(status=201, data=with_secret(self.finding.shown(webhook), secret))

    async def show(self, call: Call) -> Reply:
        return Reply(data=self.finding.shown(await self.finding.named(call)))

    async def change(self, call: Call) -> Reply:
        sent, webhook = call.sent(WebhookChange), await self.finding.named(call)
        named = {name: getattr(sent, name) for name in sent.model_fields_set}
        enabled = named.pop("enabled", None)
        if named:
            await self._check(call.tenant_id, named.get("url"), named.get("instance_ids", ()), named.get("headers", {}))
            webhook = await self.finding.changed(webhook, lambda row: replace(row, **_as_in_row(named)))
            log.info("webhook_changed", webhook=webhook.id, fields=sorted(named))
        if enabled is not None:
            await self._enable(webhook, enabled=enabled)
        return Reply(data=self.finding.shown(webhook))

    async def delete(self, call: Call) -> Reply:
        webhook = await self.finding.named(call)
        try:
            was_there = await self.services.registrar.depart(webhook, self.services.created_at())
        except Declared as exc:
            raise ApiError(409, DECLARED.code, str(exc)) from exc
        if not was_there:
            raise not_found()
        log.info("webhook_deleted", webhook=webhook.id, next_step="what waited for it becomes dead letters")
        try:
            await self.services.states.forget(webhook.id)
            await self.services.attempts_log.forget(webhook.id)
        except StoreUnavailable as exc:  # it is deleted, whoever remembers it; its log ends by itself
            log.warning("webhook_not_forgotten", webhook=webhook.id, cause=str(exc), next_step="none; nothing goes by what is left of it")
        return Reply(status=204)

    async def _enable(self, webhook: Webhook, *, enabled: bool) -> None:
        if enabled:
            await self.finding.look()
            was_disabled = webhook.id in self.services.standing.disabled
            await self.services.states.enable(webhook.id)
            if was_disabled:  # an owner who has not heard of it would route nothing to it, and what is accepted now would be nobody's
                await self.services.standing.until_known_everywhere()
        else:
            await self.services.states.disable(webhook.id, DisabledReason.BY_HAND)
        await self.finding.look()

    async def _check(self, tenant_id: TenantId, url: str | None, instance_ids: Any, headers: Mapping[str, str]) -> None:  # noqa: ANN401 -- strings
        """What no schema can say. Raises `ApiError` 409."""
        for instance_id in dict.fromkeys(instance_ids):
            if not await self._has_instance(tenant_id, instance_id):
                message = "the tenant has no such instance; GET /api/integrations/whatsapp/instances lists those there are"
                raise ApiError(409, UNKNOWN_INSTANCE.code, message, details={"instanceId": instance_id})
        await expect_allowed(self.services.objection, url, headers)

    async def _has_instance(self, tenant_id: TenantId, instance_id: str) -> bool:
        instance = await self.services.registrar.find_instance(instance_id)
        return instance is not None and instance.tenant_id == tenant_id


def webhook_endpoints(services: WebhookServices) -> list[Endpoint]:
    """A tenant's webhooks, one by one and all."""
    finding = Finding(services)
    webhooks = _Webhooks(services, finding)
    rules = (FORBIDDEN, UNKNOWN_INSTANCE, RESERVED, LIMIT)
    return [
        Endpoint(
            method="GET", path="/api/webhooks", summary="List webhooks", tag=TAG,
            handle=webhooks.page, query=WebhooksQuery, data=ManyWebhooks, meta=PageMeta,
        ),
        Endpoint(
            method="POST", path="/api/webhooks", summary="Register a webhook; its secret is shown once", tag=TAG,
            handle=webhooks.create, body=NewWebhook, status=201, data=WebhookMade, faults=rules,
        ),
        Endpoint(method="GET", path=ONE, summary="Show a webhook", tag=TAG, handle=webhooks.show, data=WebhookShown, faults=(NOT_FOUND,)),
        Endpoint(
            method="PATCH", path=ONE, summary="Change a webhook, enable or disable it", tag=TAG,
            handle=webhooks.change, body=WebhookChange, data=WebhookShown, faults=(NOT_FOUND, DECLARED, CONFLICT, *rules),
        ),
        Endpoint(
            method="DELETE", path=ONE, summary="Delete a webhook; what waits for it becomes dead letters", tag=TAG,
            handle=webhooks.delete, status=204, faults=(NOT_FOUND, DECLARED),
        ),
    ]  # fmt: skip


def as_sent(bare: Webhook, sent: WebhookFacts, defaults: Defaults) -> Webhook:
    """`bare` with what was sent; where that is silent, as the operator's settings say."""
    return replace(
        bare,
        url=sent.url,
        events=tuple(sent.events),
        format=sent.format,
        ordering=sent.ordering,
        deadline_s=sent.deadline_s or defaults.deadline_s,
        max_in_flight=sent.max_in_flight or defaults.max_in_flight,
        headers=dict(sent.headers),
        description=sent.description,
    )


async def expect_allowed(objection: Objection, url: str | None, headers: Mapping[str, str]) -> None:
    """What no schema can say of a URL and of headers. Raises `ApiError` 409."""
    reserved = sorted(name for name in headers if is_our_header(name))
    if reserved:
        message = f"the worker sets {', '.join(reserved)} itself; leave it out or choose another name"
        raise ApiError(409, RESERVED.code, message, details={"headers": reserved})
    why_not = None if url is None else await objection(url)
    if why_not is not None:
        raise ApiError(409, FORBIDDEN.code, f"events may not be sent to this URL: {why_not}", details={"reason": why_not})


def conflict(exc: RowConflict) -> ApiError:
    if exc.what == "room":
        return ApiError(409, LIMIT.code, "the directory has no room for it; name fewer instances or headers, or delete what nobody needs")
    return ApiError(409, CONFLICT.code, "others change this webhook at the same time; try again")


def _as_in_row(named: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of the API are sets and tuples of the row."""
    kinds: Mapping[str, Callable[[Any], Any]] = {"instance_ids": frozenset, "events": tuple, "headers": dict}
    return {name: kinds[name](value) if name in kinds else value for name, value in named.items()}
