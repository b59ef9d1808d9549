"""Meta's Cloud API: `{"object", "entry": [{"id", "changes": [{"field", "value"}]}]}`, several events in one body. Pure.

Source: Meta's webhook reference, and captured bodies. One value may hold messages, statuses and errors side by side, one
body the events of several phone numbers. The instance is `metadata.phone_number_id`. Statuses come out of order, and
again for up to seven days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from worker.domain.errors import MalformedEvent
from worker.gateways import cloud_api_items
from worker.gateways.cloud_api_envelope import Change, around
from worker.gateways.port import Decoded, Push
from worker.gateways.reading import json_body
from worker.gateways.signatures import after_scheme, is_same, matches_any

ACCEPTED_STATUS = 200
"""Meta wants a 200."""
PUBLISHED_SECRETS: frozenset[str] = frozenset()
MAX_EVENTS = 4096
"""A body with more is kept whole, as one event: nothing is refused that Meta would send again for a week."""
_MAX_CHALLENGE_CHARS = 256


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the raw body with the app secret>`."""
    return matches_any(after_scheme(push.headers.get("x-hub-signature-256"), "sha256"), push.body, secrets, "sha256")


def challenge(query: Mapping[str, str], verify_token: str) -> str | None:
    """What to answer to Meta's GET, as text; None: the token is wrong or this is no subscription (answer 403)."""
    token, answer = query.get("hub.verify_token", ""), query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not is_same(token, verify_token) or not verify_token:
        return None
    return answer if 0 < len(answer) <= _MAX_CHALLENGE_CHARS else None


def decode(push: Push) -> list[Decoded]:
    """In the body's order. Raises `MalformedEvent` where there is no `entry` or nothing in it."""
    raw, body = json_body(push.body)
    if not isinstance(body, dict):
        raise MalformedEvent("body", "must be an object")
    if not isinstance(body.get("entry"), list):
        raise MalformedEvent("entry", "must be a list")
    items = list(islice(_items(body), MAX_EVENTS + 1))
    if not items:
        raise MalformedEvent("entry", "holds no event")
    if len(items) == 1:
        return [cloud_api_items.decoded(*items[0], raw)]
    decoded: list[Decoded] = []
    for item in items:
        alone = around(*item)
        if alone is None or len(items) > MAX_EVENTS:
            return [cloud_api_items.undecodable(None, raw)]
        decoded.append(cloud_api_items.decoded(*item, alone))
    return decoded


def _items(body: Mapping[str, Any]) -> Iterator[tuple[Change, str | None, Any]]:
    """Every event: its change, the list it stood in (None: the change itself is the event), and itself."""
    for entry in body["entry"]:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            yield Change(body, entry, None), None, entry
            continue
        for written in changes:
            change = Change(body, entry, written)
            lists = [] if change.is_one_event else change.lists
            for name, items in lists:
                yield from ((change, name, item) for item in items)
            if not lists:
                yield change, None, written
