"""No socket to a forbidden address: the real transport, a real DNS server, real listeners, and the interpreter's own word for it.

Every `connect` of this process raises an audit event (PEP 578), from either loop: what is not in `heard` did not happen.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.conftest import ASYNCIO, UVLOOP
from tests.contract import hostile_endpoint as hostile
from tests.contract.name_server import NameServer, Zone, name_server
from tests.hostile_destinations import ADDRESSES, HOSTS, connections, hostile_url, listening
from worker.adapters.http import AiohttpTransport
from worker.domain.deadline import Deadline
from worker.domain.destinations import Destinations
from worker.event_integration.transport import Answer, Cause, Failure, Request

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])]

STRICT = Destinations()
OURS = "127.77.0.1"
ONE_OF_OURS = Destinations(allowed_private=[ip_network(f"{OURS}/32")])

_heard: list[tuple[Any, ...]] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _heard is not None and arguments[0].type == socket.SOCK_STREAM:
        _heard.append(arguments[1][:2])


sys.addaudithook(_hear)


@pytest.fixture
def heard() -> Iterator[list[tuple[Any, ...]]]:
    """Where TCP connections of this process were asked to go while the test ran: address and port."""
    global _heard  # noqa: PLW0603 - an audit hook cannot be taken away, only told to be deaf
    _heard = []
    yield _heard
    _heard = None


@asynccontextmanager
async def transport_of(rule: Destinations, names: NameServer | None = None) -> AsyncIterator[AiohttpTransport]:
    """Asks the test's own server for names, over UDP, with the resolver that the worker uses."""
    resolver = aiohttp.AsyncResolver(nameservers=["127.0.0.1"], udp_port=names.port, timeout=2, tries=1) if names else None
    made = AiohttpTransport(rule, resolver=resolver)
    try:
        yield made
    finally:
        with anyio.move_on_after(2, shield=True):
            await made.close()


async def post(transport: AiohttpTransport, url: str) -> Answer | Failure:
    return await transport.deliver(
        Request(url=url, headers={}, body=b"{}"), Deadline(name="webhook_attempt", at_s=anyio.current_time() + 10)
    )


def is_refused(result: Answer | Failure) -> bool:
    return isinstance(result, Failure) and result.cause is Cause.FORBIDDEN and "secret" not in result.detail


async def test_no_host_in_a_url_leads_to_a_forbidden_address(heard: list[tuple[Any, ...]]) -> None:
    with listening() as (port, listeners):
        async with transport_of(STRICT) as transport:
            got_through = [host for host in HOSTS if not is_refused(await post(transport, hostile_url(host, port)))]
        assert got_through == []
        assert connections(listeners) == 0
    assert heard == []


async def test_no_name_leads_to_a_forbidden_address(heard: list[tuple[Any, ...]]) -> None:
    zone: dict[str, list[list[str]]] = {f"n{n}.hostile.test": [[address]] for n, address in enumerate(ADDRESSES)}
    zone["all.hostile.test"] = [list(ADDRESSES)]
    zone["alias.hostile.test"] = [["n0.hostile.test", "127.0.0.1"]]
    with listening() as (port, listeners):
        async with name_server(zone) as names, transport_of(STRICT, names) as transport:
            results = {name: await post(transport, hostile_url(name, port)) for name in zone}
        assert [name for name, result in results.items() if not is_refused(result)] == []
        assert connections(listeners) == 0
    assert heard == []


@asynccontextmanager
async def endpoint_of_ours(zone: Zone, response: bytes = hostile.OK) -> AsyncIterator[tuple[NameServer, int, hostile.Endpoint]]:
    """A webhook's server on the one address that is allowed, and a name server."""
    async with AsyncExitStack() as stack:
        seen = await stack.enter_async_context(hostile.endpoint(hostile.answering(response), host=OURS))
        yield await stack.enter_async_context(name_server(zone)), seen.port, seen


async def test_the_connection_goes_to_the_address_that_was_checked(heard: list[tuple[Any, ...]]) -> None:
    """The name changes with each answer: allowed when first asked, forbidden ever after. One question per connection is asked."""
    async with endpoint_of_ours({"rebinding.test": [[OURS], ["127.0.0.1"]]}) as (names, port, seen):
        url = hostile_url("rebinding.test", port)
        async with transport_of(ONE_OF_OURS, names) as transport:
            assert isinstance(await post(transport, url), Answer)
        assert set(names.asked.values()) == {1}
        async with transport_of(ONE_OF_OURS, names) as transport:
            assert is_refused(await post(transport, url))
        assert seen.connections == 1
    assert heard == [(OURS, port)]


async def test_a_name_that_changes_by_the_second_never_leads_inside(heard: list[tuple[Any, ...]]) -> None:
    turns = [[OURS], ["127.0.0.1"], ["::1"], [OURS, "127.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"]] * 5
    async with endpoint_of_ours({"flapping.test": turns}) as (names, port, _):
        for _ in turns:
            async with transport_of(ONE_OF_OURS, names) as transport:  # each with an empty cache of names
                await post(transport, hostile_url("flapping.test", port))
    assert set(heard) == {(OURS, port)}


@pytest.mark.parametrize("others", [["127.0.0.1"], ["::1", "127.0.0.1"], ["169.254.169.254", "10.0.0.1", "fd00:ec2::254"]])
async def test_of_several_addresses_only_the_allowed_are_used(heard: list[tuple[Any, ...]], others: list[str]) -> None:
    zone = {"before.test": [[*others, OURS]], "behind.test": [[OURS, *others]]}
    async with endpoint_of_ours(zone) as (names, port, _), transport_of(ONE_OF_OURS, names) as transport:
        for name in zone:
            assert isinstance(await post(transport, hostile_url(name, port)), Answer)
    assert set(heard) == {(OURS, port)}


async def test_where_the_allowed_one_is_down_the_event_waits_for_it(heard: list[tuple[Any, ...]]) -> None:
    port = hostile.refused_port()
    zone = {"before.test": [["127.0.0.1", OURS]], "behind.test": [[OURS, "127.0.0.1"]]}
    async with name_server(zone) as names, transport_of(ONE_OF_OURS, names) as transport:
        for name in zone:
            failure = await post(transport, hostile_url(name, port))
            assert isinstance(failure, Failure)
            assert failure.cause is Cause.REFUSED
    assert set(heard) == {(OURS, port)}


async def test_a_name_that_is_not_found_is_no_refusal() -> None:
    async with name_server({}) as names, transport_of(STRICT, names) as transport:
        failure = await post(transport, "http://nobody.test/")
    assert isinstance(failure, Failure)
    assert failure.cause is Cause.DNS


async def test_a_redirect_inside_is_an_answer_and_not_followed(heard: list[tuple[Any, ...]]) -> None:
    with listening() as (inside, listeners):
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://{OURS}:{inside}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with endpoint_of_ours({}, moved) as (_, port, _seen), transport_of(ONE_OF_OURS) as transport:
            answer = await post(transport, hostile_url(OURS, port))
        assert isinstance(answer, Answer)
        assert answer.status == 307
        assert connections(listeners) == 0
    assert heard == [(OURS, port)]


async def test_a_proxy_named_in_the_environment_is_not_used(heard: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (proxy, listeners):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with endpoint_of_ours({}) as (_, port, _seen), transport_of(ONE_OF_OURS) as transport:
            assert isinstance(await post(transport, hostile_url(OURS, port)), Answer)
        assert connections(listeners) == 0
    assert heard == [(OURS, port)]


async def test_a_connection_that_is_kept_serves_its_own_host_only(heard: list[tuple[Any, ...]]) -> None:
    """Two names of one address: the second is looked up, checked and connected to anew."""
    async with endpoint_of_ours({"a.test": [[OURS]], "b.test": [[OURS]], "c.test": [["127.0.0.1"]]}) as (names, port, seen):
        async with transport_of(ONE_OF_OURS, names) as transport:
            for name in ("a.test", "a.test", "b.test"):
                assert isinstance(await post(transport, hostile_url(name, port)), Answer)
            assert is_refused(await post(transport, hostile_url("c.test", port)))
        assert seen.connections == 2
    assert heard == [(OURS, port)] * 2


async def test_a_port_that_is_not_allowed_gets_no_socket(heard: list[tuple[Any, ...]]) -> None:
    async with endpoint_of_ours({"crm.test": [[OURS]]}) as (names, port, _):
        allowed, other = (Destinations(allowed_private=[ip_network(f"{OURS}/32")], allowed_ports=[p]) for p in (port, port ^ 1))
        async with transport_of(allowed, names) as transport:
            assert isinstance(await post(transport, hostile_url("crm.test", port)), Answer)
            assert is_refused(await post(transport, hostile_url("crm.test", port ^ 1)))
            assert is_refused(await post(transport, "http://crm.test/"))
        async with transport_of(other, names) as transport:
            assert is_refused(await post(transport, hostile_url("crm.test", port)))
    assert heard == [(OURS, port)]


class AnotherPort(AbstractResolver):
    """Answers with a port that nobody asked for."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=OURS, port=port + 1, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None: ...


async def test_the_port_is_judged_at_the_socket_as_the_address_is(heard: list[tuple[Any, ...]]) -> None:
    transport = AiohttpTransport(Destinations(allowed_private=[ip_network(f"{OURS}/32")], allowed_ports=[8080]), resolver=AnotherPort())
    result = await post(transport, "http://crm.test:8080/")
    await transport.close()
    assert isinstance(result, Failure)
    assert (result.cause, result.detail) == (Cause.FORBIDDEN, "port 8081 is not among delivery.allowed_ports")
    assert heard == []
