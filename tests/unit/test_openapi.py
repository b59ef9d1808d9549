"""The document is OpenAPI 3.1, says every refusal there can be, and speaks camelCase; the page for people quotes it safely."""

from __future__ import annotations

from typing import Any, Literal

import jsonschema_rs
import pytest
import schemathesis
from pydantic import Field

from worker.api.endpoints import ApiModel, Audience, Call, CallKind, Endpoint, Fault, PageMeta, Query, Reply
from worker.api.openapi import document
from worker.api.reference import page


class Asked(Query):
    sort_by: Literal["name", "age"] | None = Field(None, description="how to sort")
    limit: int = Field(50, ge=1, le=100)
    since: str


class Inner(ApiModel):
    display_name: str = Field(max_length=5, examples=["Ada"], description="what <people> call it & `more`")


class Sent(ApiModel):
    inner: list[Inner] = Field(max_length=3)
    maybe: Inner | None = None


class Note(ApiModel):
    note_text: str = ""


class Seen(ApiModel):
    """What was <seen>."""

    is_there: bool
    inner: Inner | None


async def handle(_call: Call) -> Reply:
    raise AssertionError("described, never called")


ENDPOINTS = [
    Endpoint(
        method="GET", path="/api/things", summary="List <things>", tag="Things", handle=handle, query=Asked, data=Seen, meta=PageMeta,
        kind=lambda _call: CallKind.READ,
    ),
    Endpoint(
        method="POST", path="/api/things", summary="Make one", tag="Things", handle=handle, body=Sent, data=Seen, status=201,
        is_idempotent_by_key=True, faults=[Fault(status=409, code="TAKEN", when="it is taken"), Fault(status=400, code="ODD", when="odd")],
    ),
    Endpoint(
        method="DELETE", path="/api/things/{thingId}/parts/{partId}", summary="", tag="Things", handle=handle, status=204,
        path_patterns={"partId": "^[0-9]+$"},
    ),
    Endpoint(method="GET", path="/api/things/{thingId}/picture", summary="", tag="Things", handle=handle, content_type="image/png"),
    Endpoint(method="POST", path="/api/all-things", summary="", tag="Other", handle=handle, audience=Audience.ADMIN, body=Note),
]  # fmt: skip


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ENDPOINTS)


def codes(operation: dict[str, Any], status: int) -> list[str]:
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    found: list[str] = schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]
    return found


def test_it_is_valid_openapi_and_each_of_its_schemas_is_one(described: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(described).validate()
    for schema in described["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_the_same_endpoints_make_the_same_document(described: dict[str, Any]) -> None:
    assert document(ENDPOINTS) == described


def test_parameters_are_those_of_path_query_and_headers(described: dict[str, Any]) -> None:
    parameters = {p["name"]: p for p in described["paths"]["/api/things"]["get"]["parameters"]}
    assert parameters["sortBy"] == {
        "name": "sortBy", "in": "query", "required": False, "schema": {"type": "string", "enum": ["name", "age"]},
        "description": "how to sort",
    }  # fmt: skip
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
    assert parameters["since"]["required"]
    assert parameters["X-Tenant-Id"]["in"] == "header"
    made = {p["name"] for p in described["paths"]["/api/things"]["post"]["parameters"]}
    assert made == {"X-Tenant-Id", "Idempotency-Key"}
    assert described["paths"]["/api/all-things"]["post"]["parameters"] == []
    deleted = described["paths"]["/api/things/{thingId}/parts/{partId}"]["delete"]["parameters"]
    assert [(p["name"], p["required"]) for p in deleted if p["in"] == "path"] == [("thingId", True), ("partId", True)]
    assert deleted[1]["schema"]["pattern"] == "^[0-9]+$"


def test_a_body_is_needed_where_something_in_it_is(described: dict[str, Any]) -> None:
    assert described["paths"]["/api/things"]["post"]["requestBody"]["required"]
    assert not described["paths"]["/api/all-things"]["post"]["requestBody"]["required"]


def test_every_refusal_is_there_with_its_codes(described: dict[str, Any]) -> None:
    make = described["paths"]["/api/things"]["post"]
    assert set(make["responses"]) == {"201", "400", "401", "404", "408", "409", "413", "415", "429", "500", "503"}
    assert codes(make, 400) == ["INVALID_REQUEST", "MALFORMED_REQUEST", "TENANT_REQUIRED", "ODD"]
    assert codes(make, 409) == ["TAKEN"]
    assert codes(make, 429) == ["LOCKED_OUT"]
    assert codes(described["paths"]["/api/things"]["get"], 429) == ["LOCKED_OUT", "RATE_LIMITED"]
    operators = described["paths"]["/api/all-things"]["post"]
    assert codes(operators, 403) == ["ADMIN_KEY_REQUIRED", "ADMIN_KEY_NOT_SET"]
    assert operators["security"] == [{"adminKey": []}]
    assert "404" not in operators["responses"]
    for status in ("429", "503"):
        assert make["responses"][status]["headers"]["Retry-After"]["required"]


def test_good_answers_are_in_their_envelope_or_said_to_be_none(described: dict[str, Any]) -> None:
    listed = described["paths"]["/api/things"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert listed["required"] == ["success", "data", "meta"]
    assert "content" not in described["paths"]["/api/things/{thingId}/parts/{partId}"]["delete"]["responses"]["204"]
    assert described["paths"]["/api/things/{thingId}/picture"]["get"]["responses"]["200"]["content"] == {"image/png": {}}


def test_fields_are_camel_case_without_titles_and_queries_are_no_components(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert "Asked" not in schemas
    assert set(schemas["Inner"]["properties"]) == {"displayName"}
    assert set(schemas["Seen"]["properties"]) == {"isThere", "inner"}
    assert schemas["Seen"]["required"] == ["isThere", "inner"]
    assert "title" not in schemas["Inner"]["properties"]["displayName"]


def test_the_page_for_people_has_everything_and_no_markup_of_ours_is_broken_by_what_it_quotes(described: dict[str, Any]) -> None:
    text = page(described).decode()
    assert "List &lt;things&gt;" in text
    assert "what &lt;people&gt; call it &amp; <code>more</code>" in text
    assert "inner[].displayName" in text
    assert "maybe.displayName" in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://127.0.0.1", "")
    for operation in (one for methods in described["paths"].values() for one in methods.values()):
        assert f'id="{operation["operationId"]}"' in text
