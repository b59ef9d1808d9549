"""Evolution API v2, `{"event", "instance", "data", "date_time", …}`, and evolution-go, whose `data` is an event of whatsmeow. Pure.

Source: Evolution API 2.3 and evolution-go 0.6 as published, bodies captured by users. `data` is an object or, of one and the same
event, a list: then each item is an event. The instance's `apikey` stands in every body and is overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from worker.domain.errors import MalformedEvent
from worker.domain.event import EventType
from worker.gateways.evolution_items import KEPT_TOGETHER, Item, canonical_name, fields_of_item
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import id_at, json_body, text_at
from worker.gateways.web_tokens import bearer, is_signed_by_any
from worker.gateways.whatsmeow import Told, fields_of, known_kind

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"429683C4C977415CAAFCCE10F7D57E11", "BQYHJGJHJ"})
MAX_EVENTS = 4096
"""A body with more is kept whole, as one event."""

_MAX_FRAME_BYTES = 2048
"""What is repeated around each event of a body; a larger frame is cut to its ids, so that n events never cost n bodies."""
_FRAME_IDS = ("event", "instance", "date_time", "sender")


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`Authorization: Bearer <JWT>`, HS256 with the webhook's `jwt_key`; the body itself is not signed."""
    at_s = None if push.received_at is None else datetime.fromisoformat(push.received_at).timestamp()
    return is_signed_by_any(bearer(push.headers.get("authorization")), secrets, at_s)


def decode(push: Push) -> list[Decoded]:
    """One for each item of `data`. Raises `MalformedEvent` where the body is no object with an `event`."""
    raw, whole = json_body(push.body)
    if not isinstance(whole, dict):
        raise MalformedEvent("body", "must be an object")
    event = text_at(whole, "event")
    if event is None:
        raise MalformedEvent("event", "must be a text that is not empty")
    name = canonical_name(event)
    if name is None and (kind := known_kind(event)) is not None:
        return [_of_evolution_go(kind, whole, raw)]
    instance = id_at(whole, "instance") or id_at(whole, "instanceName") or id_at(whole, "instanceId")
    data = whole.get("data")
    items = data if isinstance(data, list) and data and name is not None and name not in KEPT_TOGETHER else [data]
    if len(items) == 1:
        return [Decoded(gateway_instance=instance, raw=raw, **fields_of_item(Item(name, event, items[0], 0, whole, raw)))]
    decoded: list[Decoded] = []
    frame = _frame(whole)
    for nth, part in enumerate(items):
        alone = _around(frame, part)
        if alone is None or len(items) > MAX_EVENTS:
            return [Decoded(gateway_instance=instance, type=EventType.UNKNOWN, subtype="undecodable", raw=raw)]
        decoded.append(Decoded(gateway_instance=instance, raw=alone, **fields_of_item(Item(name, event, part, nth, whole, alone))))
    return decoded


def _of_evolution_go(kind: str, whole: Mapping[str, Any], raw: bytes) -> Decoded:
    told = Told(kind=kind, event=whole.get("data"), text=raw, state=text_at(whole, "state"))
    named = id_at(whole, "instanceName") or id_at(whole, "instanceId") or id_at(whole, "instance")
    return Decoded(gateway_instance=named, raw=raw, **fields_of(told))


def _frame(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope without its `data`, whose place it keeps."""
    frame = {**whole, "data": None}
    try:
        is_small = len(orjson.dumps(frame)) <= _MAX_FRAME_BYTES
    except TypeError:
        is_small = False
    return frame if is_small else {name: known for name in _FRAME_IDS if (known := id_at(whole, name)) is not None}


def _around(frame: dict[str, Any], part: Any) -> bytes | None:
    """The body that the gateway would have sent for this one item; None where it is nested too deeply to be written again."""
    try:
        return orjson.dumps({**frame, "data": [part]})
    except TypeError:
        return None
