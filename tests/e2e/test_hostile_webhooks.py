"""Webhooks that point inside, in every notation and by every name: nothing is connected to, each is named, and the worker works on."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from tests.conftest import scaled
from tests.contract.name_server import NameServer, name_server
from tests.e2e import resolver_child
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, Worker, declared, until
from tests.e2e.sink import Sink
from tests.hostile_destinations import ADDRESSES, HOSTS, connections, hostile_url, listening

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

OURS = "127.77.0.1"
"""The one address that is allowed; the rest of loopback is as forbidden as everything private."""
ONLY_OURS = f'["{OURS}/32"]'
EVENTS = scaled(3, 30)
SECRETS = ("a-secret", "password")


async def each_event_is_dead_at_once(worker: Worker, hostile: Sequence[Hook]) -> None:
    """One dead letter per event and webhook, after one attempt that was never made, and nothing waits to be tried again."""
    expected = len(hostile) * EVENTS
    await until(lambda: len(worker.lines("dead_letter")) >= expected, 20, "a dead letter for each event of each hostile webhook")
    letters = worker.lines("dead_letter")
    assert Counter(letter["webhook"] for letter in letters) == {hook.name: EVENTS for hook in hostile}
    assert {(letter["reason"], letter["attempts"]) for letter in letters} == {("forbidden_destination", 1)}
    assert await worker.metric("dead_letters_total", reason="forbidden_destination") == expected
    assert await worker.metric("webhook_attempts_total", outcome="retry") == 0
    await until(lambda: len(worker.lines("webhook_fails")) >= len(hostile), 5, "each is told of")
    told = worker.lines("webhook_fails")
    assert Counter(line["webhook"] for line in told) == {hook.name: 1 for hook in hostile}
    assert {line["cause"].partition(": ")[0] for line in told} == {"forbidden_destination"}


def tells_no_secret(worker: Worker) -> bool:
    log = worker.log.read_text()
    return not any(secret in log for secret in SECRETS)


async def test_no_url_leads_inside_each_is_warned_of_and_the_healthy_webhook_gets_its_events(rig: Rig) -> None:
    with listening() as (port, listeners):
        async with Sink(OURS) as sink:
            healthy = Hook("healthy", sink.url("healthy"))
            hostile = [Hook(f"h{n}", hostile_url(host, port)) for n, host in enumerate(HOSTS)]
            worker = rig.worker(declared([healthy, *hostile]), DELIVERY__ALLOWED_PRIVATE_CIDRS=ONLY_OURS)
            await worker.start()
            warned = worker.lines("webhook_unreachable_as_declared")
            gateway = rig.gateway(worker)
            await gateway.push_many(EVENTS)
            await until(lambda: sink.got("healthy") == gateway.accepted_for(), 20, "the healthy webhook got everything")
            await each_event_is_dead_at_once(worker, hostile)
            code, _ = await worker.stop()
        made = connections(listeners)
    state("hostile webhooks by url", urls=len(hostile), events=EVENTS, connections=made, warned=len(warned), exit_code=code)
    assert made == 0
    assert [line["webhook"] for line in warned] == [hook.name for hook in hostile]
    assert all(line["cause"] and line["next_step"] == "its deliveries end as dead letters" for line in warned)
    assert tells_no_secret(worker)
    assert code == 0


async def test_no_name_leads_inside(rig: Rig) -> None:
    """With the resolver the worker uses, asking a DNS server of the test's own."""
    zone = {f"n{n}.test": [[address]] for n, address in enumerate(ADDRESSES)} | {"many.test": [list(ADDRESSES)]}
    async with name_server(zone) as names:
        with listening() as (port, listeners):
            hostile = [Hook(name.removesuffix(".test"), hostile_url(name, port)) for name in zone]
            worker = rig.worker(declared(hostile), DELIVERY__ALLOWED_PRIVATE_CIDRS=ONLY_OURS)
            worker.command = asking(names)
            await worker.start()
            assert worker.lines("webhook_unreachable_as_declared") == [], "what a name resolves to is not known yet"
            await rig.gateway(worker).push_many(EVENTS)
            await each_event_is_dead_at_once(worker, hostile)
            code, _ = await worker.stop()
            made = connections(listeners)
    state("hostile webhooks by name", names=len(hostile), lookups=names.asked.total(), connections=made)
    assert made == 0
    assert tells_no_secret(worker)
    assert code == 0


async def test_a_name_that_rebinds_leads_where_it_was_checked_or_nowhere(rig: Rig) -> None:
    """Each look-up of a name answers in turn: allowed, inside, allowed, inside …; each connection serves one request."""
    zone = {f"r{n}.test": [[OURS], [address]] * 100 for n, address in enumerate(ADDRESSES)}
    async with name_server(zone) as names, Sink(OURS) as sink:
        port = int(sink.url("").split(":")[2].partition("/")[0])
        with listening(("127.0.0.1", "127.9.9.9", "::"), port) as (_, listeners):
            hooks = [Hook(name, f"http://{name}.test:{port}/{name}/close") for name in (host.removesuffix(".test") for host in zone)]
            worker = rig.worker(declared(hooks), DELIVERY__ALLOWED_PRIVATE_CIDRS=ONLY_OURS)
            worker.command = asking(names)
            await worker.start()
            gateway = rig.gateway(worker)
            await gateway.push_many(10)

            def arrived() -> int:
                return sum(len(sink.got(hook.name)) for hook in hooks)

            await until(
                lambda: arrived() + len(worker.lines("dead_letter")) >= 10 * len(hooks), 20, "all arrived at ours or are dead letters"
            )
            letters = worker.lines("dead_letter")
            made = connections(listeners)
            await worker.stop()
    state("webhooks that rebind", names=len(hooks), arrived=arrived(), refused=len(letters), lookups=names.asked.total(), connections=made)
    assert made == 0
    assert {letter["reason"] for letter in letters} == {"forbidden_destination"}
    assert arrived() + len(letters) == 10 * len(hooks)
    assert arrived() > len(hooks)
    assert len(letters) > len(hooks)


def asking(names: NameServer) -> list[str]:
    """How to start a worker that looks names up there."""
    return [sys.executable, str(Path(resolver_child.__file__)), str(names.port)]


async def test_check_warns_of_each_with_its_id_and_is_content(rig: Rig) -> None:
    hooks = [Hook("healthy", "https://crm.example.com/"), *(Hook(f"h{n}", hostile_url(host, 80)) for n, host in enumerate(HOSTS))]
    worker = rig.worker(declared(hooks), DELIVERY__ALLOWED_PRIVATE_CIDRS=ONLY_OURS)
    ended = await anyio.run_process([sys.executable, "-m", "worker", "check"], env=worker.environment, check=False)
    said = ended.stdout.decode() + ended.stderr.decode()
    warned = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert ended.returncode == 0
    assert [line.split(": ")[1] for line in warned] == [f"webhook {hook.name}" for hook in hooks[1:]]
    assert all(line.endswith("; its deliveries will end as dead letters") for line in warned)
    assert not any(secret in said for secret in SECRETS)
