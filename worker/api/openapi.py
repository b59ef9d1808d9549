"""The OpenAPI 3.1 document, from the endpoints and the very models that validate and answer. Pure.

What every endpoint may answer with is said here once; what one alone may, its `faults` say. Codes are listed per status, so that a code
nobody described does not conform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from worker.api.authentication import TENANT_ID
from worker.api.endpoints import ApiModel, Audience, Endpoint, Fault, uncounted
from worker.api.errors import REQUEST_ID
from worker.api.paths import parameters
from worker.api.reading import IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_PATTERN
from worker.domain.ids import NAME_PATTERN

Json = dict[str, Any]

VERSION = "1.0"
"""Of the API: grows when something is added, its first figure when something is taken away."""

DESCRIPTION = """\
Tenants, instances, webhooks, dead letters and events of a worker, with `Authorization: Bearer <key>`.

A tenant's key sees its tenant's data; the operator's key (`WORKER_HTTP__ADMIN_KEY`) names a tenant with `X-Tenant-Id`. What is not yours
does not exist: 404. Every answer carries `X-Request-Id`; the worker's log has the same one. Errors say the cause and the next step.
Lists page with `cursor` and `limit`: `meta.nextCursor` is the `cursor` of the next page, null on the last."""

_ANYWHERE = (
    Fault(
        status=400, code="INVALID_REQUEST", when="a field, parameter or header is not allowed; `details.field` and `details.hint` say which"
    ),
    Fault(status=400, code="MALFORMED_REQUEST", when="it cannot be read as HTTP/1.1: a line or header is too long, or broken"),
    Fault(status=401, code="UNAUTHORIZED", when="no key, or one that is not known"),
    Fault(status=408, code="BODY_TOO_SLOW", when="the body did not arrive in time"),
    Fault(status=413, code="BODY_TOO_LARGE", when="the body is larger than 256 KiB"),
    Fault(status=429, code="LOCKED_OUT", when="too many wrong keys came from this address"),
    Fault(status=500, code="INTERNAL_ERROR", when="a fault of the worker; its log has the cause under `requestId`"),
    Fault(status=503, code="STARTING", when="the worker is not ready yet"),
    Fault(status=503, code="DRAINING", when="the worker is going away"),
    Fault(status=503, code="STORE_UNAVAILABLE", when="the store did not answer"),
    Fault(status=503, code="STORE_FULL", when="the store takes nothing more"),
    Fault(status=503, code="TOO_MANY_CALLS", when="too many calls are under way"),
    Fault(status=503, code="DEADLINE_EXCEEDED", when="the call took too long"),
)
_OF_TENANTS = (
    Fault(status=400, code="TENANT_REQUIRED", when="the operator's key without `X-Tenant-Id`"),
    Fault(status=404, code="TENANT_NOT_FOUND", when="`X-Tenant-Id` names no tenant of this key"),
)
_OF_OPERATOR = (
    Fault(status=403, code="ADMIN_KEY_REQUIRED", when="a tenant's key"),
    Fault(status=403, code="ADMIN_KEY_NOT_SET", when="the worker has no operator's key"),
)
_WITH_BODY = (Fault(status=415, code="UNSUPPORTED_MEDIA_TYPE", when="the body is not `application/json` in UTF-8"),)
_WITH_ID = (Fault(status=404, code="NOT_FOUND", when="nothing can have such an id"),)
_COUNTED = (Fault(status=429, code="RATE_LIMITED", when="more calls of this kind than `api.rate_limits` allows"),)

_RETRY_AFTER = {429, 503}


class ErrorFacts(ApiModel):
    code: str
    message: str
    details: dict[str, Any]
    request_id: str


class ErrorBody(ApiModel):
    """Every error: its code, cause and next step in words, and the request's id."""

    success: Literal[False]
    error: ErrorFacts


def document(endpoints: Sequence[Endpoint]) -> Json:
    """All of it; the same endpoints make the same document."""
    refs, definitions = _schemas(endpoints)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, refs, definitions)
    asked = {refs[endpoint.query, "validation"]["$ref"].rpartition("/")[2] for endpoint in endpoints if endpoint.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {"title": "whatsapp-worker", "version": VERSION, "description": DESCRIPTION},
        "security": [{"tenantKey": []}, {"adminKey": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in definitions.items() if name not in asked},
            "securitySchemes": {
                "tenantKey": {"type": "http", "scheme": "bearer", "description": "a tenant's API key"},
                "adminKey": {"type": "http", "scheme": "bearer", "description": f"the operator's key; names a tenant with {TENANT_ID}"},
            },
        },
    }


Refs = Mapping[tuple[type[BaseModel], JsonSchemaMode], Json]


class _WithoutTitles(GenerateJsonSchema):
    """A title made of a field's name says nothing that its name does not."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - the library's signature
        return False


def faults_of(endpoint: Endpoint) -> list[Fault]:
    """Everything it may refuse with, each code once."""
    groups = [_ANYWHERE, _OF_TENANTS if endpoint.audience is Audience.TENANT else _OF_OPERATOR]
    groups += [_WITH_BODY] if endpoint.body is not None else []
    groups += [_WITH_ID] if parameters(endpoint.path) else []
    groups += [_COUNTED] if endpoint.kind is not uncounted else []
    by_code = {(fault.status, fault.code): fault for group in (*groups, endpoint.faults) for fault in group}
    return sorted(by_code.values(), key=lambda fault: fault.status)


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[Refs, Json]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ErrorBody, "serialization"): None}
    for endpoint in endpoints:
        for model, mode in _models(endpoint):
            wanted[model, mode] = None
    refs, schema = models_json_schema(
        list(wanted), by_alias=True, ref_template="#/components/schemas/{model}", schema_generator=_WithoutTitles
    )
    return {(model, mode): refs[model, mode] for model, mode in wanted}, schema["$defs"]


def _models(endpoint: Endpoint) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    taken: list[type[BaseModel] | None] = [endpoint.body, endpoint.query]
    given: list[type[BaseModel] | None] = [endpoint.data, endpoint.meta]
    return [(m, "validation") for m in taken if m is not None] + [(m, "serialization") for m in given if m is not None]


def _operation(endpoint: Endpoint, refs: Refs, definitions: Json) -> Json:
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint, refs, definitions),
        "responses": {str(endpoint.status): _answer(endpoint, refs), **_refusals(endpoint, refs)},
    }
    if endpoint.audience is Audience.ADMIN:
        operation["security"] = [{"adminKey": []}]
    if endpoint.body is not None:
        schema = refs[endpoint.body, "validation"]
        is_needed = any(field.is_required() for field in endpoint.body.model_fields.values())
        operation["requestBody"] = {"required": is_needed, "content": {"application/json": {"schema": schema}}}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    """`getTenantsByTenantIdKeys`."""
    words = [endpoint.method.lower()]
    for segment in endpoint.path.removeprefix("/api/").split("/"):
        name = f"by-{segment[1:-1]}" if segment.startswith("{") else segment
        words += [part[:1].upper() + part[1:] for part in name.split("-")]
    return "".join(words)


def _parameters(endpoint: Endpoint, refs: Refs, definitions: Json) -> list[Json]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _text(endpoint.path_patterns.get(name, NAME_PATTERN))}
        for name in parameters(endpoint.path)
    ]
    if endpoint.query is not None:
        schema = definitions[refs[endpoint.query, "validation"]["$ref"].rpartition("/")[2]]
        found += [_asked(name, field, schema.get("required", ())) for name, field in schema["properties"].items()]
    if endpoint.audience is Audience.TENANT:
        found.append(
            {"name": TENANT_ID, "in": "header", "schema": _text(NAME_PATTERN), "description": "whose data, with the operator's key"}
        )
    if endpoint.is_idempotent_by_key:
        said = "a repeated call with the same key and body is the same call"
        found.append({"name": IDEMPOTENCY_KEY, "in": "header", "schema": _text(IDEMPOTENCY_KEY_PATTERN), "description": said})
    return found


def _text(pattern: str) -> Json:
    return {"type": "string", "pattern": pattern}


def _asked(name: str, field: Json, required: Sequence[str]) -> Json:
    """A query parameter: what is not there is not null, so null is no value of it."""
    schema = {key: value for key, value in field.items() if key not in {"title", "description", "default"}}
    if "anyOf" in schema:
        kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
        schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if field.get("default") is not None:
        schema["default"] = field["default"]
    parameter: Json = {"name": name, "in": "query", "required": name in required, "schema": schema}
    return parameter | ({"description": field["description"]} if "description" in field else {})


def _answer(endpoint: Endpoint, refs: Refs) -> Json:
    answer: Json = {"description": HTTPStatus(endpoint.status).phrase, "headers": _headers(endpoint.status)}
    if endpoint.content_type is not None:
        return answer | {"content": {endpoint.content_type: {}}}
    if endpoint.status == HTTPStatus.NO_CONTENT:
        return answer
    given = {"data": endpoint.data, "meta": endpoint.meta}
    properties: Json = {"success": {"const": True, "type": "boolean"}}
    properties |= {name: refs[model, "serialization"] for name, model in given.items() if model is not None}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return answer | {"content": {"application/json": {"schema": schema}}}


def _refusals(endpoint: Endpoint, refs: Refs) -> Json:
    by_status: dict[int, list[Fault]] = {}
    for fault in faults_of(endpoint):
        by_status.setdefault(fault.status, []).append(fault)
    return {str(status): _refusal(status, faults, refs) for status, faults in by_status.items()}


def _refusal(status: int, faults: list[Fault], refs: Refs) -> Json:
    codes = {"type": "object", "properties": {"error": {"properties": {"code": {"enum": [fault.code for fault in faults]}}}}}
    schema = {"allOf": [refs[ErrorBody, "serialization"], codes]}
    described = "\n".join(f"- `{fault.code}`: {fault.when}" for fault in faults)
    return {"description": described, "headers": _headers(status), "content": {"application/json": {"schema": schema}}}


def _headers(status: int) -> Json:
    headers: Json = {REQUEST_ID: {"schema": {"type": "string"}, "required": True}}
    if status in _RETRY_AFTER:
        headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}, "required": True, "description": "seconds"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "required": True}
    return headers
