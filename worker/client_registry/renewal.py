"""Keeping leases: renewed every few seconds as long as the worker makes progress, given up in time when they cannot be proved.

Renewal needs progress: the sweep of deadlines and the reader's loop must have turned within 10 s, whether or not events
flow. A worker whose loops hang must not keep a lease alive; one whose endpoint hangs, or whose night is idle, must.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import structlog

from worker.client_registry.port import Leases
from worker.client_registry.tenure import Tenure, valid_until_s
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId

log = structlog.get_logger()

PROGRESS_WITHIN_S = 10.0
LOOK_EVERY_S = 0.1
TRY_AGAIN_S = 1.0


@dataclass(slots=True, kw_only=True)
class Renewal:
    """`run` renews, and calls `lose(tenure, reason)` for whatever cannot be proved any more."""

    leases: Leases
    owner: OwnerId
    ttl_s: float
    clock: Callable[[], float]
    unit_random: Callable[[], float]
    progress_at_s: list[Callable[[], float]] = field(default_factory=list)
    """When each of the loops that must turn last did."""

    async def run(self, active: Callable[[], list[Tenure]], lose: Callable[[Tenure, str], None]) -> None:
        """Looks ten times a second: what has run out is lost, what is due is renewed. A renewal that fails is tried again each second."""
        due_at_s = self._next_due_s()
        away = False
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            now_s = self.clock()
            for tenure in active():
                if now_s >= tenure.valid_until_s:
                    lose(tenure, "redis" if away else "expired")
            if now_s < due_at_s or not self._makes_progress(now_s, active, lose):
                continue
            try:
                await self._renew(active(), lose)
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("leases_not_renewed", cause=str(exc), next_step="tried again in a second, until their validity ends")
                away, due_at_s = True, self.clock() + TRY_AGAIN_S
            else:
                away, due_at_s = False, self._next_due_s()

    async def _renew(self, tenures: list[Tenure], lose: Callable[[Tenure, str], None]) -> None:
        if not tenures:
            return
        sent_at_s = self.clock()
        tokens = {t.shard: t.token for t in tenures}
        held = await self.leases.renew(tokens, self.owner, ttl_s=self.ttl_s)
        for tenure in tenures:
            if tenure.token != tokens[tenure.shard]:
                continue
            if tenure.shard in held:
                tenure.valid_until_s = valid_until_s(sent_at_s, self.ttl_s)
            elif not tenure.is_being_released:
                lose(tenure, "expired")

    def is_turning(self, now_s: float) -> bool:
        """Whether the loops turn that must; a worker whose loops hang neither keeps leases nor takes any."""
        return all(now_s - turned_at_s() < PROGRESS_WITHIN_S for turned_at_s in self.progress_at_s)

    def _makes_progress(self, now_s: float, active: Callable[[], list[Tenure]], lose: Callable[[Tenure, str], None]) -> bool:
        if self.is_turning(now_s):
            return True
        for tenure in active():
            if now_s >= tenure.valid_until_s - LOOK_EVERY_S:
                lose(tenure, "stalled")
        return False

    def _next_due_s(self) -> float:
        """4 s of 15, ± 10 %."""
        return self.clock() + self.ttl_s * 4 / 15 * (0.9 + 0.2 * self.unit_random())

    async def pause(self, seconds: float) -> None:
        await anyio.sleep(seconds)
