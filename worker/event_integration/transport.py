"""The transport's port: one HTTP request to a webhook, under a deadline that covers everything.

What can be expected comes back as a value: `Answer` for any status line, `Failure` for the rest. Only cancellation is
raised. Redirects are never followed, cookies never kept, nothing is retried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

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
    FORBIDDEN = "forbidden_destination"
    INTERNAL = "internal"


class Request(NamedTuple):
    """A POST, ready to send; `repr` shows neither URL, headers nor body.

    A tuple, as `Answer` and `Deadline` are: one of each per attempt, at a third of a frozen dataclass's cost.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Request of {len(self.body)} bytes>"


_NO_PHASES: Mapping[Stage, float] = MappingProxyType({})


class Answer(NamedTuple):
    """The status line came. The body gets at most 1 s and 64 KiB more, behind the caller's back, then the connection is closed."""

    status: int
    retry_after: str | None = None
    phases_s: Mapping[Stage, float] = _NO_PHASES


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
