"""The answers of the door (contract 3), as values. Pure. The shape of an error is `{"code", "field"?, "message"}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from worker.ingest.door import Refusal

JSON = "application/json"
OUR_OWN = "generic"
"""The gateway whose body is our own envelope: whoever makes it can mend it."""
SHOWN_CHARS = 64

_REFUSED: Mapping[Refusal, tuple[int, str]] = {
    Refusal.JOURNAL_FULL: (10, "too much waits for delivery; send again later, and look at /status for the webhooks that do not answer"),
    Refusal.TENANT_BACKLOG_FULL: (10, "this tenant's backlog is full; send again later, and look at /status for its webhooks"),
    Refusal.JOURNAL_UNAVAILABLE: (2, "the event could not be made durable in time; send it again"),
    Refusal.DRAINING: (1, "this worker is going away; send it again, another one takes it"),
}
"""Seconds for `Retry-After`, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the gateway is told. `code` is what metrics count: the error's code, or `accepted`."""

    status: int
    body: bytes = field(repr=False)
    code: str
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 -- the class of HTTP statuses that says "received"


def accepted(status: int, events: int, duplicates: int) -> Reply:
    return Reply(status=status, body=b'{"accepted":%d,"duplicates":%d}' % (events, duplicates), code="accepted")


def refused(why: Refusal) -> Reply:
    retry_after_s, message = _REFUSED[why]
    return _error(503, why.value, message, headers={"Retry-After": str(retry_after_s)})


def malformed(named_field: str, why: str, gateway: str | None = None) -> Reply:
    """`gateway` None: it broke before anybody asked for whom it is."""
    what_next = "see docs/gateways.md, generic" if gateway == OUR_OWN else "send the gateway's own body unchanged"
    message = f"{why}; nothing was stored: {what_next}"
    return _error(400, "MALFORMED_EVENT", message, named_field=named_field)


def bad_signature() -> Reply:
    return _error(401, "BAD_SIGNATURE", "signature missing or wrong; sign with one of the instance's ingest_secrets")


def unknown_instance() -> Reply:
    return _error(404, "UNKNOWN_INSTANCE", "no instance of this gateway is registered under this id; register it or correct the URL")


def unknown_gateway(gateway: str, known: Iterable[str]) -> Reply:
    return _error(404, "UNKNOWN_INSTANCE", f'no gateway "{gateway[:SHOWN_CHARS]}"; one of {", ".join(known)}')


def too_large(message: str) -> Reply:
    return _error(413, "BODY_TOO_LARGE", message)


def too_slow() -> Reply:
    return _error(
        408, "BODY_TOO_SLOW", "the body did not arrive in time; nothing was stored: send it again", headers={"Connection": "close"}
    )


def challenge_met(challenge: str) -> Reply:
    """Meta's handshake: its own text back."""
    return Reply(
        status=200, body=challenge.encode(), code="challenge", content_type="text/plain", headers={"X-Content-Type-Options": "nosniff"}
    )


def challenge_failed() -> Reply:
    return _error(403, "BAD_VERIFY_TOKEN", "hub.verify_token is not the instance's ingest_verify_token; set the same on both sides")


def _error(status: int, code: str, message: str, *, named_field: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    body = {"code": code, "message": message} if named_field is None else {"code": code, "field": named_field, "message": message}
    return Reply(status=status, body=orjson.dumps(body), code=code, headers=headers or {})
