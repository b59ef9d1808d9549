"""Which webhooks want an event. Pure, but for a bounded memory of answers: it is asked for each event.

A filter is `type` or `type/subtype`, with `*` allowed for either; no filter at all means everything. `message` and `message/*`
say the same, and both want a message without a subtype too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from worker.domain.catalog import Catalog, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.domain.record import Record

MAX_REMEMBERED = 65_536


class Routable(Protocol):
    """What routing asks of an event; a `Record` is one."""

    @property
    def tenant_id(self) -> TenantId: ...

    @property
    def instance_id(self) -> InstanceId: ...

    @property
    def type(self) -> str: ...

    @property
    def subtype(self) -> str | None: ...


class Router:
    """Answers from memory where it can. When the catalog has changed it wants to `forget`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._remembered: dict[tuple[str, str, str, str | None], tuple[Webhook, ...]] = {}

    def forget(self) -> None:
        self._remembered.clear()

    def routes(self, event: Routable) -> tuple[Webhook, ...]:
        """The enabled webhooks that want this event, in the order they came to be known.

        Those of the event's own tenant, as ingest wrote it down: the instance may be another's by now, deleted, or not known here yet.
        """
        question = (event.tenant_id, event.instance_id, event.type, event.subtype)
        answer = self._remembered.get(question)
        if answer is None:
            # Subtypes may come from outside (`generic`): their number has no bound of its own.
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            candidates = self._catalog.webhooks_for(event.tenant_id, event.instance_id)
            answer = tuple(w for w in candidates if w.enabled and wants(w, event.type, event.subtype))
            self._remembered[question] = answer
        return answer

    def owed(self, record: Record, webhooks: Iterable[Webhook], owed_until: Mapping[WebhookId, str]) -> list[Webhook]:
        """Of `webhooks` those that take new events; and whoever was there when this one was accepted, disabled or deleted since.

        `owed_until`: of the disabled ones. What is owed to them becomes dead letters: it was accepted for somebody.
        """
        at = record.received_at
        takers = [w for w in webhooks if w.id not in owed_until or at <= owed_until[w.id]]
        departed = self._catalog.departed_for(record.tenant_id, record.instance_id, at)
        return takers + [w for w in departed if wants(w, record.type, record.subtype)]


def wants(webhook: Webhook, event_type: str, subtype: str | None) -> bool:
    """Whether the webhook's filters let this kind of event through."""
    return not webhook.events or any(_matches(wanted, event_type, subtype) for wanted in webhook.events)


def _matches(wanted: str, event_type: str, subtype: str | None) -> bool:
    wanted_type, _, wanted_subtype = wanted.partition("/")
    return wanted_type in {"*", event_type} and wanted_subtype in {"", "*", subtype}
