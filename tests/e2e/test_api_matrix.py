"""Every path of the API × every kind of key. Generated from what is served: a new endpoint is in it, or the test fails.

What is another tenant's is answered exactly as what does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
import schemathesis

from tests.conftest import UVLOOP
from tests.e2e.api_world import ACME, ACME_KEY, ADMIN_KEY, OTHER, OTHER_KEY, Answer
from tests.e2e.management_world import REGISTERED, REGISTERED_KEY, URL, Managed, managed
from worker.api import lock_out
from worker.api.authentication import key_sha256
from worker.api.endpoints import Audience, Endpoint
from worker.api.openapi import document, faults_of
from worker.api.paths import parameters
from worker.api.server import application
from worker.app import Process
from worker.lifecycle import Signals, Watchdog
from worker.logs import Lines
from worker.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
WRONG_KEY = "wak_of_nobody"

NOBODYS = {
    "webhookId": "nobodys",
    "instanceId": "nobodys",
    "deadLetterId": "msg_" + "A" * 26,
    "eventKey": "0" * 64,
    "tenantId": "nobodys",
    "keyId": "00000000",
}
"""By path parameter: an id that could be, and is not."""

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/integrations/whatsapp/instances"): {"name": "Sales", "gateway": "waha"},
    ("POST", "/api/webhooks"): {"url": URL},
    ("PATCH", "/api/webhooks/{webhookId}"): {"description": "seen"},
    ("POST", "/api/tenants"): {"id": "fresh"},
    ("POST", "/api/webhooks/{webhookId}/replay"): {"since": "2026-11-22T00:00:00Z"},
}
"""Where `{}` will not do."""

OTHERWISE: dict[tuple[str, str], tuple[int, str]] = {
    ("GET", "/api/integrations/whatsapp/instances/{instanceId}/qr"): (409, "INSTANCE_HAS_NO_BROKER"),
    ("GET", "/api/integrations/whatsapp/instances/{instanceId}/qr.png"): (409, "INSTANCE_HAS_NO_BROKER"),
    ("POST", "/api/integrations/whatsapp/instances/{instanceId}/disconnect"): (409, "INSTANCE_HAS_NO_BROKER"),
    ("POST", "/api/dead-letters/{deadLetterId}/replay"): (409, "WEBHOOK_DISABLED"),
}
"""What one's own key is answered where the good answer needs more than this world has."""


class Asked(NamedTuple):
    """One endpoint with ids filled in."""

    endpoint: Endpoint
    path: str
    unknown: str
    """The same path with ids that nothing has."""
    body: dict[str, Any] | None


def asked(it: Managed) -> Iterator[Asked]:
    """What deletes comes last; each dead letter is used by one endpoint only."""
    letters = iter(it.letters)
    for endpoint in sorted(it.endpoints, key=lambda e: e.method == "DELETE"):
        mine = {
            "webhookId": "acme-hook",
            "instanceId": "acme-live",
            "deadLetterId": next(letters) if "{deadLetterId}" in endpoint.path else "",
            "eventKey": it.event_keys[0],
            "tenantId": str(REGISTERED),
            "keyId": key_sha256(REGISTERED_KEY)[:8],
        }
        missing = set(parameters(endpoint.path)) - set(mine)
        assert not missing, f"{endpoint.path}: say in this test what a {missing} of acme's is, and one of nobody's"
        body = BODIES.get((endpoint.method, endpoint.path), {} if endpoint.body else None)
        yield Asked(endpoint, filled(endpoint.path, mine), filled(endpoint.path, NOBODYS), body)


def filled(path: str, values: dict[str, str]) -> str:
    for name in parameters(path):
        path = path.replace(f"{{{name}}}", values[name])
    return path


async def ask(it: Managed, one: Asked, key: str | None, *, path: str | None = None, tenant: str | None = None) -> Answer:
    headers = {"x_tenant_id": tenant} if tenant is not None else {}
    return await it.ask(one.endpoint.method, path or one.path, key=key, data=one.body, **headers)


def said(answer: Answer) -> tuple[int, Any]:
    """An error without what is different each time."""
    error = dict(answer.body["error"])
    del error["requestId"]
    return answer.status, error


async def test_every_path_answers_every_key_as_it_should(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_out, "WRONG_KEYS", 1_000)  # each of them is to be looked at
    async with managed() as it:
        for one in list(asked(it)):
            for key in (None, WRONG_KEY):
                answer = await ask(it, one, key)
                assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), (one, key)
                assert answer.headers["www-authenticate"] == "Bearer"
            await (of_tenants if one.endpoint.audience is Audience.TENANT else of_the_operator)(it, one)


async def of_tenants(it: Managed, one: Asked) -> None:
    """Strangers first: whatever they may do must not show in what the owner sees afterwards."""
    what = f"{one.endpoint.method} {one.endpoint.path}"
    if parameters(one.endpoint.path):
        stranger, unknown = await ask(it, one, OTHER_KEY), await ask(it, one, OTHER_KEY, path=one.unknown)
        assert (stranger.status, said(stranger)) == (404, said(unknown)), what
        assert said(await ask(it, one, ADMIN_KEY, tenant=OTHER)) == said(unknown), what
    else:
        assert "acme" not in str((await ask(it, one, OTHER_KEY)).body), what
    for key, tenant in ((ACME_KEY, OTHER), (ACME_KEY, "nobodys"), (ADMIN_KEY, "nobodys")):
        answer = await ask(it, one, key, tenant=tenant)
        assert (answer.status, answer.code) == (404, "TENANT_NOT_FOUND"), (what, key, tenant)
    answer = await ask(it, one, ADMIN_KEY)
    assert (answer.status, answer.code) == (400, "TENANT_REQUIRED"), what
    await answers_its_owner(it, one, ACME_KEY, ACME)


async def of_the_operator(it: Managed, one: Asked) -> None:
    what = f"{one.endpoint.method} {one.endpoint.path}"
    for key in (ACME_KEY, OTHER_KEY, REGISTERED_KEY):
        for path in (one.path, one.unknown):
            answer = await ask(it, one, key, path=path)
            assert (answer.status, answer.code) == (403, "ADMIN_KEY_REQUIRED"), (what, key)
    if parameters(one.endpoint.path):
        assert (await ask(it, one, ADMIN_KEY, path=one.unknown)).status == 404, what
    await answers_its_owner(it, one, ADMIN_KEY, None)


async def answers_its_owner(it: Managed, one: Asked, key: str, tenant: str | None) -> None:
    what = (one.endpoint.method, one.endpoint.path)
    answer = await ask(it, one, key, tenant=tenant)
    if what not in OTHERWISE:
        assert answer.status == one.endpoint.status, (what, answer.status, answer.body)
        return
    assert (answer.status, answer.code) == OTHERWISE[what], what
    assert OTHERWISE[what] in {(fault.status, fault.code) for fault in faults_of(one.endpoint)}, what


async def test_whatever_is_served_is_in_the_matrix_or_open_on_purpose(anyio_backend: object) -> None:
    process = Process(Settings(demo=True), Signals(Watchdog()), Lines(2))
    app = application(process.routes(), max_body_bytes=1 << 20)
    served = {resource.canonical for resource in app.router.resources()}
    health = {"/livez", "/readyz", "/rolez", "/status", "/metrics"}
    ingest = {"/ingest/{gateway}/{instance_id}", "/ingest/{gateway}/{instance_id}/{event}"}
    pages = {"/", "/docs", "/openapi.json", "/demo/sink/fast", "/demo/sink/slow", "/demo/sink/failing"}
    assert served == {*health, *ingest, *pages, "/api/{path}"}, "a new path outside the API: who may see it?"


async def test_the_document_describes_exactly_what_is_served(anyio_backend: object) -> None:
    async with managed() as it:
        described = (await it.ask("GET", "/openapi.json", key=None)).body
        assert described == document(it.endpoints)
        operations = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
        assert operations == {(endpoint.method, endpoint.path) for endpoint in it.endpoints}
        ids = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
        assert len(ids) == len(set(ids))
        page = await it.ask("GET", "/docs", key=None)
        for method, path in operations:
            assert f"<b>{method}</b> <code>{path}</code>".encode() in page.body


async def test_the_document_is_valid_and_so_are_its_examples(anyio_backend: object) -> None:
    async with managed() as it:
        described = document(it.endpoints)
    schemathesis.openapi.from_dict(described).validate()
    tried = 0
    for name, schema in described["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        for field, facts in schema.get("properties", {}).items():
            for example in facts.get("examples", ()):
                whole = {**facts, "components": described["components"]}
                assert jsonschema_rs.is_valid(whole, example), (name, field, example)
                tried += 1
    assert tried


async def test_the_page_about_the_api_names_every_path_and_no_other(anyio_backend: object) -> None:
    """In its last table: `GET`, `POST /path` are both of that path."""
    told: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`[A-Z]+.*?`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        methods: list[str] = []
        for method, path in re.findall(r"`([A-Z]+)(?: (/api/[^`]+))?`", row):
            methods.append(method)
            if path:
                told |= {(one, path) for one in methods}
                methods = []
    async with managed() as it:
        assert told == {(endpoint.method, endpoint.path) for endpoint in it.endpoints}
