"""Invented bodies of the shapes that gateways send (`tests/fixtures/`), and the way from a body to events."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from worker.domain.catalog import Instance
from worker.domain.event import Event
from worker.domain.ids import InstanceId, TenantId
from worker.gateways import GATEWAYS
from worker.gateways.identity import fresh_key
from worker.gateways.port import Push, finish

FIXTURES = Path(__file__).parent.parent / "fixtures"
RECEIVED_AT = "2026-11-22T07:45:38.300Z"
_events = count(1)


def body_of(gateway: str, name: str) -> Any:
    return orjson.loads((FIXTURES / gateway / f"{name}.json").read_bytes())


def names_of(gateway: str) -> list[str]:
    return sorted(path.stem for path in (FIXTURES / gateway).glob("*.json"))


def changed(body: Any, *path: str | int, to: Any) -> Any:
    """A copy of `body` with another value at `path`."""
    result = copy.deepcopy(body)
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return result


def events_of(
    gateway: str, body: Any, *, headers: Mapping[str, str] | None = None, instance_id: str = "acme-sales", tenant_id: str = "acme"
) -> list[Event]:
    """What `body` (bytes, or a value written as JSON) becomes when filed under an instance."""
    push = Push(headers=headers or {}, body=body if isinstance(body, bytes) else orjson.dumps(body))
    instance = Instance(id=InstanceId(instance_id), tenant_id=TenantId(tenant_id), gateway=gateway, gateway_instance="default")
    return [
        finish(decoded, instance, RECEIVED_AT, "webhook", lambda: fresh_key(1_763_797_538_300, next(_events).to_bytes(10, "big")))
        for decoded in GATEWAYS[gateway].decode(push)
    ]


def event_of(gateway: str, body: Any, *, headers: Mapping[str, str] | None = None, **filing: str) -> Event:
    [event] = events_of(gateway, body, headers=headers, **filing)
    return event
