"""Tenants and their keys over the API: what the operator makes works at once, and is known to every worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from tests.conftest import UVLOOP
from tests.e2e.api_world import ACME, ADMIN_KEY, Api, api
from worker.adapters.memory_store import MemoryStore
from worker.api import tenants
from worker.api.endpoints import Call, Endpoint, Reply
from worker.api.tenants import tenant_endpoints
from worker.directory.port import Revision
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Tenant
from worker.domain.ids import TenantId

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]

TENANTS = "/api/tenants"


def offer(catalog: Catalog, registrar: Registrar, _store: MemoryStore) -> Sequence[Endpoint]:
    async def whoami(call: Call) -> Reply:
        return Reply(headers={"x-tenant": call.tenant_id})

    return [*tenant_endpoints(catalog, registrar), Endpoint(method="GET", path="/api/me", summary="", tag="t", handle=whoami)]


async def admin(it: Api, method: str, path: str, data: Any = None) -> Any:
    return await it.ask(method, path, key=ADMIN_KEY, data=data)


async def made_key(it: Api, tenant: str) -> tuple[str, str]:
    answer = await admin(it, "POST", f"{TENANTS}/{tenant}/keys")
    assert answer.status == 201
    return answer.body["data"]["id"], answer.body["data"]["key"]


async def test_a_tenant_is_registered_gets_a_key_and_calls_with_it(anyio_backend: object) -> None:
    async with api(offer) as it:
        created = await admin(it, "POST", TENANTS, {"id": "fresh", "name": "Fresh & Co"})
        assert (created.status, created.body["data"]) == (
            201,
            {"id": "fresh", "name": "Fresh & Co", "readOnly": False, "keys": 0},
        )
        key_id, key = await made_key(it, "fresh")
        assert re.fullmatch(r"wak_[A-Za-z0-9_-]{43}", key)
        assert key_id == sha256(key.encode()).hexdigest()[:8]
        answer = await it.ask("GET", "/api/me", key=key)
        assert (answer.status, answer.headers["x-tenant"]) == (200, "fresh")
        assert (await admin(it, "GET", f"{TENANTS}/fresh")).body["data"]["keys"] == 1
        keys = await admin(it, "GET", f"{TENANTS}/fresh/keys")
        assert keys.body["data"] == {"keys": [{"id": key_id}]}, "the key itself is shown once, and kept nowhere"


async def test_a_deleted_key_is_refused_and_the_others_go_on(anyio_backend: object) -> None:
    async with api(offer) as it:
        await admin(it, "POST", TENANTS, {"id": "fresh"})
        (old_id, old), (_, new) = await made_key(it, "fresh"), await made_key(it, "fresh")
        assert (await it.ask("GET", "/api/me", key=old)).status == 200
        assert (await admin(it, "DELETE", f"{TENANTS}/fresh/keys/{old_id}")).status == 204
        assert (await it.ask("GET", "/api/me", key=old)).status == 401
        assert (await it.ask("GET", "/api/me", key=new)).status == 200
        again = await admin(it, "DELETE", f"{TENANTS}/fresh/keys/{old_id}")
        assert (again.status, again.code) == (404, "KEY_NOT_FOUND")


async def test_a_key_made_at_one_worker_works_at_another_at_once(anyio_backend: object) -> None:
    async with api(offer) as it:
        elsewhere = Registrar(it.store.directory, Replica(Catalog([], [], [])), asyncio.get_running_loop().time)
        other_worker = tenant_endpoints(Catalog([], [], []), elsewhere, new_key=lambda: "wak_made_elsewhere")
        by_path = {(endpoint.method, endpoint.path): endpoint for endpoint in other_worker}
        operators = partial(Call, request_id="r", actor="admin", is_admin=True, tenant=None)
        await by_path["POST", TENANTS].handle(operators(body=tenants.NewTenant(id="fresh")))
        await by_path["POST", f"{TENANTS}/{{tenantId}}/keys"].handle(operators(path={"tenantId": "fresh"}))
        assert (await it.ask("GET", "/api/me", key="wak_made_elsewhere")).headers["x-tenant"] == "fresh"
        assert (await admin(it, "POST", TENANTS, {"id": "fresh"})).code == "TENANT_ALREADY_EXISTS"


async def test_an_id_that_another_worker_gave_away_a_moment_ago_is_taken(anyio_backend: object) -> None:
    """Known to the store, not yet to this worker's catalog."""
    async with api(offer) as it:
        await it.store.directory.put(Tenant(id=TenantId("fresh"), name="theirs"), expected=Revision(0))
        answer = await admin(it, "POST", TENANTS, {"id": "fresh", "name": "ours"})
        assert (answer.status, answer.code) == (409, "TENANT_ALREADY_EXISTS")
        assert (await admin(it, "GET", f"{TENANTS}/fresh")).body["data"]["name"] == "theirs"


async def test_what_the_file_declares_is_read_only_here(anyio_backend: object) -> None:
    async with api(offer) as it:
        assert (await admin(it, "GET", f"{TENANTS}/{ACME}")).body["data"]["readOnly"] is True
        [key] = (await admin(it, "GET", f"{TENANTS}/{ACME}/keys")).body["data"]["keys"]
        for method, path in (("POST", "keys"), ("DELETE", f"keys/{key['id']}")):
            answer = await admin(it, method, f"{TENANTS}/{ACME}/{path}")
            assert (answer.status, answer.code) == (409, "DECLARED_IN_FILE")
        assert (await admin(it, "POST", TENANTS, {"id": str(ACME)})).code == "TENANT_ALREADY_EXISTS"


async def test_a_tenant_has_a_bounded_number_of_keys(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "MAX_KEYS", 2)
    async with api(offer) as it:
        await admin(it, "POST", TENANTS, {"id": "fresh"})
        key_id, _ = await made_key(it, "fresh")
        await made_key(it, "fresh")
        answer = await admin(it, "POST", f"{TENANTS}/fresh/keys")
        assert (answer.status, answer.code) == (409, "TOO_MANY_KEYS")
        await admin(it, "DELETE", f"{TENANTS}/fresh/keys/{key_id}")
        await made_key(it, "fresh")


async def test_no_two_keys_of_a_tenant_have_the_same_id(anyio_backend: object) -> None:
    made = iter(["wak_one", "wak_one", "wak_two"])

    def offer_these(catalog: Catalog, registrar: Registrar, _store: MemoryStore) -> Sequence[Endpoint]:
        return tenant_endpoints(catalog, registrar, new_key=lambda: next(made))

    async with api(offer_these) as it:
        await admin(it, "POST", TENANTS, {"id": "fresh"})
        assert [(await made_key(it, "fresh"))[1] for _ in range(2)] == ["wak_one", "wak_two"]


async def test_the_list_pages_in_the_order_of_ids(anyio_backend: object) -> None:
    async with api(offer) as it:
        for number in range(7):
            await admin(it, "POST", TENANTS, {"id": f"t{number}"})
        seen: list[str] = []
        cursor, pages = "", 0
        while cursor is not None:
            answer = await admin(it, "GET", f"{TENANTS}?limit=3{cursor and '&cursor=' + cursor}")
            seen += [tenant["id"] for tenant in answer.body["data"]["tenants"]]
            cursor, pages = answer.body["meta"]["nextCursor"], pages + 1
        assert (seen, pages) == (["acme", "other", *(f"t{n}" for n in range(7))], 3)


@pytest.mark.parametrize("tenant_id", ["", "-a", "a b", "é", "x" * 65, "a\n", "../a", "a/b", 1, None])
async def test_an_id_is_fit_for_urls_and_keys(anyio_backend: object, tenant_id: object) -> None:
    async with api(offer) as it:
        answer = await admin(it, "POST", TENANTS, {"id": tenant_id})
    assert (answer.status, answer.details["field"]) == (400, "id")


async def test_with_the_store_away_nothing_is_said_to_be_done(anyio_backend: object) -> None:
    async with api(offer) as it:
        it.store.faults.away = True
        answer = await admin(it, "POST", TENANTS, {"id": "fresh"})
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "STORE_UNAVAILABLE", "2")
        it.store.faults.away = False
        assert TenantId("fresh") not in it.catalog.tenants
        it.store.faults.lose_next_answers(1)
        assert (await admin(it, "POST", TENANTS, {"id": "fresh"})).status == 503
        assert (await admin(it, "POST", TENANTS, {"id": "fresh"})).status in {201, 409}, "whether it was done was unknown"
        assert (await admin(it, "GET", f"{TENANTS}/fresh")).status == 200
