"""Whose key a call carries, and whose data it may touch. Knows keys by their hashes only; compares in constant time.

A tenant's key speaks for its tenant; the admin key for nobody until `X-Tenant-Id` names one. What is not one's own does not exist: 404.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

import structlog

from worker.api.endpoints import ApiError, Audience
from worker.api.lock_out import LockOut
from worker.directory.port import Kind, Stored
from worker.domain.catalog import Catalog, Tenant
from worker.domain.ids import TenantId

TENANT_ID = "X-Tenant-Id"
ADMIN = "admin"
SHOWN_DIGITS = 8

log = structlog.get_logger("worker.api")


class Registered(Protocol):
    """Asks the store for what this worker may not have heard of yet (`Registrar`). Both raise `StoreUnavailable`."""

    async def find_tenant_of_key(self, key_sha256: str) -> Tenant | None: ...

    async def find(self, kind: Kind, row_id: str) -> Stored | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request shows of itself. `peer`: the address it came from."""

    authorization: str | None = field(repr=False)
    tenant_id: str | None
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and about whom. `tenant` None: the operator, about nobody in particular."""

    actor: str
    is_admin: bool
    tenant: TenantId | None


class Authentication:
    """`caller` for each call. `admin_key` None: there is no operator."""

    def __init__(self, catalog: Catalog, registered: Registered, *, admin_key: str | None, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._registered = registered
        self._admin_sha256 = None if admin_key is None else key_sha256(admin_key)
        self.lock_out = LockOut(clock)

    async def caller(self, shown: Credentials, audience: Audience) -> Caller:
        """Raises `ApiError` for whoever may not, and `StoreUnavailable` where nobody can tell."""
        if audience is Audience.ADMIN and self._admin_sha256 is None:
            raise ApiError(403, "ADMIN_KEY_NOT_SET", "this call wants the operator's key and there is none; set WORKER_HTTP__ADMIN_KEY")
        key = _bearer(shown.authorization)
        if (wait_s := self.lock_out.wait_s(shown.peer, key)) > 0:
            raise _locked_out(wait_s)
        if self._admin_sha256 is not None and hmac.compare_digest(key, self._admin_sha256):
            self.lock_out.was_right(key)
            return await self._operator(shown, audience)
        tenant = self._catalog.tenant_of_key(key) or await self._registered.find_tenant_of_key(key)
        if tenant is None:
            raise self._wrong(shown.peer, key)
        self.lock_out.was_right(key)
        if audience is Audience.ADMIN:
            raise ApiError(403, "ADMIN_KEY_REQUIRED", "a tenant's key may not do this; use the operator's (WORKER_HTTP__ADMIN_KEY)")
        if shown.tenant_id is not None and shown.tenant_id != tenant.id:
            raise _no_such_tenant()
        return Caller(actor=f"key:{key[:SHOWN_DIGITS]}", is_admin=False, tenant=tenant.id)

    async def _operator(self, shown: Credentials, audience: Audience) -> Caller:
        if audience is Audience.ADMIN:
            return Caller(actor=ADMIN, is_admin=True, tenant=None)
        if shown.tenant_id is None:
            raise ApiError(400, "TENANT_REQUIRED", f"the operator's key belongs to no tenant; name one with {TENANT_ID}")
        tenant_id = TenantId(shown.tenant_id)
        if tenant_id not in self._catalog.tenants and await self._registered.find(Kind.TENANT, tenant_id) is None:
            raise _no_such_tenant()
        return Caller(actor=ADMIN, is_admin=True, tenant=tenant_id)

    def _wrong(self, peer: str, key: str) -> ApiError:
        if (wait_s := self.lock_out.was_wrong(peer, key)) > 0:
            log.warning("api_locked_out", peer=peer, wait_s=wait_s, cause="too many wrong keys", next_step="see who sends them")
        return _unauthorized("this key is not known; it may have been deleted")


def key_sha256(key: str) -> str:
    """As it is stored: 64 lower-case hex digits. Whatever arrives in a header has a hash, UTF-8 or not."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise _unauthorized("this call wants a key")
    return key_sha256(key.strip())


def _unauthorized(why: str) -> ApiError:
    return ApiError(401, "UNAUTHORIZED", f"{why}; send Authorization: Bearer <key>")


def _no_such_tenant() -> ApiError:
    return ApiError(404, "TENANT_NOT_FOUND", f"{TENANT_ID} names no tenant of yours; correct it, or leave it out with a tenant's own key")


def _locked_out(wait_s: float) -> ApiError:
    return ApiError(429, "LOCKED_OUT", "too many wrong keys came from this address; wait, then use the right one", retry_after_s=wait_s)
