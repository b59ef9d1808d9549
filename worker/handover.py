"""One shard leaves this worker: the steps, in the order that the proofs type. While the worker lives, and when it goes.

```
quiesce ─▶ empty ─▶ close sockets ─▶ last checkpoint ─▶ release, reserved for the taker ─▶ wake
```

The other shards are served meanwhile. Attempts under way become claims and go on; they are settled by their claims, whoever owns the
shard by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from worker.client_registry.proofs import SEAL, Checkpointed, Drained, Quiesced, SocketsClosed
from worker.client_registry.registry import Registry
from worker.client_registry.tenure import Tenure, TenureState
from worker.domain.deadline import Deadline
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard, WebhookId
from worker.event_integration.checkpointer import Checkpointer
from worker.event_integration.leaving import Leaving
from worker.event_integration.settling import Settling

log = structlog.get_logger()

CLAIMED_WITHIN_S = 2.0
SOCKETS_CLOSE_WITHIN_S = 2.0
AWAY = (StoreUnavailable, StoreFull)


class Emptied(NamedTuple):
    """`unconfirmed` attempts became no claim: the journal still has them. `parked`: the webhooks of what was begun and not done."""

    proof: Drained
    unconfirmed: int
    parked: list[WebhookId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The steps, and all of them in a row (`hand_over`)."""

    registry: Registry
    leaving: Leaving
    settling: Settling
    checkpointer: Checkpointer
    clock: Callable[[], float]

    def quiesce(self, tenure: Tenure) -> Quiesced:
        """Nothing more of this shard is read; the retry pump leaves it alone."""
        tenure.is_reading = False
        return Quiesced(shard=tenure.shard, token=tenure.token, seal=SEAL)

    async def empty(self, quiesced: Quiesced, *, by_s: float) -> Emptied:
        """Nothing of the shard is in memory only: claims, parked, or left to the journal unbegun. `by_s`: on our clock."""
        tenure = self._active(quiesced.shard)
        unconfirmed, parked = 0, list[WebhookId]()
        if tenure is not None:
            within = Deadline(name="claim_attempts", at_s=min(by_s, self.clock() + CLAIMED_WITHIN_S))
            unconfirmed, parked = await self.leaving.give_up(tenure, deadline=within)
            await self.settling.wait_written(tenure.shard, within)
        return Emptied(Drained(after=quiesced, seal=SEAL), unconfirmed, parked)

    async def close_sockets(self, drained: Drained, *, by_s: float) -> SocketsClosed:
        """The sessions of the shard's instances leave at a message boundary: what they read is in the journal."""
        within_s = max(0.0, min(SOCKETS_CLOSE_WITHIN_S, by_s - self.clock()))
        await self.registry.sockets.close(drained.after.shard, within_s=within_s)
        return SocketsClosed(after=drained, seal=SEAL)

    async def checkpoint(self, tenure: Tenure, closed: SocketsClosed) -> Checkpointed:
        """The last one. Raises `StaleToken`, `StoreUnavailable`."""
        return Checkpointed(after=closed, tail=await self.checkpointer.save(tenure), seal=SEAL)

    async def hand_over(self, tenure: Tenure, to: OwnerId) -> bool:
        """All of it, while the worker lives: whether the shard is reserved for the taker now.

        A store that is away meanwhile is waited for as long as the lease can be proved; then the shard is read again from its checkpoint.
        """
        quiesced = self.quiesce(tenure)
        while True:
            emptied = await self.empty(quiesced, by_s=tenure.valid_until_s)
            if not emptied.unconfirmed or not tenure.may_write(self.clock()):
                break
        closed = await self.close_sockets(emptied.proof, by_s=tenure.valid_until_s)
        while tenure.may_write(self.clock()):
            try:
                return await self.registry.release(await self.checkpoint(tenure, closed), to=to)
            except StaleToken:
                self.registry.refused(tenure)
            except AWAY as exc:
                log.warning("shard_not_handed_over", shard=tenure.shard, cause=str(exc), next_step="tried again while the lease is ours")
                await self.registry.pause()
        if tenure.state is not TenureState.ENDED:
            self.registry.start_over(tenure)
        return False

    def _active(self, shard: Shard) -> Tenure | None:
        return next((t for t in self.registry.active() if t.shard == shard), None)
