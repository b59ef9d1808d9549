"""A URL is refused at registration where nothing good can come of it; the transport judges again at each connection."""

from __future__ import annotations

from ipaddress import ip_network

import anyio
import pytest

from worker.adapters.http_guard import MAX_LOOKUPS, RESOLVE_WITHIN_S, UrlGuard
from worker.domain.destinations import Destinations

pytestmark = pytest.mark.anyio

PUBLIC, PRIVATE, METADATA = "198.51.101.7", "10.0.0.7", "169.254.169.254"


def guard(*addresses: str, destinations: Destinations | None = None) -> UrlGuard:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("crm.example.com", 443)
        return list(addresses)

    return UrlGuard(destinations or Destinations(), resolve=resolve)


@pytest.mark.parametrize(
    ("addresses", "is_refused"),
    [((PUBLIC,), False), ((PRIVATE,), True), ((METADATA,), True), ((PRIVATE, PUBLIC), False), ((PRIVATE, METADATA), True), ((), False)],
)
async def test_a_name_is_refused_where_all_it_leads_to_is_forbidden(addresses: tuple[str, ...], is_refused: bool) -> None:
    """Of several addresses the transport passes over the forbidden ones."""
    assert (await guard(*addresses).objection("https://crm.example.com/hook") is not None) == is_refused


async def test_what_the_operator_allows_is_allowed_here_too() -> None:
    allowing = Destinations(allowed_private=[ip_network("10.0.0.0/8")])
    assert await guard(PRIVATE, destinations=allowing).objection("https://crm.example.com/hook") is None


@pytest.mark.parametrize("url", ["ftp://crm.example.com/", "https://", "https://[::1", "https://0x7f000001/", "https://127.0.0.1/"])
async def test_what_the_url_itself_says_needs_no_look_up(url: str) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise AssertionError("nobody is asked")

    assert await UrlGuard(Destinations(), resolve=resolve).objection(url)


@pytest.mark.parametrize("fault", [OSError("no such name"), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_today_is_its_owners_business(fault: Exception) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise fault

    assert await UrlGuard(Destinations(), resolve=resolve).objection("https://crm.example.com/") is None


async def test_a_name_server_that_hangs_holds_up_a_registration_for_two_seconds_at_most() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        await anyio.sleep_forever()
        return []

    slow = UrlGuard(Destinations(), resolve=resolve)
    answers: list[str | None] = []

    async def ask() -> None:
        answers.append(await slow.objection("https://crm.example.com/"))

    began_s = anyio.current_time()
    async with anyio.create_task_group() as asking:
        for _ in range(MAX_LOOKUPS):
            asking.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await ask()  # beyond so many nobody waits
        assert answers == [None]
        assert anyio.current_time() - began_s < RESOLVE_WITHIN_S
    assert answers == [None] * (MAX_LOOKUPS + 1)
