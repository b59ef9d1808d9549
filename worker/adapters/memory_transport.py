"""The transport's twin: endpoints that follow a script, in whatever time the loop keeps. No sockets.

A script is a sequence of steps, one for each attempt; the last repeats. It may be replaced at any time; attempts under way
keep the step they began with. A URL without a script is a host that does not exist.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from worker.domain.deadline import Deadline
from worker.event_integration.transport import Answer, Cause, Failure, Request, Stage

KEPT_ATTEMPTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A status line, `after_s` seconds after the attempt began."""

    status: int = 200
    after_s: float = 0.0
    retry_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """No status line: it ended in `stage`."""

    stage: Stage
    cause: Cause
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangs:
    """Nothing more from `stage` on, until the deadline."""

    stage: Stage = Stage.FIRST_BYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Decides:
    """Looks at the request first."""

    by: Callable[[Request], Answers | Fails | Hangs]


Step = Answers | Fails | Hangs | Decides
_NOWHERE = Fails(stage=Stage.DNS, cause=Cause.DNS)


@dataclass(slots=True, kw_only=True)
class Attempted:
    """One attempt as the endpoint saw it; `result` is None while it is under way and for ever when it was cancelled."""

    request: Request
    began_s: float
    result: Answer | Failure | None = field(default=None)


class MemoryTransport:
    """`Transport` without sockets; `attempts` keeps the last 100 000, oldest first."""

    def __init__(self) -> None:
        self.attempts: deque[Attempted] = deque(maxlen=KEPT_ATTEMPTS)
        self.under_way: dict[str, int] = {}
        self._scripts: dict[str, deque[Step]] = {}
        self._is_closed = False

    def script(self, url: str, *steps: Step) -> None:
        """What the endpoint does from the next attempt on."""
        if not steps:
            raise ValueError(f"a script for {url} needs at least one step")
        self._scripts[url] = deque(steps)

    def received(self, url: str) -> list[Request]:
        """What reached the endpoint, oldest first: every attempt but those that ended before anything was sent."""
        return [a.request for a in self.attempts if a.request.url == url and not _ended_early(a.result)]

    async def deliver(self, request: Request, deadline: Deadline) -> Answer | Failure:
        now_s = anyio.current_time()
        if deadline.has_passed(now_s):
            return Failure(stage=Stage.QUEUE, cause=Cause.TIMEOUT, detail=f"{deadline.name} passed before the attempt began")
        if self._is_closed:
            return Failure(stage=Stage.CONNECT, cause=Cause.RESET, detail="the transport is closed")
        attempted = Attempted(request=request, began_s=now_s)
        self.attempts.append(attempted)
        self.under_way[request.url] = self.under_way.get(request.url, 0) + 1
        try:
            step = self._next_step(request.url)
            attempted.result = await self._play(step.by(request) if isinstance(step, Decides) else step, now_s, deadline)
        finally:
            self.under_way[request.url] -= 1
        return attempted.result

    async def close(self) -> None:
        self._is_closed = True

    def statistics(self) -> Mapping[str, int]:
        return {"under_way": sum(self.under_way.values()), "drains": 0}

    def __repr__(self) -> str:
        return f"<MemoryTransport {len(self._scripts)} endpoints, {sum(self.under_way.values())} under way>"

    def _next_step(self, url: str) -> Step:
        steps = self._scripts.get(url)
        if steps is None:
            return _NOWHERE
        return steps.popleft() if len(steps) > 1 else steps[0]

    async def _play(self, step: Answers | Fails | Hangs, now_s: float, deadline: Deadline) -> Answer | Failure:
        ends_s = float("inf") if isinstance(step, Hangs) else now_s + step.after_s
        if ends_s <= now_s:
            await anyio.lowlevel.checkpoint()
        else:
            with anyio.CancelScope(deadline=min(ends_s, deadline.at_s)):
                await anyio.sleep_forever()
        took_s = anyio.current_time() - now_s
        if ends_s > deadline.at_s or isinstance(step, Hangs):
            stage = Stage.FIRST_BYTE if isinstance(step, Answers) else step.stage
            return Failure(stage=stage, cause=Cause.TIMEOUT, detail=f"{deadline.name} passed", phases_s={stage: took_s})
        if isinstance(step, Fails):
            return Failure(stage=step.stage, cause=step.cause, detail="scripted", phases_s={step.stage: took_s})
        return Answer(status=step.status, retry_after=step.retry_after, phases_s={Stage.FIRST_BYTE: took_s})


def _ended_early(result: Answer | Failure | None) -> bool:
    return isinstance(result, Failure) and result.stage in {Stage.DNS, Stage.CONNECT, Stage.TLS, Stage.SEND}
