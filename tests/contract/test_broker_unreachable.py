"""What keeps a request from reaching its broker: names, connections, certificates, configuration. Nothing can have been done."""

from __future__ import annotations

import socket
from time import perf_counter

import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.contract.broker_worlds import (
    KEY,
    NEW,
    OPERATIONS,
    PATIENCE_S,
    PUSH,
    SHORT_S,
    SLACK_S,
    assert_tells_nothing,
    elsewhere,
)
from worker.adapters.brokers import open_broker
from worker.fake_gateway.server import GATEWAYS, Plan, fake_gateway
from worker.instances.broker import BrokerCause, BrokerConfig, BrokerFailure

pytestmark = pytest.mark.anyio


class _Names(AbstractResolver):
    """`hangs`: a name server that does not answer; else one that knows no name."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        if self._hangs:
            await anyio.sleep_forever()
        raise OSError(None, "Domain name not found")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(("hangs", "cause"), [(False, BrokerCause.DNS), (True, BrokerCause.TIMEOUT)])
async def test_a_name_that_leads_nowhere(gateway: str, hangs: bool, cause: BrokerCause) -> None:
    broker = open_broker(elsewhere("http://broker.invalid:3000", gateway), resolver=_Names(hangs=hangs))
    for operation in OPERATIONS.values():
        with pytest.raises(BrokerFailure) as caught:
            await operation(broker, SHORT_S / 2 if hangs else PATIENCE_S)
        assert (caught.value.cause, caught.value.is_certain) == (cause, True), "nothing can have arrived"
        assert_tells_nothing(caught.value)
    await broker.close()


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_nobody_listens(gateway: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        broker = open_broker(elsewhere(f"http://127.0.0.1:{taken.getsockname()[1]}", gateway))
        for operation in OPERATIONS.values():
            with pytest.raises(BrokerFailure) as caught:
                await operation(broker, PATIENCE_S)
            assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.CONNECT, True)
            assert_tells_nothing(caught.value)
        await broker.close()


async def test_a_certificate_that_is_none() -> None:
    async with fake_gateway(Plan(gateway="waha")) as fake:
        broker = open_broker(elsewhere(fake.url.replace("http:", "https:")))
        with pytest.raises(BrokerFailure) as caught:
            await broker.create(NEW, PUSH)
        assert (caught.value.cause, caught.value.is_certain) == (BrokerCause.TLS, True)
        assert_tells_nothing(caught.value)
        await broker.close()


@pytest.mark.parametrize("gateway", ["baileys", "evolution", "wuzapi"])
async def test_a_broker_without_the_key_it_needs_is_never_asked(gateway: str) -> None:
    async with fake_gateway(Plan(gateway=gateway)) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway=gateway, url=fake.url))
        for operation in OPERATIONS.values():
            with pytest.raises(BrokerFailure) as caught:
                await operation(broker, PATIENCE_S)
            assert (caught.value.cause, caught.value.missing) == (BrokerCause.NOT_CONFIGURED, ("brokers.main.api_key",))
        assert not fake.requests
        await broker.close()


@pytest.mark.parametrize("key", ["two\nlines", "carriage\rreturn"])
async def test_a_key_that_is_no_header_is_a_matter_of_configuration(key: str) -> None:
    async with fake_gateway(Plan(gateway="waha")) as fake:
        broker = open_broker(BrokerConfig(id="main", gateway="waha", url=fake.url, api_key=key))
        with pytest.raises(BrokerFailure) as caught:
            await broker.instances()
        assert caught.value.cause is BrokerCause.NOT_CONFIGURED
        assert key not in str(caught.value)
        await broker.close()


async def test_a_password_in_the_url_is_sent_and_never_told() -> None:
    async with fake_gateway(Plan(gateway="waha", api_key=KEY)) as fake:
        broker = open_broker(elsewhere(fake.url.replace("http://", "http://user:push-password@")))
        await broker.health()
        fake.trouble("*", "hang", times=None)
        with pytest.raises(BrokerFailure) as caught:
            await broker.instances(timeout_s=SHORT_S)
        assert_tells_nothing(caught.value)
        assert "push-password" not in repr(broker)
        await broker.close()


async def test_a_broker_that_was_closed_is_not_asked() -> None:
    async with fake_gateway(Plan(gateway="waha", api_key=KEY)) as fake:
        broker = open_broker(elsewhere(fake.url))
        await broker.close()
        with pytest.raises(BrokerFailure):
            await broker.health()
        assert not fake.requests


async def test_closing_takes_a_second_at_most_while_a_call_hangs() -> None:
    async with fake_gateway(Plan(gateway="waha", api_key=KEY)) as fake:
        broker = open_broker(elsewhere(fake.url))
        hung = fake.trouble("*", "hang", times=None)
        began_s = perf_counter()
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(BrokerFailure):
                    await broker.instances()

            tasks.start_soon(ask)
            while not hung.seen:
                await anyio.lowlevel.checkpoint()
            await broker.close()
        assert perf_counter() - began_s < 1 + SLACK_S
