"""What an ECS task is told of itself (task metadata endpoint, version 4): which task this is, and what its clock is worth.

Owns the question and the reading of the answer. Nothing here is ever fatal: an endpoint that is away, slow or talks nonsense costs one log
line and at most a second, and the worker goes on as it would anywhere else. Nothing about safety may depend on the answers.
Source: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-response.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog

from worker.adapters.http_page import NoPage, Page, read_page

log = structlog.get_logger("worker.ecs")

TOLD_WITHIN_S = 1.0
"""At the start. The endpoint is on the host and answers in milliseconds."""
TOLD_AGAIN_WITHIN_S = 0.5
"""At the signal: half of PREPARE's second."""
MAX_ANSWER_BYTES = 1 << 20
MAX_TEXT_CHARS = 2_048
MAX_REVISION = (1 << 31) - 1
STOPPED = "STOPPED"
RUNNING = "RUNNING"


class NoTask(Exception):
    """Raised when an answer names no task; says what is wrong with it, never what stood there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsTask:
    """One task as its agent describes it. Text that was not told is empty; `clock_error_s`: the bound of the clock's error, where known.

    `revision` orders the task definitions of one `family` and of no other.
    """

    arn: str
    family: str
    revision: int
    zone: str = ""
    cluster: str = ""
    service: str = ""
    desired_status: str = ""
    clock_error_s: float | None = None


def task_of(document: object) -> EcsTask:
    """Reads the answer of `/task`, whatever it is. Raises `NoTask`. Pure.

    Without ARN, family and revision there is no task; of the rest, what has the wrong type is left out.
    """
    if not isinstance(document, Mapping):
        raise NoTask("the answer is no JSON object")
    arn, family, revision = _text(document, "TaskARN"), _text(document, "Family"), _revision(document.get("Revision"))
    missing = [name for name, value in (("TaskARN", arn), ("Family", family), ("Revision", revision)) if not value]
    if missing:
        raise NoTask(f"{', '.join(missing)} missing or of another type than documented")
    return EcsTask(
        arn=arn,
        family=family,
        revision=revision,
        zone=_text(document, "AvailabilityZone"),
        cluster=_text(document, "Cluster"),
        service=_text(document, "ServiceName"),
        desired_status=_text(document, "DesiredStatus"),
        clock_error_s=_clock_error_s(document.get("ClockDrift")),
    )


def _text(document: Mapping[Any, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) and len(value) <= MAX_TEXT_CHARS and value.isprintable() else ""


def _revision(value: object) -> int:
    """Documented as text of digits; 0 where it is none."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10 else value  # noqa: PLR2004
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number <= MAX_REVISION else 0


def _clock_error_s(drift: object) -> float | None:
    """`ClockErrorBound` is in milliseconds."""
    bound_ms = drift.get("ClockErrorBound") if isinstance(drift, Mapping) else None
    if isinstance(bound_ms, bool) or not isinstance(bound_ms, int | float):
        return None
    try:
        bound_s = float(bound_ms) / 1000
    except OverflowError:
        return None
    return bound_s if math.isfinite(bound_s) and bound_s >= 0 else None


class EcsMetadata:
    """The endpoint of one process. `uri` None: this is no ECS task, and nothing is ever asked. `task`: as last told."""

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self.task: EcsTask | None = None

    def __repr__(self) -> str:
        return f"<EcsMetadata is_there={self._uri is not None} task={self.task.arn if self.task else None}>"

    async def look(self, *, within_s: float = TOLD_WITHIN_S) -> EcsTask | None:
        """Asks once; never raises. What could not be told leaves `task` as it was, and says why in one log line."""
        if self._uri is None:
            return None
        try:
            page = await read_page(f"{self._uri.rstrip('/')}/task", within_s=within_s, max_bytes=MAX_ANSWER_BYTES)
            told = task_of(_document(page))
        except (NoPage, NoTask) as exc:
            log.warning("ecs_metadata_unknown", cause=str(exc), next_step="none: it goes on as without ECS; look at the host's agent")
            return None
        is_news, self.task = self.task is None, told
        if is_news:
            log.info("ecs_task", **self.statistics())
        return told

    async def is_told_to_stop(self) -> bool | None:
        """Whether ECS wants this task stopped; None where it does not say. A signal of somebody else's leaves the task wanted."""
        told = await self.look(within_s=TOLD_AGAIN_WITHIN_S)
        return None if told is None else {STOPPED: True, RUNNING: False}.get(told.desired_status)

    def statistics(self) -> dict[str, object]:
        """The task as last told; empty where there is none."""
        if self.task is None:
            return {}
        told = asdict(self.task)
        error_s = told.pop("clock_error_s")
        return told | {"clock_error_ms": None if error_s is None else round(error_s * 1_000, 3)}

    def clock_error(self) -> dict[tuple[str, ...], float]:
        """A gauge's source: the bound in seconds as last told, nothing where it was not."""
        bound_s = None if self.task is None else self.task.clock_error_s
        return {} if bound_s is None else {(): bound_s}


def _document(page: Page) -> object:
    if page.status != 200:  # noqa: PLR2004
        raise NoTask(f"it answered {page.status}")
    try:
        return orjson.loads(page.body)
    except orjson.JSONDecodeError:
        raise NoTask("the answer is no JSON") from None
