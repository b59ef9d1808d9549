"""A call with an `Idempotency-Key` happens once: on whichever worker, however often it is repeated, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex

import anyio
import structlog

from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull, StoreUnavailable, WorkerError
from worker.instances.flights import Flights
from worker.instances.idempotency import Finished, Holder, Idempotency, Mine, Repeatable, Running

log = structlog.get_logger("worker.instances")

LEASE_S = 10.0
"""A worker that died is waited for no longer: less than the deadline of whoever repeats its call."""
RENEW_EVERY_S = 3.0
LEAVE_WITHIN_S = 2.0
FIRST_LOOK_S = 0.05
SLOWEST_LOOK_S = 0.5
"""Another worker runs the call: nobody tells us when it ends. One look for all who wait here."""


class KeyReused(WorkerError):
    """Raised when the key was used before with another body."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another body; use a new key for a new request")


class StillRunning(WorkerError):
    """Raised when the call with this key runs elsewhere and did not end within our deadline."""

    def __init__(self) -> None:
        super().__init__("a call with this Idempotency-Key is still running; repeat it with the same key")


@dataclass(frozen=True, slots=True)
class _Run:
    call: Repeatable
    holder: Holder
    plan: bytes


class Once:
    """`run` for every call; `clock` is monotonic, of the deadlines given."""

    def __init__(self, store: Idempotency, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._flights: Flights[Repeatable, bytes] = Flights()

    async def run(self, call: Repeatable, plan: bytes, work: Callable[[bytes], Awaitable[bytes]], deadline: Deadline) -> bytes:
        """The call's final answer: what `work` answers by the plan of the first call, or answered before.

        Where `work` raises there is no final answer: the next call goes on with the same plan. Raises `KeyReused`, `StillRunning`,
        `StoreUnavailable`, `StoreFull`, and what `work` raises. Cancelling leaves the call to the next.
        """
        return await self._flights.share(call, lambda: self._run(call, plan, work, deadline))

    async def _run(self, call: Repeatable, plan: bytes, work: Callable[[bytes], Awaitable[bytes]], deadline: Deadline) -> bytes:
        holder, pause_s = Holder(token_hex(8)), FIRST_LOOK_S
        while True:
            match await self._store.begin(call, holder, plan, lease_s=LEASE_S):
                case Finished(answer):
                    return answer
                case Mine(first_plan):
                    answer = await self._worked(_Run(call, holder, first_plan), work)
                    if await self._is_final(call, holder, answer):
                        return answer
                case Running(lease_left_s):
                    left_s = deadline.left_s(self._clock())
                    if left_s <= 0:
                        raise StillRunning
                    await anyio.sleep(min(pause_s, left_s, max(lease_left_s, FIRST_LOOK_S)))
                    pause_s = min(pause_s * 2, SLOWEST_LOOK_S)
                case _:
                    raise KeyReused

    async def _worked(self, run: _Run, work: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        ended: list[bytes | Exception] = []
        try:
            async with anyio.create_task_group() as working:
                working.start_soon(self._keep_lease, run)
                try:
                    ended.append(await work(run.plan))
                except Exception as exc:  # noqa: BLE001 -- raised below: a task group would wrap it
                    ended.append(exc)
                working.cancel_scope.cancel()
        finally:
            if not ended or isinstance(ended[0], Exception):
                with anyio.move_on_after(LEAVE_WITHIN_S, shield=True), suppress(StoreUnavailable):
                    await self._store.leave(run.call, run.holder)  # noqa: ASYNC102 -- shielded and bounded; else the lease ends by itself
        if isinstance(ended[0], Exception):
            raise ended[0]
        return ended[0]

    async def _keep_lease(self, run: _Run) -> None:
        """Until cancelled. One that is lost all the same costs a detour: both make, or adopt, the same instance."""
        while True:
            await anyio.sleep(RENEW_EVERY_S)
            with suppress(StoreUnavailable, StoreFull):
                await self._store.begin(run.call, run.holder, run.plan, lease_s=LEASE_S)

    async def _is_final(self, call: Repeatable, holder: Holder, answer: bytes) -> bool:
        """False: we took so long that somebody else goes on with it; its answer is the call's."""
        try:
            return await self._store.finish(call, holder, answer)
        except (StoreUnavailable, StoreFull) as exc:
            # What was done is done, and repeated with the key it is found again; only this answer's very bytes are not kept.
            log.warning("answer_not_kept", tenant=call.tenant_id, cause=str(exc))
            return True
