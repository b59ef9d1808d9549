"""`POST /api/integrations/whatsapp/instances`: from what is sent to an order, from what became of it to an answer that can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
import structlog

from worker.api.endpoints import ApiError, Call, Reply
from worker.api.instances_shapes import InstanceMade, NewInstance, NewWebhookMade, full
from worker.api.webhooks import LIMIT, MAX_WEBHOOKS, Defaults, Objection, as_sent, expect_allowed
from worker.api.webhooks_shapes import WebhookFacts
from worker.directory.port import Revision, RowConflict
from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog, Instance, Webhook
from worker.domain.deadline import Deadline
from worker.domain.ids import InstanceId, WebhookId
from worker.gateways import DEFAULT_SECRETS
from worker.instances.broker import BrokerFailure
from worker.instances.creating import CREATE_S, Creating, Order, Plan, Refused
from worker.instances.failures import details, told
from worker.instances.idempotency import Repeatable
from worker.instances.listing import Listing
from worker.instances.once import KeyReused, Once, StillRunning
from worker.instances.stages import Stage, Stages

log = structlog.get_logger("worker.api")

CREATED = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhooks:
    """What a webhook that is made with its instance needs: as for any other."""

    defaults: Defaults
    objection: Objection
    new_id: Callable[[], WebhookId]
    new_secret: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Creation:
    """The handler of the endpoint, and what it works with. `clock` is monotonic."""

    catalog: Catalog
    registrar: Registrar
    creating: Creating
    listing: Listing
    once: Once
    stages: Stages
    webhooks: NewWebhooks
    clock: Callable[[], float]

    async def create(self, call: Call) -> Reply:
        body = call.sent(NewInstance)
        if body.attach is not None and not call.is_admin:
            raise ApiError(403, "ADMIN_KEY_REQUIRED", "only the operator attaches what a broker has already; leave `attach` out")
        try:
            await self._expect_possible(call, body)
            order = _order(call, body)
            plan = self.creating.plan(order, spare=self._spare(body))
            if call.idempotency_key is None:
                return await self._without_key(order, plan, body)
            return await self._with_key(call, call.idempotency_key, order, plan)
        except Refused as exc:
            raise _refusal(exc) from exc
        except KeyReused as exc:
            raise ApiError(422, "IDEMPOTENCY_KEY_REUSED", str(exc)) from exc
        except StillRunning as exc:
            raise ApiError(503, "STILL_CREATING", str(exc), retry_after_s=2) from exc
        except BrokerFailure as exc:
            raise broker_error(exc) from exc

    async def _without_key(self, order: Order, plan: Plan, body: NewInstance) -> Reply:
        """Nobody can go on with a failed call without a key: its row goes, unless the broker may have made the instance after all."""
        try:
            return Reply(status=CREATED, data=await self._made(order, plan, body.webhook))
        except BrokerFailure as failure:
            if failure.is_certain:
                await self.creating.discard(plan)
            raise

    async def _with_key(self, call: Call, key: str, order: Order, plan: Plan) -> Reply:
        body = call.sent(NewInstance)
        # Without what is left to its default: a field that a later version adds must not make another body of this one.
        asked = orjson.dumps(body.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)

        async def final(first_plan: bytes) -> bytes:
            try:
                made = await self._made(order, Plan.read(first_plan), body.webhook)
            except Refused as exc:
                return orjson.dumps({"code": exc.code, "message": str(exc), "details": dict(exc.details)})
            return made.model_dump_json(by_alias=True).encode()

        repeatable = Repeatable(order.tenant_id, key, sha256(asked).hexdigest())
        answer = await self.once.run(repeatable, plan.written(), final, Deadline("create", self.clock() + CREATE_S))
        said: Mapping[str, Any] = orjson.loads(answer)
        if "code" in said:
            raise ApiError(409, said["code"], said["message"], details=said["details"])
        # The first answer's very bytes, whatever a later version would have said.
        return Reply(status=CREATED, content=b'{"success":true,"data":%s}' % answer)

    async def _made(self, order: Order, plan: Plan, webhook: WebhookFacts | None) -> InstanceMade:
        deadline = Deadline("create", self.clock() + CREATE_S)
        instance = await self.stages.timed(order.tenant_id, Stage.CREATE, self.creating.create(order, plan, deadline))
        made = None if webhook is None else await self._webhook(instance, plan, webhook)
        entry = await self.listing.entry(instance)
        count = len(self.catalog.webhooks_of(instance.id))
        shown = full(entry, count, read_only=False).model_dump()
        log.info("instance_created", instance=instance.id, gateway=instance.gateway, broker=instance.broker)
        return InstanceMade(**shown, ingest_secret=plan.ingest_secret, ingest_verify_token=plan.verify_token, webhook=made)

    async def _webhook(self, instance: Instance, plan: Plan, asked: WebhookFacts) -> NewWebhookMade:
        """Its id and secret are the plan's: a repeated call finds its own."""
        bare = Webhook(
            id=WebhookId(plan.spare["webhookId"]),
            tenant_id=instance.tenant_id,
            url=asked.url,
            instance_ids=frozenset({instance.id}),
            secrets=(plan.spare["webhookSecret"],),
            created_at=plan.created_at,
        )
        row = as_sent(bare, asked, self.webhooks.defaults)
        try:
            await self.registrar.put(row, expected=Revision(0))
        except RowConflict as exc:
            if exc.what == "room":  # what is there already is our own, of an earlier try
                message = "the instance is made, its webhook is not: this deployment holds as many as it may; delete some, then add it"
                raise Refused(LIMIT.code, message, instanceId=instance.id) from exc
        return NewWebhookMade(id=row.id, secret=row.secrets[0])

    def _spare(self, body: NewInstance) -> Mapping[str, str]:
        if body.webhook is None:
            return {}
        return {"webhookId": self.webhooks.new_id(), "webhookSecret": self.webhooks.new_secret()}

    async def _expect_possible(self, call: Call, body: NewInstance) -> None:
        if body.ingest_secret is not None and body.ingest_secret in DEFAULT_SECRETS[body.gateway.value]:
            raise Refused("INGEST_SECRET_IS_PUBLIC", "this secret is a published default and proves nothing; choose one of your own")
        if body.webhook is not None:
            if len(self.catalog.webhooks_of_tenant(call.tenant_id)) >= MAX_WEBHOOKS:
                raise Refused(LIMIT.code, f"a tenant has at most {MAX_WEBHOOKS} webhooks; delete one that nobody needs, or leave it out")
            await expect_allowed(self.webhooks.objection, body.webhook.url, body.webhook.headers)


def _order(call: Call, body: NewInstance) -> Order:
    return Order(
        tenant_id=call.tenant_id,
        name=body.name,
        gateway=body.gateway.value,
        id=None if body.id is None else InstanceId(body.id),
        broker=body.broker,
        attach=body.attach,
        ingest_secret=body.ingest_secret,
    )


def _refusal(refused: Refused) -> ApiError:
    return ApiError(409, refused.code, str(refused), details=refused.details)


def broker_error(failure: BrokerFailure) -> ApiError:
    """Contract 5: our status and code, its cause, what the broker said."""
    status, code = told(failure)
    return ApiError(status, code, str(failure), details=details(failure), retry_after_s=failure.retry_after_s)
