"""How often a tenant may call: per kind of call, shared over workers (contract 2, `api.rate_limits`).

The operator is not counted, nor is a call that repeats one whose `Idempotency-Key` is known. A store that is away lets everybody
through: a limit protects, it is no promise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, Self

import structlog

from worker.api.endpoints import ApiError, Call, CallKind
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import TenantId

log = structlog.get_logger("worker.api")

OFF = "off"

IsKnown = Callable[[TenantId, str], Awaitable[bool]]


class Rate(NamedTuple):
    """So many calls in so many seconds, wherever one begins to count."""

    calls: int
    window_s: int

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """`5/60`; None for `off`."""
        if text == OFF:
            return None
        calls, _, window_s = text.partition("/")
        return cls(int(calls), int(window_s))


class CallCounts(Protocol):
    """Counts in sliding windows, for all workers alike."""

    async def count(self, whose: str, kind: str, *, calls: int, window_s: int) -> float:
        """0.0: counted, let it through. Else seconds until there may be room; not counted. Raises `StoreUnavailable`, `StoreFull`."""
        ...


class Limits:
    """`count` each call before it is handled. `is_known`: whether a call of the tenant with this key has begun before."""

    def __init__(self, counts: CallCounts, rates: Mapping[CallKind, Rate], is_known: IsKnown | None = None) -> None:
        self._counts = counts
        self._rates = rates
        self._is_known = is_known
        self._is_away = False

    async def count(self, call: Call, kind: CallKind) -> None:
        """Raises `ApiError` 429 when there were too many."""
        rate = self._rates.get(kind)
        if rate is None or call.is_admin:
            return
        try:
            wait_s = 0.0 if await self._repeats(call) else await self._wait_s(call.tenant_id, kind, rate)
        except (StoreUnavailable, StoreFull) as exc:
            self._note_away(exc)
            return
        self._is_away = False
        if wait_s > 0:
            message = f"at most {rate.calls} calls of this kind in {rate.window_s} s; wait as Retry-After says"
            raise ApiError(429, "RATE_LIMITED", message, details={"limit": rate.calls, "windowS": rate.window_s}, retry_after_s=wait_s)

    async def _repeats(self, call: Call) -> bool:
        if self._is_known is None or call.idempotency_key is None:
            return False
        return await self._is_known(call.tenant_id, call.idempotency_key)

    async def _wait_s(self, tenant_id: TenantId, kind: CallKind, rate: Rate) -> float:
        return await self._counts.count(tenant_id, kind, calls=rate.calls, window_s=rate.window_s)

    def _note_away(self, why: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning("calls_not_counted", cause=str(why), next_step="calls are let through uncounted until the store answers")


def rates(settings: Mapping[str, str]) -> dict[CallKind, Rate]:
    """From `api.rate_limits`; what is `off` is left out."""
    parsed = {CallKind(kind): Rate.parsed(text) for kind, text in settings.items()}
    return {kind: rate for kind, rate in parsed.items() if rate is not None}
