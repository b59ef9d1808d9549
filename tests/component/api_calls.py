"""Calls of the API without HTTP: what the frame makes of a request, given to the endpoint's own handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tests.component.rig import ACME
from worker.api.endpoints import ApiError, Call, Endpoint, Reply
from worker.api.paths import Paths, allows
from worker.domain.ids import TenantId


class Api:
    """`ask` answers status and body; a refusal is a status with its code as body."""

    def __init__(self, endpoints: Sequence[Endpoint], tenant: TenantId = ACME, *, is_admin: bool = False) -> None:
        self._paths = Paths(endpoints)
        self._tenant = tenant
        self._is_admin = is_admin

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> tuple[int, Any]:
        match = self._paths.find(path)
        assert match is not None, f"no such path: {path}"
        endpoint = match.endpoint(method)
        assert endpoint is not None, f"no {method} {path}"
        if not allows(endpoint, match.values):
            return 404, "NOT_FOUND"
        call = Call(
            request_id="r",
            actor="test",
            is_admin=self._is_admin,
            tenant=self._tenant,
            path=match.values,
            query=endpoint.query.model_validate(query, by_alias=True, by_name=False) if endpoint.query else None,
            body=endpoint.body.model_validate_json(orjson.dumps(body or {}), by_alias=True, by_name=False) if endpoint.body else None,
        )
        try:
            return _answer(endpoint, await endpoint.handle(call))
        except ApiError as refused:
            return refused.status, refused.code


def _answer(endpoint: Endpoint, reply: Reply) -> tuple[int, Any]:
    """Checks on the way that the answer is what the endpoint declares."""
    assert reply.status == endpoint.status
    if reply.content is not None:
        body = orjson.loads(reply.content)
        assert endpoint.data is not None
        endpoint.data.model_validate_json(orjson.dumps(body["data"]))
        return reply.status, body
    body = {}
    for name, value, declared in (("data", reply.data, endpoint.data), ("meta", reply.meta, endpoint.meta)):
        assert (value is None) == (declared is None)
        if value is not None and declared is not None:
            assert isinstance(value, declared)
            body[name] = orjson.loads(value.model_dump_json(by_alias=True))
    return reply.status, body
