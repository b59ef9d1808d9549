"""What the tests of brokers' troubles share: the calls of the port, and what must hold for each of their failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple

import pytest

from worker.fake_gateway.server import FakeGateway
from worker.instances.broker import Broker, BrokerConfig, BrokerFailure, Push

NAME = "acme-sales-1a2b3c4d"
NEW = "acme-new-5e6f7g8h"
KEY = "a-key-that-nobody-may-read"
PUSH = Push(url="http://user:push-password@worker.example.com/ingest/x/y", secret="a-signing-secret-of-32-characters")
PATIENCE_S = 20.0
"""Where nothing is to take long."""
SHORT_S = 0.1
"""Where a deadline is to pass."""
SLACK_S = 5.0
"""What a busy machine may add to a deadline."""

Operation = Callable[[Broker, float], Awaitable[object]]
READS: dict[str, Operation] = {
    "health": lambda broker, s: broker.health(timeout_s=s),
    "instances": lambda broker, s: broker.instances(timeout_s=s),
    "status": lambda broker, s: broker.status(NAME, timeout_s=s),
    "qr": lambda broker, s: broker.qr(NAME, timeout_s=s),
    "picture": lambda broker, s: broker.picture(NAME, "5511900000001@s.whatsapp.net", timeout_s=s),
}
CHANGES: dict[str, Operation] = {
    "create": lambda broker, s: broker.create(NEW, PUSH, timeout_s=s),
    "disconnect": lambda broker, s: broker.disconnect(NAME, timeout_s=s),
    "delete": lambda broker, s: broker.delete(NAME, timeout_s=s),
}
OPERATIONS = READS | CHANGES


class World(NamedTuple):
    fake: FakeGateway
    broker: Broker

    async def failure_of(self, operation: str, timeout_s: float = PATIENCE_S) -> BrokerFailure:
        """Of one call, which must keep its deadline and tell no secret."""
        began_s = perf_counter()
        with pytest.raises(BrokerFailure) as caught:
            await OPERATIONS[operation](self.broker, timeout_s)
        assert perf_counter() - began_s < timeout_s + SLACK_S
        failure = caught.value
        assert 0 <= failure.response_time_ms < (timeout_s + SLACK_S) * 1000
        assert_tells_nothing(failure)
        return failure


def assert_tells_nothing(failure: BrokerFailure) -> None:
    told = f"{failure} {failure!r} {vars(failure)}"
    for secret in (KEY, "push-password", PUSH.secret, "5511900000001", "127.0.0.1"):
        assert secret is not None
        assert secret not in told
    assert str(failure).startswith("broker main ("), "it names the broker, then says what to do"
    assert "; " in str(failure)


def elsewhere(url: str, gateway: str = "waha", **details: Any) -> BrokerConfig:
    return BrokerConfig(id="main", gateway=gateway, url=url, api_key=KEY, timeout_s=PATIENCE_S, **details)
