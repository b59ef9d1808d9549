"""Which webhooks may get what is replayed. Owns the rules for gone, disabled and paused ones; asked by everything that replays.

A webhook that is gone or disabled takes nothing: what is sent there would be a dead letter again at once. A paused one takes all: it
waits in the queue like everything else of that webhook.
"""

from __future__ import annotations

from collections.abc import Container

from worker.api.endpoints import ApiError, Fault
from worker.domain.catalog import Catalog, Webhook
from worker.domain.ids import TenantId, WebhookId

NOT_FOUND = Fault(status=404, code="WEBHOOK_NOT_FOUND", when="there is no such webhook of this tenant")
GONE = Fault(status=409, code="WEBHOOK_GONE", when="the letter's own webhook is gone, and no other was named with `webhookId`")
DISABLED = Fault(status=409, code="WEBHOOK_DISABLED", when="the webhook is disabled: what is sent there would die again at once")


class Targets:
    """`disabled` is looked at anew each time."""

    def __init__(self, catalog: Catalog, disabled: Container[WebhookId]) -> None:
        self._catalog = catalog
        self._disabled = disabled

    def of_tenant(self, tenant_id: TenantId, webhook_id: str) -> Webhook | None:
        return self._catalog.webhooks_of_tenant(tenant_id).get(WebhookId(webhook_id))

    def named(self, tenant_id: TenantId, webhook_id: str) -> Webhook:
        """The webhook a caller asked for. Raises `ApiError`."""
        webhook = self.of_tenant(tenant_id, webhook_id)
        if webhook is None:
            raise not_found()
        if not self.takes(webhook):
            raise ApiError(
                DISABLED.status, DISABLED.code, "the webhook is disabled; enable it first (PATCH enabled: true), or name another"
            )
        return webhook

    def takes(self, webhook: Webhook) -> bool:
        return webhook.enabled and webhook.id not in self._disabled


def not_found() -> ApiError:
    return ApiError(NOT_FOUND.status, NOT_FOUND.code, "no such webhook; GET /api/webhooks lists those there are")
