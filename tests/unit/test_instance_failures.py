"""What our user is told when a broker fails (contract 5, its table of codes)."""

from __future__ import annotations

import pytest

from worker.instances.broker import BrokerCause, BrokerFailure
from worker.instances.failures import CircuitOpen, details, not_configured, told

TABLE = {
    "not_configured": (503, "WHATSAPP_NOT_CONFIGURED"),
    "storage": (503, "WHATSAPP_STORAGE_UNAVAILABLE"),
    "dns": (503, "BROKER_UNAVAILABLE"),
    "connect": (503, "BROKER_UNAVAILABLE"),
    "tls": (503, "BROKER_UNAVAILABLE"),
    "service_unavailable": (503, "BROKER_UNAVAILABLE"),
    "timeout": (504, "BROKER_TIMEOUT"),
    "auth": (502, "BROKER_AUTH"),
    "quota": (429, "BROKER_QUOTA_EXCEEDED"),
    "rate_limited": (429, "BROKER_QUOTA_EXCEEDED"),
    "protocol": (502, "BROKER_ERROR"),
    "unknown": (502, "BROKER_ERROR"),
}


@pytest.mark.parametrize("cause", BrokerCause)
def test_every_cause_has_its_code(cause: BrokerCause) -> None:
    assert tuple(told(BrokerFailure(cause, "x"))) == TABLE[cause.value]


@pytest.mark.parametrize("cause", BrokerCause)
def test_a_circuit_that_is_open_is_told_as_that_whatever_opened_it(cause: BrokerCause) -> None:
    assert tuple(told(CircuitOpen(cause, "x"))) == (503, "CIRCUIT_BREAKER_OPEN")


def test_nobody_is_told_401_for_a_key_that_is_not_his() -> None:
    assert 401 not in {told(BrokerFailure(cause, "x")).status for cause in BrokerCause}


def test_details_hold_what_the_broker_answered() -> None:
    failure = BrokerFailure(
        BrokerCause.QUOTA, "x", status=402, broker_code="LIMIT", request_id="r-1", retry_after_s=3.5, response_time_ms=12
    )
    assert details(failure) == {
        "cause": "quota", "status": 402, "brokerCode": "LIMIT", "responseTimeMs": 12, "requestId": "r-1", "retryAfterS": 3.5
    }  # fmt: skip


def test_what_is_not_configured_is_named() -> None:
    failure = not_configured("brokers[main]")
    assert details(failure)["missing"] == ["brokers[main]"]
    assert "brokers[main]" in str(failure)
