"""The one shape of the API's errors (contract 5). `message` says what to do next. Ingest has its own, shorter shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web

REQUEST_ID = "X-Request-Id"


def error(
    status: int,
    code: str,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """`{"success": false, "error": {code, message, details, requestId}}`; without a `request_id` it gets a fresh one."""
    request_id = request_id or uuid4().hex
    body = {"code": code, "message": message, "details": dict(details or {}), "requestId": request_id}
    return web.json_response({"success": False, "error": body}, status=status, headers={REQUEST_ID: request_id, **(headers or {})})
