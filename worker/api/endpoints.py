"""What the API is made of: endpoints, each declared once.

From that declaration it is served, guarded, limited, described in OpenAPI and tested with every kind of key. A handler gets a `Call`
(already authenticated, validated and counted) and answers with a `Reply`, or raises `ApiError`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from worker.domain.ids import TenantId

ModelT = TypeVar("ModelT", bound=BaseModel)


class ApiModel(BaseModel):
    """A body, a query or an answer: camelCase outside, no field that is not declared, nothing coerced from another type."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True)


class Query(ApiModel):
    """A query string: its values come as text and are read as what the field wants."""

    model_config = ConfigDict(strict=False)


class Page(Query):
    """Lists page: `cursor` is the `meta.nextCursor` of the page before. A list whose cursors have a form says so in a pattern."""

    cursor: str | None = Field(None, min_length=1, max_length=512, description="`meta.nextCursor` of the page before")
    limit: int = Field(50, ge=1, le=100, description="entries on a page")


class PageMeta(ApiModel):
    next_cursor: str | None = Field(description="for the next page; null: this was the last")


class Audience(Enum):
    """Whose key an endpoint wants."""

    TENANT = "tenant"
    """A tenant's key, or the admin key with `X-Tenant-Id`."""
    ADMIN = "admin"
    """The admin key alone; a tenant's key gets 403."""


class CallKind(StrEnum):
    """What is counted against `WORKER_API__RATE_LIMITS` (contract 2)."""

    READ = "read"
    SYNC = "sync"
    REFRESH = "refresh"
    CREATE = "create"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error an endpoint may answer with, for its description."""

    status: int
    code: str
    when: str


class ApiError(Exception):
    """Raised by handlers. `message` says what to do next; `details` and `message` hold no secret."""

    def __init__(
        self, status: int, code: str, message: str, *, details: Mapping[str, Any] | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as a handler sees it."""

    request_id: str
    actor: str
    """`admin`, or `key:<first 8 hex digits of its hash>`: for logs and rows that say who did it."""
    is_admin: bool
    tenant: TenantId | None
    """Whose data this is about; None only for `Audience.ADMIN` endpoints."""
    path: Mapping[str, str] = field(default_factory=dict)
    query: BaseModel | None = None
    body: BaseModel | None = None
    idempotency_key: str | None = None

    @property
    def tenant_id(self) -> TenantId:
        assert self.tenant is not None, "asked of an endpoint for tenants only"
        return self.tenant

    def asked(self, model: type[ModelT]) -> ModelT:
        """The query, which is of the endpoint's own model."""
        assert isinstance(self.query, model)
        return self.query

    def sent(self, model: type[ModelT]) -> ModelT:
        """The body, which is of the endpoint's own model."""
        assert isinstance(self.body, model)
        return self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`body` is served as `{"success": true, "data": …, "meta": …}`; `content` instead of it as it is (a picture)."""

    status: int = 200
    data: BaseModel | None = None
    meta: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/json"


Handler = Callable[[Call], Awaitable[Reply]]


def uncounted(_call: Call) -> None:
    """The `kind` of whatever has no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `path` holds its parameters in braces, as in OpenAPI: `/api/webhooks/{webhookId}`."""

    method: str
    path: str
    summary: str
    tag: str
    handle: Handler
    data: type[BaseModel] | None = None
    """Of a good answer; None: it has none."""
    meta: type[BaseModel] | None = None
    content_type: str | None = None
    """Of an answer that is not our envelope."""
    status: int = 200
    """Of a good answer."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    audience: Audience = Audience.TENANT
    is_idempotent_by_key: bool = False
    """Takes an `Idempotency-Key`."""
    kind: Callable[[Call], CallKind | None] = uncounted
    """What this call is counted as; None: it is not."""
    path_patterns: Mapping[str, str] = field(default_factory=dict)
    """Of path parameters that are no names (`NAME_PATTERN`); what does not match is a 404."""
    faults: Sequence[Fault] = ()
    """Beside those that every endpoint may answer with: 400, 401, 403, 404, 408, 413, 415, 429, 500, 503."""
