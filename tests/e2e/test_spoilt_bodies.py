"""Thousands of spoilt bodies at the door of a real process: each gets an answer that a gateway may get, and no secret in any stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from io import BytesIO

import anyio
import orjson
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.receiver import Receiver
from tests.e2e.rig import LOOPBACK, Rig, Worker, until
from tests.e2e.test_gateways import OURS, instance, toml, webhook
from tests.real_redis import RealRedis
from tests.unit.mutations import Mutant, is_bared, mutants, tells
from worker.gateways import GATEWAYS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(120, 1_800))]

BODIES = scaled(400, 4_000)
SEED = 11
MAX_BODY_BYTES = 300_000
FORBIDDEN = "http://169.254.169.254/latest"
"""Whatever goes there is a dead letter at once."""
PUSHERS = 8


def requests() -> Iterator[tuple[str, Mutant]]:
    """Path and push: mostly where nobody signs, some where everybody must."""
    for gateway in GATEWAYS:
        yield f"{gateway}/{gateway}", Mutant(b'{"a":"%b"}' % (b"x" * MAX_BODY_BYTES), {"content-type": "application/json"})
        for number, mutant in enumerate(mutants(gateway, BODIES, SEED)):
            # Damage may have put a secret where nobody can know it for one.
            if not is_bared(mutant) and is_sendable(mutant):
                yield f"{gateway}/{gateway}{'-signed' if number % 10 == 9 else ''}", mutant


def is_sendable(mutant: Mutant) -> bool:
    """Whether a client can write its headers."""
    return all(value.isprintable() for value in mutant.headers.values())


async def push_all(rig: Rig, worker: Worker) -> tuple[Counter[tuple[int, str]], int]:
    """What was answered, by status and code, and how many events were accepted."""
    answers: Counter[tuple[int, str]] = Counter()
    accepted = 0
    left = requests()

    async def pusher() -> None:
        nonlocal accepted
        for path, mutant in left:
            async with rig.session.post(f"{worker.url}/ingest/{path}", data=BytesIO(mutant.body), headers=mutant.headers) as answer:
                told = orjson.loads(await answer.read())
            answers[answer.status, told.get("code", "")] += 1
            accepted += told.get("accepted", 0)
            assert not tells(orjson.dumps(told)), told

    async with anyio.create_task_group() as pushers:
        for _ in range(PUSHERS):
            pushers.start_soon(pusher)
    return answers, accepted


async def test_every_spoilt_body_is_answered_and_its_secrets_are_nowhere(rig: Rig) -> None:
    redis = await rig.redis()
    async with Receiver() as receiver:
        worker = rig.worker(
            toml(
                ["t"],
                *(instance(gateway, "t", gateway) for gateway in GATEWAYS),
                *(instance(f"{gateway}-signed", "t", gateway, [OURS]) for gateway in GATEWAYS),
                webhook("whole", "t", receiver.url("whole")),
                webhook("raw", "t", receiver.url("raw"), "raw"),
                webhook("nowhere", "t", FORBIDDEN),
            ),
            REDIS__URL=redis.url,
            HTTP__MAX_BODY_BYTES=str(MAX_BODY_BYTES),
            DELIVERY__ALLOWED_PRIVATE_CIDRS=LOOPBACK,
            JOURNAL__MAX_BACKLOG_SHARE_PER_TENANT="1.0",
        )
        await worker.start()
        answers, accepted = await push_all(rig, worker)
        await until(lambda: len(receiver.arrived) >= 2 * accepted, 60, "everything accepted arrives")
        await until(lambda: lines_of(worker, b"dead_letter") >= accepted, 60, "what may go nowhere is a dead letter")
        metrics, status = (await worker.get("/metrics"))[1], await worker.status()
        code, _ = await worker.stop()
    state("spoilt bodies at the door", bodies=answers.total(), accepted=accepted, answers={f"{s} {c}": n for (s, c), n in answers.items()})
    assert set(answers) <= {(200, ""), (202, ""), (400, "MALFORMED_EVENT"), (401, "BAD_SIGNATURE"), (413, "BODY_TOO_LARGE")}
    assert {401, 413} <= {answered for answered, _ in answers}
    assert worker.lines("gateway_module_failed") == []
    assert [line for line in worker.lines() if line.get("level") == "error" or "text" in line] == []
    assert code == 0
    arrived = b"\n".join(one.body for one in receiver.arrived)
    kept = {
        "log": worker.log.read_bytes(),
        "metrics": metrics.encode(),
        "status": orjson.dumps(status),
        "store": written(redis),
        "sent": arrived,
    }
    assert {where for where, text in kept.items() if tells(text)} == set()
    assert b":dead" in kept["store"]
    assert receiver.forged == 0


def lines_of(worker: Worker, message: bytes) -> int:
    """Counted, not parsed: they are many."""
    return worker.log.read_bytes().count(b'"%b"' % message)


def written(redis: RealRedis) -> bytes:
    """Every write of the store, dead letters among them."""
    return b"".join(path.read_bytes() for path in sorted(redis.directory.rglob("*.aof*")) if path.is_file())
