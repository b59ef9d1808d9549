"""The broker's port: the REST side of a gateway, as far as instances are concerned. One small set of words for four gateways.

A call never retries, ends at its deadline, and says what went wrong in our words (`BrokerFailure`), with what the broker said beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from worker.domain.errors import WorkerError


class BrokerCause(StrEnum):
    """Why a broker could not do it (contract 5, a closed set)."""

    NOT_CONFIGURED = "not_configured"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    SERVICE_UNAVAILABLE = "service_unavailable"
    AUTH = "auth"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    PROTOCOL = "protocol"
    STORAGE = "storage"
    UNKNOWN = "unknown"


class InstanceStatus(StrEnum):
    """What a broker says of an instance."""

    CONNECTED = "connected"
    CONNECTING = "connecting"
    QR_REQUIRED = "qr_required"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    UNKNOWN = "unknown"


class BrokerFailure(WorkerError):
    """Raised when a broker did not do what it was asked. The message names the cause and the next step, and holds no secret.

    `status`, `broker_code`, `request_id`: what the broker answered, where it did. `is_certain` False: it may have been done all the same.
    """

    def __init__(  # noqa: PLR0913 -- one fact each, all of them told to the user (contract 5)
        self,
        cause: BrokerCause,
        message: str,
        *,
        status: int | None = None,
        broker_code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        response_time_ms: int = 0,
        is_certain: bool = True,
        missing: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status
        self.broker_code = broker_code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.response_time_ms = response_time_ms
        self.is_certain = is_certain
        self.missing = missing
        """Settings that are not there, with `NOT_CONFIGURED`."""
        self.attempts = 1
        """How often it was tried: counted by whoever repeats a call (`calling.py`), never by a broker."""


class NoSuchInstance(WorkerError):
    """Raised when the broker says it has no instance of this name."""


class NotConnected(WorkerError):
    """Raised by `picture` when the instance is not connected to WhatsApp, so that nobody can be asked."""


class AlreadyExists(WorkerError):
    """Raised by `create` when the broker has an instance of this name already: an earlier call of ours, or a stranger's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """One declared broker. `timeout_s`: for the whole of a call; `sockets`: whether its stream is read, where it has one.

    Whom it serves is the roster's business.
    """

    id: str
    gateway: str
    url: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 15.0
    sockets: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerInstance:
    """An instance as its broker sees it. `name` is the broker's; `phone_number` digits only; `last_activity` RFC 3339."""

    name: str
    status: InstanceStatus
    phone_number: str | None = field(default=None, repr=False)
    profile_name: str | None = field(default=None, repr=False)
    last_activity: str | None = None


class QrCode(NamedTuple):
    """What to scan: the code's text, or a picture of it, as the broker gives it. One of them may be missing."""

    text: str | None
    png: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where a new instance shall push its events, and the secret to sign them with: at least 32 characters, or wuzapi refuses it."""

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)


class Broker(Protocol):
    """One configured broker. Every method raises `BrokerFailure`; those with a name also `NoSuchInstance`. Cancel-safe.

    Every gateway keeps a name as it is that matches `[a-z0-9_-]{1,54}`: WAHA refuses longer ones, baileys-acessuswpp rewrites others.
    `timeout_s` covers the whole of a call; the broker's own `timeout_s` of the configuration where it is None.
    """

    @property
    def id(self) -> str: ...

    @property
    def gateway(self) -> str: ...

    async def health(self, *, timeout_s: float | None = None) -> None:
        """Returns when the broker says that it is well."""
        ...

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        """All instances this broker has, other people's among them."""
        ...

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:
        """Makes an instance and starts it. Raises `AlreadyExists`. Where a gateway pushes is its own setting at baileys-acessuswpp."""
        ...

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance: ...

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        """None: there is nothing to scan now (connected already, or not ready yet). Asking wakes an instance that is not running."""
        ...

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        """Logs the number out; the instance stays. Idempotent."""
        ...

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        """Removes the instance. Idempotent: one that is not there is removed."""
        ...

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        """URL of a contact's picture; None: there is none, or it is not for us to see. Raises `NotConnected`."""
        ...

    async def close(self) -> None:
        """Closes every connection; idempotent; bounded to 1 s."""
        ...
