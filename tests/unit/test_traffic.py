"""Simulated traffic is what the gateways' own modules take for real."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from worker.commands.line import simulate_command
from worker.domain.event import EventType
from worker.fake_gateway.traffic import GATEWAYS, Sender, Traffic
from worker.gateways import GATEWAYS as KNOWN
from worker.gateways import port

SENDER = Sender(gateway_instance="sales", secret="a secret of our own")
NOW_S = 1_795_344_000.0


def test_every_gateway_can_be_simulated() -> None:
    assert set(GATEWAYS) == set(KNOWN)
    offered = get_type_hints(simulate_command, include_extras=True)["gateway"]
    assert set(get_args(get_args(offered)[0])) == set(KNOWN)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_traffic_verifies_and_decodes(gateway: str) -> None:
    traffic, module = Traffic(gateway, seed=7), KNOWN[gateway]
    seen = set()
    for _ in range(200):
        push = traffic.next_push(SENDER, NOW_S)
        received = port.Push(headers=push.headers, body=push.body)
        assert module.verify(received, ["another secret", SENDER.secret or ""])
        assert not module.verify(received, ["another secret"])
        (event,) = module.decode(received)
        assert event.subtype != "undecodable"
        assert event.gateway_instance in {None, "sales"}
        assert event.chat_id is not None
        assert event.occurred_at is None or event.occurred_at.startswith("2026-11-22")
        seen.add(event.type)
    assert seen == {EventType.MESSAGE, EventType.RECEIPT}


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_one_seed_is_one_run_and_no_two_events_are_the_same(gateway: str) -> None:
    def run(seed: int) -> list[bytes]:
        traffic = Traffic(gateway, seed)
        return [traffic.next_push(SENDER, NOW_S).body for _ in range(100)]

    assert run(1) == run(1)
    assert len(set(run(1)) | set(run(2))) == 200


def test_an_instance_without_a_secret_gets_no_signature() -> None:
    push = Traffic("waha", seed=1).next_push(Sender(gateway_instance="sales"), NOW_S)
    assert list(push.headers) == ["content-type"]
