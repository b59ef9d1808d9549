"""The API is as `/openapi.json` says, for whatever anybody sends: schemathesis, all phases and checks, against a real worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.conftest import scaled
from tests.e2e import figures, patient_child, schema_run
from tests.e2e.rig import Rig, Worker
from tests.e2e.schema_run import Book
from worker.api.authentication import key_sha256
from worker.fake_gateway.server import API_KEY, Plan, fake_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800)]

ADMIN_KEY = "the-operator-of-these-tests"
KEY = "wak_of_tenant_t"
STATEFUL = "Stateful tests"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DEAD_LETTERS = 40
NO_LIMITS = '{"refresh": "off", "sync": "off", "read": "off", "create": "off"}'


def toml(broker_url: str) -> str:
    """Tenant `t` with a broker that works, an instance, and a webhook that points inside: each of its events is a dead letter at once."""
    return f"""
[[tenants]]
id = "t"
api_keys_sha256 = ["{key_sha256(KEY)}"]
[[tenants]]
id = "u"
[[brokers]]
id = "main"
gateway = "waha"
url = "{broker_url}"
api_key = "{API_KEY}"
[[instances]]
id = "i"
tenant_id = "t"
gateway = "generic"
[[webhooks]]
id = "crm"
tenant_id = "t"
url = "http://10.255.255.1/forbidden"
secrets = ["{SECRET}"]
"""


@asynccontextmanager
async def site(rig: Rig, **settings: str) -> AsyncIterator[Worker]:
    """A worker that has seen something happen."""
    async with fake_gateway(Plan(gateway="waha")) as broker:
        worker = rig.worker(toml(broker.url), HTTP__ADMIN_KEY=ADMIN_KEY, **settings)
        worker.command = [sys.executable, str(Path(patient_child.__file__))]
        await worker.start()
        await rig.gateway(worker).push_many(DEAD_LETTERS)
        yield worker


async def known_ids(rig: Rig, worker: Worker) -> Mapping[str, Sequence[str]]:
    """What there is, so that not every call ends in a 404."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "X-Tenant-Id": "t"}
    letters: list[dict[str, str]] = []
    with anyio.fail_after(30):
        while len(letters) < DEAD_LETTERS:
            await anyio.sleep(0.1)
            async with rig.session.get(f"{worker.url}/api/dead-letters", headers=headers) as answer:
                letters = (await answer.json())["data"]["deadLetters"]
    assert len({letter["eventKey"] for letter in letters}) == DEAD_LETTERS
    return {
        "deadLetterId": [letter["id"] for letter in letters],
        "eventKey": [letter["eventKey"] for letter in letters],
        "webhookId": ["crm"],
        "instanceId": ["i"],
        "tenantId": ["t", "u"],
    }


async def put_to_the_test(rig: Rig, worker: Worker, *, examples: int, key: str = ADMIN_KEY) -> Book:
    headers = {"Authorization": f"Bearer {key}", "X-Tenant-Id": "t"}
    run = partial(schema_run.run, worker.url, headers, examples=examples, seed=20261122, known=await known_ids(rig, worker))
    return await to_thread.run_sync(run)


async def test_whatever_is_sent_the_answer_is_one_that_the_document_describes(rig: Rig) -> None:
    async with site(rig, API__RATE_LIMITS=NO_LIMITS) as worker:
        book = await put_to_the_test(rig, worker, examples=scaled(5, 150))
        assert worker.is_alive
        assert not worker.lines("request_failed")
    figures.state("the API as described", cases=book.cases, statuses=dict(sorted(book.statuses.items())))
    assert not book.verdict, book.verdict
    assert book.cases >= scaled(1_000, 5_000)
    assert not {status for status in book.statuses if status >= 500 or status == 0}


async def test_with_limits_on_429_is_all_that_is_added(rig: Rig) -> None:
    """Only what the document says is counted; a call too many is told how long to wait, and nothing else changes."""
    async with site(rig) as worker:
        book = await put_to_the_test(rig, worker, examples=scaled(3, 30), key=KEY)
        assert not worker.lines("request_failed")
        _, described = await worker.get("/openapi.json")
    assert not book.verdict, book.verdict
    assert not {status for status in book.statuses if status >= 500 or status == 0}
    operations = [(f"{method.upper()} {path}", one) for path, methods in described["paths"].items() for method, one in methods.items()]
    countable = {name for name, operation in operations if "RATE_LIMITED" in operation["responses"]["429"]["description"]}
    counted = {name for name, statuses in book.by_operation.items() if statuses[429]} - {STATEFUL}
    assert counted
    assert counted <= countable, counted - countable
