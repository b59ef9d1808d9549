"""`GET /api/drains`: what became of every event at the last shutdowns of all workers (contract 8), for the operator."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from worker.api.endpoints import ApiModel, Audience, Call, Endpoint, PageMeta, Reply
from worker.drain_report import KEPT_REPORTS, DrainReports


class Drain(ApiModel):
    at: str = Field(description="when it was written, RFC 3339")
    owner: str = Field(description="the worker process that left")
    report: dict[str, Any] = Field(description="the drain report as it was logged, in snake_case")


class Drains(ApiModel):
    drains: list[Drain]


def drain_endpoints(reports: DrainReports) -> list[Endpoint]:
    async def latest(_call: Call) -> Reply:
        kept = await reports.latest()
        drains = [Drain(at=one.at, owner=one.owner, report=dict(one.report)) for one in kept]
        return Reply(data=Drains(drains=drains), meta=PageMeta(next_cursor=None))

    summary = f"The last {KEPT_REPORTS} drain reports, newest first"
    return [
        Endpoint(
            method="GET", path="/api/drains", summary=summary, tag="Operation", audience=Audience.ADMIN,
            handle=latest, data=Drains, meta=PageMeta,
        ),
    ]  # fmt: skip
