"""Keys, lock-out and limits over a real socket."""

from __future__ import annotations

import pytest

from tests.conftest import UVLOOP
from tests.e2e.api_offer import offer
from tests.e2e.api_world import ACME, ACME_KEY, ADMIN_KEY, OTHER_KEY, Api, api
from worker.api.authentication import key_sha256
from worker.directory.port import Revision
from worker.domain.catalog import Tenant
from worker.domain.ids import TenantId

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP], ids=["uvloop"])]


async def test_a_key_speaks_for_its_tenant_and_the_operator_for_whom_he_names(anyio_backend: object) -> None:
    async with api(offer) as it:
        cases: list[tuple[str, str | None, dict[str, str], int, str]] = [
            ("/api/things", ACME_KEY, {}, 200, "acme"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "acme"}, 200, "acme"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "other"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ACME_KEY, {"x_tenant_id": "nobody"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ADMIN_KEY, {}, 400, "TENANT_REQUIRED"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "other"}, 200, "other"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "nobody"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", ADMIN_KEY, {"x_tenant_id": "../x"}, 404, "TENANT_NOT_FOUND"),
            ("/api/things", "wak_unknown", {}, 401, "UNAUTHORIZED"),
            ("/api/things", None, {}, 401, "UNAUTHORIZED"),
            ("/api/operation", ACME_KEY, {}, 403, "ADMIN_KEY_REQUIRED"),
            ("/api/operation", None, {}, 401, "UNAUTHORIZED"),
        ]
        for path, key, headers, status, told in cases:
            answer = await it.ask("GET", path, key=key, **headers)
            assert (answer.status, answer.body["data"]["tenant"] if status == 200 else answer.code) == (status, told), (path, key, headers)
            assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
        answer = await it.ask("GET", "/api/operation", key=ADMIN_KEY)
        assert answer.body["data"] | {"query": {}} == {"tenant": None, "actor": "admin", "path": {}, "query": {}, "body": {}}


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic d2FrX2FjbWU6", "wak_acme", "Bearer\twak_acme", "Bearer wak_acme x", "Bearer \xff\xfe"]
)
async def test_only_a_bearer_key_is_a_key(anyio_backend: object, authorization: str) -> None:
    async with api(offer) as it:
        assert (await it.ask("GET", "/api/things", key=None, authorization=authorization)).status == 401
        assert (await it.ask("GET", "/api/things", key=None, authorization="bearer wak_acme")).status == 200


async def test_a_header_that_stands_there_twice_is_refused(anyio_backend: object) -> None:
    async with api(offer) as it:
        for name, value in (("authorization", f"Bearer {ACME_KEY}"), ("x-tenant-id", "acme")):
            headers = [(name, value), (name, value)] + ([("authorization", f"Bearer {ACME_KEY}")] if name == "x-tenant-id" else [])
            async with it.client.get("/api/things", headers=headers) as answer:
                assert answer.status == 400


async def test_without_an_operators_key_his_calls_say_which_setting_makes_one(anyio_backend: object) -> None:
    async with api(offer, admin_key=None) as it:
        for key in (None, ACME_KEY, ADMIN_KEY):
            answer = await it.ask("GET", "/api/operation", key=key)
            assert (answer.status, answer.code) == (403, "ADMIN_KEY_NOT_SET")
            assert "WORKER_HTTP__ADMIN_KEY" in answer.body["error"]["message"]


async def registered_elsewhere(it: Api, tenant: Tenant) -> None:
    """By another worker, a moment ago: in the store, not in this worker's catalog."""
    await it.store.directory.put(tenant, expected=Revision(0))


async def test_a_tenant_registered_at_another_worker_a_moment_ago_is_known_here(anyio_backend: object) -> None:
    async with api(offer) as it:
        await registered_elsewhere(it, Tenant(id=TenantId("fresh"), api_keys_sha256=(key_sha256("wak_fresh"),)))
        assert (await it.ask("GET", "/api/things", key=ADMIN_KEY, x_tenant_id="fresh")).status == 200
    async with api(offer) as it:
        await registered_elsewhere(it, Tenant(id=TenantId("fresh"), api_keys_sha256=(key_sha256("wak_fresh"),)))
        assert (await it.ask("GET", "/api/things", key="wak_fresh")).body["data"]["tenant"] == "fresh"


async def test_with_the_store_away_known_keys_work_and_nobody_is_called_wrong(anyio_backend: object) -> None:
    async with api(offer) as it:
        it.store.faults.away = True
        assert (await it.ask("GET", "/api/things")).status == 200
        answer = await it.ask("GET", "/api/things", key="wak_unknown")
        assert (answer.status, answer.code) == (503, "STORE_UNAVAILABLE")


async def test_guessing_locks_the_address_out_but_not_the_customers_beside_it(anyio_backend: object) -> None:
    async with api(offer) as it:
        assert (await it.ask("GET", "/api/things", key=OTHER_KEY)).status == 200
        for guess in range(10):
            assert (await it.ask("GET", "/api/things", key=f"wak_{guess}")).status == 401
        answer = await it.ask("GET", "/api/things", key="wak_11")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "LOCKED_OUT", "1")
        assert (await it.ask("GET", "/api/things", key=ACME_KEY)).status == 429, "it was not seen here before: it may be a guess"
        assert (await it.ask("GET", "/api/things", key=OTHER_KEY)).status == 200
        it.now[0] += 1.0
        assert (await it.ask("GET", "/api/things", key=ACME_KEY)).status == 200


async def test_a_tenant_that_calls_too_often_is_told_how_long_to_wait(anyio_backend: object) -> None:
    async with api(offer, limits={"create": "2/3600"}) as it:
        thing = {"displayName": "a"}
        statuses = [(await it.ask("POST", "/api/things", data=thing)).status for _ in range(3)]
        answer = await it.ask("POST", "/api/things", data=thing)
        assert statuses == [200, 200, 429]
        assert (answer.code, answer.details) == ("RATE_LIMITED", {"limit": 2, "windowS": 3600})
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert (await it.ask("POST", "/api/things", data=thing, key=OTHER_KEY)).status == 200
        assert (await it.ask("POST", "/api/things", data=thing, key=ADMIN_KEY, x_tenant_id=ACME)).status == 200
        assert (await it.ask("POST", "/api/things", data={"displayName": 1})).status == 400, "what is not allowed is said first"
        it.store.faults.away = True
        assert (await it.ask("POST", "/api/things", data=thing)).status == 200, "a limit protects, it is no promise"
