"""Every gateway's real bodies through the real process: signed, known again, delivered once in both formats with everything in them."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest

from tests.e2e.figures import state
from tests.e2e.gateway_samples import JSON, Sample, headers_of, samples, starred
from tests.e2e.receiver import Arrived, Receiver
from tests.e2e.rig import Hook, Rig, Worker, until
from tests.unit.look_alike_pairs import Pair, Pushed
from tests.unit.look_alikes import APART, SAME
from worker.gateways import GATEWAYS
from worker.gateways.identity import IdentityClass
from worker.gateways.port import Push

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

OURS = "a secret that nobody published"
WEBHOOKS = ("normalized", "raw")


def instance(name: str, tenant: str, gateway: str, secrets: Sequence[str] = ()) -> list[str]:
    lines = ["[[instances]]", f'id = "{name}"', f'tenant_id = "{tenant}"', f'gateway = "{gateway}"']
    return [*lines, f"ingest_secrets = {orjson.dumps(secrets).decode()}"] if secrets else lines


def webhook(name: str, tenant: str, url: str, kind: str = "normalized") -> list[str]:
    hook = Hook(name, url)
    return [
        "[[webhooks]]",
        f'id = "{name}"',
        f'tenant_id = "{tenant}"',
        f'url = "{url}"',
        f'format = "{kind}"',
        f'secrets = ["{hook.secret}"]',
    ]


def toml(tenants: Iterable[str], *tables: list[str]) -> str:
    return "\n".join([*(line for tenant in tenants for line in ("[[tenants]]", f'id = "{tenant}"')), *(line for t in tables for line in t)])


async def pushed(rig: Rig, worker: Worker, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    async with rig.session.post(f"{worker.url}/ingest/{path}", data=body, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read())


async def test_every_body_of_every_gateway_arrives_signed_and_whole_and_pushed_again_is_what_its_class_says(rig: Rig) -> None:
    by_instance = {f"s{number}": sample for number, sample in enumerate(samples())}
    async with Receiver() as receiver:
        worker = rig.worker(
            toml(
                ["t"],
                *(instance(name, "t", sample.gateway, [OURS]) for name, sample in by_instance.items()),
                *(webhook(kind, "t", receiver.url(kind), kind) for kind in WEBHOOKS),
            )
        )
        await worker.start()
        wanted = {name: await pushed_in_every_way(rig, worker, name, sample) for name, sample in by_instance.items()}
        await until(lambda: len(receiver.arrived) >= 2 * sum(wanted.values()), 60, "everything accepted arrives at both webhooks")
        code, _ = await worker.stop()
    arrived: dict[str, list[Arrived]] = defaultdict(list)
    for one in receiver.arrived:
        arrived[one.instance].append(one)
    for name, sample in by_instance.items():
        arrived_as_it_should(sample, wanted[name], arrived[name])
    state(
        "gateways' bodies",
        samples=len(by_instance),
        events=sum(wanted.values()),
        arrived=len(receiver.arrived),
        forged=receiver.forged,
        by_gateway=dict(Counter(sample.gateway for sample in by_instance.values())),
    )
    assert (receiver.forged, receiver.unread) == (0, 0)
    assert code == 0


async def pushed_in_every_way(rig: Rig, worker: Worker, name: str, sample: Sample) -> int:
    """Unsigned, signed by a stranger, then twice as it should be; answers how many events were taken in all."""
    path, unsigned = f"{sample.gateway}/{name}", {"content-type": sample.content_type}
    events = GATEWAYS[sample.gateway].decode(Push(headers=unsigned, body=sample.body))
    known_again = sum(event.identity.kind is not IdentityClass.NONE for event in events)
    for headers in (unsigned, headers_of(sample, "a stranger's secret")):
        status, told = await pushed(rig, worker, path, sample.body, headers)
        assert (sample.name, status, told["code"]) == (sample.name, 401, "BAD_SIGNATURE")
    received = GATEWAYS[sample.gateway].ACCEPTED_STATUS
    for duplicates in (0, known_again):
        answer = await pushed(rig, worker, path, sample.body, headers_of(sample, OURS))
        assert (sample.name, *answer) == (sample.name, received, {"accepted": len(events) - duplicates, "duplicates": duplicates})
    return 2 * len(events) - known_again


def arrived_as_it_should(sample: Sample, wanted: int, arrived: Sequence[Arrived]) -> None:
    """Each event once at each webhook; what was one event in the body byte for byte, but for its secrets."""
    where = Counter(one.webhook for one in arrived)
    assert (sample.name, where) == (sample.name, Counter(dict.fromkeys(WEBHOOKS, wanted)))
    keys = [key for key, times in Counter((one.webhook, one.headers["webhook-id"]) for one in arrived).items() if times > 1]
    assert (sample.name, keys) == (sample.name, [])
    kept = starred(sample.body)
    held_one = len(GATEWAYS[sample.gateway].decode(Push(headers={"content-type": sample.content_type}, body=sample.body))) == 1
    for one in arrived:
        if one.webhook == "normalized":
            told = orjson.loads(one.body)
            assert (told["gateway"], told["raw_content_type"]) == (sample.gateway, sample.content_type), sample.name
            assert one.content_type == "application/json"
            raw = one.body if sample.content_type == JSON else b64decode(told["raw"])
        else:
            assert one.content_type == sample.content_type, sample.name
            assert not held_one or one.body == kept, sample.name
            raw = one.body
        assert starred(raw) == raw, sample.name


async def test_every_look_alike_is_delivered_and_what_is_told_twice_is_delivered_once(rig: Rig) -> None:
    """Both tables, each pair at instances of its own."""
    pairs = {f"p{number}": pair for number, pair in enumerate([*APART, *SAME])}
    places = {(f"{name}-{p.instance_id}", p.tenant_id, pair.gateway) for name, pair in pairs.items() for p in (pair.first, pair.second)}
    tenants = sorted({tenant for _, tenant, _ in places})
    async with Receiver() as receiver:
        worker = rig.worker(
            toml(
                tenants,
                *(instance(*place) for place in sorted(places)),
                *(webhook(f"of-{tenant}", tenant, receiver.url("normalized")) for tenant in tenants),
            )
        )
        await worker.start()
        wanted = {name: await pushed_one_after_the_other(rig, worker, name, pair, is_same=pair in SAME) for name, pair in pairs.items()}
        await until(lambda: len(receiver.arrived) >= sum(wanted.values()), 60, "everything accepted arrives")
        code, _ = await worker.stop()
    arrived = Counter(one.instance.partition("-")[0] for one in receiver.arrived)
    assert {pairs[name].name: arrived[name] - count for name, count in wanted.items() if arrived[name] != count} == {}
    assert len({one.headers["webhook-id"] for one in receiver.arrived}) == len(receiver.arrived)
    state("look-alikes", apart=len(APART), same=len(SAME), arrived=len(receiver.arrived), forged=receiver.forged)
    assert (receiver.forged, receiver.unread) == (0, 0)
    assert code == 0


async def pushed_one_after_the_other(rig: Rig, worker: Worker, name: str, pair: Pair, *, is_same: bool) -> int:
    """How many events of both must be delivered."""

    async def push(one: Pushed) -> tuple[int, int]:
        status, told = await pushed(rig, worker, f"{pair.gateway}/{name}-{one.instance_id}", one.body, dict(one.headers))
        assert status == GATEWAYS[pair.gateway].ACCEPTED_STATUS, (pair.name, told)
        return told["accepted"], told["duplicates"]

    first, second = await push(pair.first), await push(pair.second)
    assert (pair.name, first[1], second[1]) == (pair.name, 0, first[0] if is_same else 0)
    return first[0] + second[0]
