"""The transport's port: one HTTP request to a webhook, under a deadline that covers everything.

What can be expected comes back as a value: `Answer` for any status line, `Failure` for the rest. Only cancellation is
raised. Redirects are never followed, cookies never kept, nothing is retried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from worker.domain.deadline import Deadline


class Stage(StrEnum):
    """Where an attempt spends its time (contract 7, a closed set)."""

    QUEUE = "queue"
    ENRICH = "enrich"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    FIRST_BYTE = "first_byte"
    BODY = "body"


class Cause(StrEnum):
    TIMEOUT = "timeout"
    DNS = "dns"
    REFUSED = "refused"
    RESET = "reset"
    TLS = "tls"
    PROTOCOL = "protocol"
    INVALID_URL = "invalid_url"
    FORBIDDEN = "forbidden_destination"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST, ready to send; `repr` shows neither URL, headers nor body."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The status line came. The body gets at most 1 s and 64 KiB more, behind the caller's back, then the connection is closed."""

    status: int
    retry_after: str | None = None
    phases_s: Mapping[Stage, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No status line. `stage` is where it ended; `detail` is safe to show (no payload, no secret)."""

    stage: Stage
    cause: Cause
    detail: str = ""
    phases_s: Mapping[Stage, float] = field(default_factory=dict)


class Transport(Protocol):
    async def deliver(self, request: Request, deadline: Deadline) -> Answer | Failure:
        """One attempt. Ends at `deadline` plus at most 50 ms. Cancelling closes the connection."""
        ...

    async def close(self) -> None:
        """Closes every connection; idempotent; bounded to 1 s."""
        ...
