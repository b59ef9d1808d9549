"""Tenants and their API keys, for the operator. A key is shown once, when it is made; what is kept of it is its hash."""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from pydantic import Field

from worker.api.authentication import SHOWN_DIGITS, key_sha256
from worker.api.endpoints import ApiError, ApiModel, Audience, Call, Endpoint, Fault, Page, PageMeta, Reply
from worker.directory.port import Kind, Revision, RowConflict
from worker.directory.registering import Declared, Registrar
from worker.domain.catalog import Catalog, Tenant
from worker.domain.ids import NAME_PATTERN, TenantId

KEY_PREFIX = "wak_"
KEY_BYTES = 32
MAX_KEYS = 100
KEY_ID_PATTERN = r"^[0-9a-f]{8}$"

NOT_FOUND = Fault(status=404, code="TENANT_NOT_FOUND", when="there is no such tenant")
KEY_NOT_FOUND = Fault(status=404, code="KEY_NOT_FOUND", when="this tenant has no such key")
EXISTS = Fault(status=409, code="TENANT_ALREADY_EXISTS", when="the id is taken")
DECLARED = Fault(status=409, code="DECLARED_IN_FILE", when="the tenant is declared in the worker's file")
CONFLICT = Fault(status=409, code="CHANGED_MEANWHILE", when="others change the same tenant all the time")
TOO_MANY = Fault(status=409, code="TOO_MANY_KEYS", when=f"the tenant has {MAX_KEYS} keys")

log = structlog.get_logger("worker.api")


class TenantsQuery(Page):
    cursor: str | None = Field(None, pattern=NAME_PATTERN, description="`meta.nextCursor` of the page before")


class NewTenant(ApiModel):
    id: str = Field(pattern=NAME_PATTERN, description="1 to 64 letters, digits, . _ -, letter or digit first", examples=["acme"])
    name: str = Field("", max_length=200, description="for people")


class TenantShown(ApiModel):
    id: str
    name: str
    read_only: bool = Field(description="declared in the worker's file: it does not change here")
    keys: int = Field(description="how many API keys it has")


class ManyTenants(ApiModel):
    tenants: list[TenantShown]


class KeyShown(ApiModel):
    id: str = Field(description="the first 8 hex digits of the key's SHA-256; logs name it `key:<id>`")


class ManyKeys(ApiModel):
    keys: list[KeyShown]


class KeyMade(ApiModel):
    id: str = Field(description="the first 8 hex digits of the key's SHA-256")
    key: str = Field(description="shown now and never again")


@dataclass(frozen=True, slots=True)
class _Tenants:
    """The handlers. `new_key`: a fresh key, unguessable."""

    catalog: Catalog
    registrar: Registrar
    new_key: Callable[[], str]

    async def page(self, call: Call) -> Reply:
        asked = call.asked(TenantsQuery)
        after = asked.cursor or ""
        ids = heapq.nsmallest(asked.limit + 1, (tenant_id for tenant_id in self.catalog.tenants if tenant_id > after))
        shown = [self._shown(self.catalog.tenants[tenant_id]) for tenant_id in ids[: asked.limit]]
        return Reply(data=ManyTenants(tenants=shown), meta=PageMeta(next_cursor=shown[-1].id if len(ids) > asked.limit else None))

    async def create(self, call: Call) -> Reply:
        sent = call.sent(NewTenant)
        tenant = Tenant(id=TenantId(sent.id), name=sent.name)
        if tenant.id in self.catalog.tenants:
            raise _exists(tenant.id)
        try:
            await self.registrar.put(tenant, expected=Revision(0))
        except RowConflict as exc:
            if exc.what == "room":
                raise ApiError(409, "TOO_MANY_TENANTS", "the directory holds no more tenants; use those there are") from exc
            raise _exists(tenant.id) from exc
        log.info("tenant_created", created=tenant.id)
        return Reply(status=201, data=self._shown(tenant))

    async def show(self, call: Call) -> Reply:
        return Reply(data=self._shown(await self._named(call)))

    async def keys(self, call: Call) -> Reply:
        tenant = await self._named(call)
        return Reply(data=ManyKeys(keys=[KeyShown(id=sha[:SHOWN_DIGITS]) for sha in tenant.api_keys_sha256]))

    async def make_key(self, call: Call) -> Reply:
        tenant = await self._named(call)
        key, sha = self._unlike(tenant)

        def with_it(row: Tenant) -> Tenant:
            if len(row.api_keys_sha256) >= MAX_KEYS:
                raise ApiError(409, TOO_MANY.code, f"tenant {row.id} has {MAX_KEYS} keys; delete one that nobody uses")
            return row if sha in row.api_keys_sha256 else replace(row, api_keys_sha256=(*row.api_keys_sha256, sha))

        await self._change(tenant, with_it)
        log.info("api_key_created", of=tenant.id, key_id=sha[:SHOWN_DIGITS])
        return Reply(status=201, data=KeyMade(id=sha[:SHOWN_DIGITS], key=key))

    async def delete_key(self, call: Call) -> Reply:
        tenant, key_id = await self._named(call), call.path["keyId"]

        def without_it(row: Tenant) -> Tenant:
            left = tuple(sha for sha in row.api_keys_sha256 if not sha.startswith(key_id))
            if len(left) == len(row.api_keys_sha256):
                raise ApiError(404, KEY_NOT_FOUND.code, f"tenant {row.id} has no key of this id; its list of keys shows those it has")
            return replace(row, api_keys_sha256=left)

        await self._change(tenant, without_it)
        log.info("api_key_deleted", of=tenant.id, key_id=key_id)
        return Reply(status=204)

    async def _named(self, call: Call) -> Tenant:
        tenant_id = TenantId(call.path["tenantId"])
        known = self.catalog.tenants.get(tenant_id)
        if known is None:
            stored = await self.registrar.find(Kind.TENANT, tenant_id)
            known = stored.row if stored is not None and isinstance(stored.row, Tenant) else None
        if known is None:
            raise _unknown()
        return known

    async def _change(self, tenant: Tenant, edit: Callable[[Tenant], Tenant]) -> None:
        try:
            changed = await self.registrar.change(tenant, edit)
        except Declared as exc:
            raise ApiError(409, DECLARED.code, str(exc)) from exc
        except RowConflict as exc:
            raise ApiError(409, CONFLICT.code, "others change this tenant at the same time; try again") from exc
        if changed is None:
            raise _unknown()

    def _unlike(self, tenant: Tenant) -> tuple[str, str]:
        """A new key and its hash, whose id no other key of the tenant has."""
        while True:
            key = self.new_key()
            sha = key_sha256(key)
            if not any(known.startswith(sha[:SHOWN_DIGITS]) for known in tenant.api_keys_sha256):
                return key, sha

    def _shown(self, tenant: Tenant) -> TenantShown:
        return TenantShown(id=tenant.id, name=tenant.name, read_only=self.catalog.is_declared(tenant), keys=len(tenant.api_keys_sha256))


def tenant_endpoints(catalog: Catalog, registrar: Registrar, *, new_key: Callable[[], str] | None = None) -> list[Endpoint]:
    """The operator's: tenants, and the keys of one."""
    tenants = _Tenants(catalog, registrar, new_key or fresh_key)
    one, keys = "/api/tenants/{tenantId}", "/api/tenants/{tenantId}/keys"
    return [
        Endpoint(
            method="GET", path="/api/tenants", summary="List tenants", tag="Tenants", audience=Audience.ADMIN,
            handle=tenants.page, query=TenantsQuery, data=ManyTenants, meta=PageMeta,
        ),
        Endpoint(
            method="POST", path="/api/tenants", summary="Register a tenant", tag="Tenants", audience=Audience.ADMIN,
            handle=tenants.create, body=NewTenant, status=201, data=TenantShown,
            faults=(EXISTS, Fault(status=409, code="TOO_MANY_TENANTS", when="the directory is full")),
        ),
        Endpoint(
            method="GET", path=one, summary="Show a tenant", tag="Tenants", audience=Audience.ADMIN,
            handle=tenants.show, data=TenantShown, faults=(NOT_FOUND,),
        ),
        Endpoint(
            method="GET", path=keys, summary="List the ids of a tenant's keys", tag="Tenants", audience=Audience.ADMIN,
            handle=tenants.keys, data=ManyKeys, faults=(NOT_FOUND,),
        ),
        Endpoint(
            method="POST", path=keys, summary="Make a key for a tenant; it is shown once", tag="Tenants", audience=Audience.ADMIN,
            handle=tenants.make_key, status=201, data=KeyMade, faults=(NOT_FOUND, DECLARED, TOO_MANY, CONFLICT),
        ),
        Endpoint(
            method="DELETE", path=f"{keys}/{{keyId}}", summary="Delete a key; all workers refuse it within a second", tag="Tenants",
            audience=Audience.ADMIN, handle=tenants.delete_key, status=204, path_patterns={"keyId": KEY_ID_PATTERN},
            faults=(NOT_FOUND, KEY_NOT_FOUND, DECLARED, CONFLICT),
        ),
    ]  # fmt: skip


def fresh_key() -> str:
    """`wak_` and 43 characters that stand in URLs: 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def _unknown() -> ApiError:
    return ApiError(404, NOT_FOUND.code, "there is no such tenant; GET /api/tenants lists them, POST /api/tenants makes one")


def _exists(tenant_id: TenantId) -> ApiError:
    return ApiError(409, EXISTS.code, f"there is a tenant {tenant_id} already; use it, or choose another id")
