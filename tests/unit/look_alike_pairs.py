"""What a pair of pushes is, and how one is written down. The pairs themselves are in `look_alikes.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tests.unit.gateway_bodies import body_of, changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A request to the ingest door of one instance."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"}, repr=False)
    tenant_id: str = "acme"
    instance_id: str = "acme-sales"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    name: str
    gateway: str
    first: Pushed
    second: Pushed


def pair(name: str, gateway: str, first: Any, second: Any, *, tenant_id: str = "acme", instance_id: str = "acme-sales") -> Pair:
    """Of two bodies (bytes, forms, or values written as JSON); the second may go elsewhere."""
    elsewhere = replace(_pushed(second), tenant_id=tenant_id, instance_id=instance_id)
    return Pair(name=name, gateway=gateway, first=_pushed(first), second=elsewhere)


def form(body: bytes) -> Pushed:
    return Pushed(body=body, headers={"content-type": "application/x-www-form-urlencoded"})


def _pushed(body: Any) -> Pushed:
    if isinstance(body, Pushed):
        return body
    return Pushed(body=body if isinstance(body, bytes) else orjson.dumps(body))


def of(gateway: str, name: str, *changes: tuple[tuple[str | int, ...], Any]) -> Any:
    """A fixture's body with other values at some paths."""
    body = body_of(gateway, name)
    for path, value in changes:
        body = changed(body, *path, to=value)
    return body


def rewritten(body: Any) -> bytes:
    """The same JSON value in other bytes: keys the other way round, spaces, escapes."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    return json.dumps(turned(body), indent=3, ensure_ascii=True).encode()
