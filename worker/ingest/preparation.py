"""From a push or a socket's frame to records: verify, decode, find whose each event is, encode.

Pure but for the stamps; may run off the loop.

A fault in a gateway's module costs nobody an event: the body is kept whole as `unknown/undecodable` under the path's instance.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson

from worker.domain.catalog import Catalog, Instance
from worker.domain.errors import MalformedEvent
from worker.domain.event import Event, EventType
from worker.domain.ids import EventKey, Shard, shard_of
from worker.domain.record import encode, is_json
from worker.gateways.forms import form_of
from worker.gateways.port import JSON, Decoded, Gateway, Push, finish
from worker.gateways.redaction import redacted
from worker.journal.port import NewEvent

BY_PUSH = "webhook"
"""What events that were pushed say of how they came; a connector names its own (`websocket`, `sse`)."""
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """What is not pure: the wall clock as RFC 3339, and keys for events without identity."""

    received_at: Callable[[], str]
    fresh_key: Callable[[], EventKey]


class Prepared(NamedTuple):
    """Ready to append. `types[i]` is of `items[i]`; `misnamed`: the names, one per event, that nobody registered."""

    items: list[tuple[Shard, NewEvent]]
    types: list[EventType]
    misnamed: list[str]
    fault: Exception | None


class Unverified(NamedTuple):
    """The push is not signed as its instance wants. `fault`: the check itself failed, which counts as unsigned."""

    fault: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Everything a push is measured against; the same for all pushes until the catalog changes."""

    catalog: Catalog
    shards: int
    stamps: Stamps = field(repr=False)

    def prepare(self, gateway: Gateway, instance: Instance, push: Push) -> Prepared | Unverified | MalformedEvent:
        """The events of the push, in the body's order, each under its instance."""
        if instance.ingest_secrets:
            try:
                is_signed = gateway.verify(replace(push, received_at=self.stamps.received_at()), instance.ingest_secrets)
            except Exception as exc:  # noqa: BLE001 -- a fault in the check must never let a push in
                return Unverified(exc)
            if not is_signed:
                return Unverified(None)
        try:
            return self._decoded(gateway, instance, push, BY_PUSH)
        except MalformedEvent as exc:
            return exc

    def prepare_frame(self, gateway: Gateway, instance: Instance, body: bytes, transport: str) -> Prepared:
        """The events of a frame of the instance's own stream: nothing to verify, and nobody to refuse it to.

        One that is not the gateway's envelope at all is kept whole, with `MalformedEvent` as its fault.
        """
        frame = Push(body=body)
        try:
            return self._decoded(gateway, instance, frame, transport)
        except MalformedEvent as exc:
            return self._encoded([_whole(frame)], instance, transport)._replace(fault=exc)

    def _decoded(self, gateway: Gateway, instance: Instance, push: Push, transport: str) -> Prepared:
        """Raises `MalformedEvent`."""
        try:
            return self._encoded(gateway.decode(push), instance, transport)
        except MalformedEvent:
            raise
        except Exception as exc:  # noqa: BLE001 -- a fault in a gateway's module must not cost the event
            return self._encoded([_whole(push)], instance, transport)._replace(fault=exc)

    def _encoded(self, decoded: list[Decoded], path_instance: Instance, transport: str) -> Prepared:
        received_at = self.stamps.received_at()
        prepared = Prepared([], [], [], None)
        for one in decoded:
            instance = self._owner(one, path_instance)
            if instance is None:
                instance = path_instance
                prepared.misnamed.append(one.gateway_instance or "")
            event = finish(one, instance, received_at, transport, self.stamps.fresh_key)
            prepared.items.append((shard_of(instance.id, self.shards), _new(event)))
            prepared.types.append(event.type)
        return prepared

    def _owner(self, decoded: Decoded, path_instance: Instance) -> Instance | None:
        """The instance that the body names, among those of the path's tenant and gateway; the path's where it names none."""
        name = decoded.gateway_instance
        if name is None or name == path_instance.gateway_instance:
            return path_instance
        return self.catalog.named(path_instance.tenant_id, path_instance.gateway, name)


def _new(event: Event) -> NewEvent:
    return NewEvent(event_key=event.event_key, tenant_id=event.tenant_id, record=encode(event), remembered=event.remembered)


def _whole(push: Push) -> Decoded:
    """The body as one event, its secrets overwritten; called JSON only where it is (a record embeds it unread)."""
    content_type = push.headers.get("content-type", "")
    clean = redacted(push.body)
    if _holds_json(push.body):
        content_type = JSON
    else:
        with suppress(MalformedEvent):
            clean = form_of(clean, content_type).redacted().body
        if not content_type.isascii() or not content_type or is_json(content_type):
            content_type = OCTETS
    return Decoded(type=EventType.UNKNOWN, subtype="undecodable", raw=clean, raw_content_type=content_type)


def _holds_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
