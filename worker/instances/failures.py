"""What our user is told when a broker failed: contract 5's codes, one for each situation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from worker.instances.broker import BrokerCause, BrokerFailure


class Told(NamedTuple):
    """`status` is the HTTP status of our own answer; the broker's stands in the details."""

    status: int
    code: str


class CircuitOpen(BrokerFailure):
    """Raised instead of a call while the broker's circuit is open. Cause and status are those of the failure that opened it."""


NOT_CONFIGURED = Told(503, "WHATSAPP_NOT_CONFIGURED")
STORAGE_UNAVAILABLE = Told(503, "WHATSAPP_STORAGE_UNAVAILABLE")
UNAVAILABLE = Told(503, "BROKER_UNAVAILABLE")
TIMEOUT = Told(504, "BROKER_TIMEOUT")
AUTH = Told(502, "BROKER_AUTH")
QUOTA_EXCEEDED = Told(429, "BROKER_QUOTA_EXCEEDED")
CIRCUIT_OPEN = Told(503, "CIRCUIT_BREAKER_OPEN")
OTHER = Told(502, "BROKER_ERROR")

BY_CAUSE: Mapping[BrokerCause, Told] = MappingProxyType(
    {
        BrokerCause.NOT_CONFIGURED: NOT_CONFIGURED,
        BrokerCause.STORAGE: STORAGE_UNAVAILABLE,
        BrokerCause.DNS: UNAVAILABLE,
        BrokerCause.CONNECT: UNAVAILABLE,
        BrokerCause.TLS: UNAVAILABLE,
        BrokerCause.SERVICE_UNAVAILABLE: UNAVAILABLE,
        BrokerCause.TIMEOUT: TIMEOUT,
        BrokerCause.AUTH: AUTH,
        BrokerCause.QUOTA: QUOTA_EXCEEDED,
        BrokerCause.RATE_LIMITED: QUOTA_EXCEEDED,
        BrokerCause.PROTOCOL: OTHER,
        BrokerCause.UNKNOWN: OTHER,
    }
)


def told(failure: BrokerFailure) -> Told:
    """Our status and code for it."""
    return CIRCUIT_OPEN if isinstance(failure, CircuitOpen) else BY_CAUSE[failure.cause]


def details(failure: BrokerFailure) -> dict[str, Any]:
    """`error.details`: what the broker answered, as far as it did."""
    found: dict[str, Any] = {
        "cause": failure.cause.value,
        "status": failure.status,
        "brokerCode": failure.broker_code,
        "responseTimeMs": failure.response_time_ms,
        "requestId": failure.request_id,
        "retryAfterS": failure.retry_after_s,
    }
    return found | {"missing": list(failure.missing)} if failure.missing else found


def not_configured(*missing: str) -> BrokerFailure:
    """The settings named do not exist (any more)."""
    message = f"no broker is configured for this: {', '.join(missing)}; an operator adds it to the worker's settings"
    return BrokerFailure(BrokerCause.NOT_CONFIGURED, message, missing=missing)
