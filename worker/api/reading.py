"""From a request to values: body, query and headers, within their bounds, or an `ApiError` that says what is wrong with them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import anyio
import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from worker.api.endpoints import ApiError, Endpoint
from worker.api.faults import invalid, invalid_by, shown

MAX_BODY_BYTES = 256 << 10
MAX_PARAMETERS = 32
MAX_NESTING = 32
BODY_ARRIVES_S = 10.0
"""`api_body`: from the head of a request to the last byte of its body."""
IDEMPOTENCY_KEY = "Idempotency-Key"
_EXACT = 2.0**53
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"


async def sent_body(request: web.Request, endpoint: Endpoint) -> BaseModel | None:
    """The body as the endpoint's model; None where it takes none. Raises `ApiError`. Cancelling loses the rest of the body."""
    raw = await _bytes_of(request)
    if endpoint.body is None:
        if raw.strip() not in {b"", b"{}"}:
            raise invalid("body", "this call takes no body; leave it out")
        return None
    if raw or request.content_type != "application/octet-stream":  # what aiohttp says where nothing is said
        _expect_json(request)
    try:
        return endpoint.body.model_validate_json(_sound(raw or b"{}"), by_alias=True, by_name=False)
    except ValidationError as exc:
        raise invalid_by(exc, endpoint.body) from None  # the cause quotes what was sent


def asked_query(request: web.Request, endpoint: Endpoint) -> BaseModel | None:
    """The query as the endpoint's model. Raises `ApiError`."""
    parameters = _parameters(request.rel_url.raw_query_string)
    if endpoint.query is None:
        for name in parameters:
            raise invalid(f"query.{shown(name)}", "unknown; this call takes no query parameters")
        return None
    try:
        return endpoint.query.model_validate(parameters, by_alias=True, by_name=False)
    except ValidationError as exc:
        raise invalid_by(exc, endpoint.query, whole="query") from None


def only_header(request: web.Request, name: str) -> str | None:
    """A header that may be there once. Raises `ApiError`."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise invalid(name, "is there more than once; send it once")
    return values[0] if values else None


def idempotency_key(request: web.Request, endpoint: Endpoint) -> str | None:
    """Of an endpoint that takes one."""
    key = only_header(request, IDEMPOTENCY_KEY) if endpoint.is_idempotent_by_key else None
    if key is not None and not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, key):
        raise invalid(IDEMPOTENCY_KEY, "allowed: 1 to 255 visible ASCII characters, no spaces")
    return key


async def _bytes_of(request: web.Request) -> bytes:
    announced = request.content_length
    if announced is not None and announced > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        with anyio.fail_after(BODY_ARRIVES_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise ApiError(408, "BODY_TOO_SLOW", f"the body did not arrive within {BODY_ARRIVES_S:g} s; send it again") from None
    except (web.RequestPayloadError, ConnectionError):
        raise invalid("body", "was cut off or its encoding is broken; send it again") from None
    return bytes(body)


def _too_large() -> ApiError:
    return ApiError(413, "BODY_TOO_LARGE", f"at most {MAX_BODY_BYTES} bytes; send less at once", details={"maxBytes": MAX_BODY_BYTES})


def _expect_json(request: web.Request) -> None:
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/json" or charset not in {"utf-8", "utf8", "us-ascii"}:
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "send JSON in UTF-8 with Content-Type: application/json")


def _sound(text: bytes) -> bytes:
    """The same JSON where it has one meaning only: UTF-8, no name twice, numbers that exist, within 32 levels; an object."""
    try:
        orjson.loads(text)  # strict where `json` is lenient: UTF-8, lone surrogates, NaN
        value = json.loads(text.decode(), object_pairs_hook=_object, parse_float=_number)
        if not isinstance(value, dict):
            raise invalid("body", "allowed: a JSON object")
        if _depth(value) > MAX_NESTING:
            raise invalid("body", f"allowed: at most {MAX_NESTING} levels of nesting")
        return orjson.dumps(value)  # refuses whole numbers beyond 64 bits
    except _NotSound as exc:
        raise invalid("body", str(exc)) from None
    except (ValueError, TypeError, RecursionError):
        raise invalid("body", "is no JSON in UTF-8, or holds a number that is none; see /openapi.json for an example") from None


class _NotSound(Exception):
    """Raised inside the JSON parser for what it would let through."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _NotSound(f"has the field {shown(twice)} twice; send each field once")
    return found


def _number(text: str) -> float | int:
    """To JSON Schema 1.0 is a whole number, to pydantic it is none: what is whole is read as such."""
    number = float(text)  # finite: what is not did not get past orjson
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _depth(value: object) -> int:
    """By levels, not by recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inner for item in items]
    return depth


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
        query.encode()  # what was no UTF-8 in the request line came as surrogates
    except ValueError:
        raise invalid("query", f"allowed: at most {MAX_PARAMETERS} parameters, percent-encoded UTF-8") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise invalid(f"query.{shown(name)}", "is there more than once; send each parameter once")
        found[name] = value
    return found
