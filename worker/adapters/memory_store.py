"""The store without Redis: the twin on which components are tested and simulated, under the same contract suites as `RedisStore`.

Owns the wiring of its parts and nothing else. The caller brings the clock, so that in virtual time an hour of leases, visibility and
back-off takes no time at all. `faults` is where a test breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from worker.adapters.memory_attempts_log import MemoryAttemptsLog
from worker.adapters.memory_call_counts import MemoryCallCounts
from worker.adapters.memory_chat_aliases import MemoryChatAliases
from worker.adapters.memory_contacts import MemoryContacts
from worker.adapters.memory_directory import MemoryDirectory
from worker.adapters.memory_drain_reports import MemoryDrainReports
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_handovers import MemoryHandovers
from worker.adapters.memory_instances import MemoryIdempotency, MemorySnapshots
from worker.adapters.memory_journal import MemoryCheckpoints, MemoryJournal
from worker.adapters.memory_leases import MemoryLeases, MemoryMembership
from worker.adapters.memory_past import MemoryDeadLetters, MemoryPast
from worker.adapters.memory_resume_points import MemoryResumePoints
from worker.adapters.memory_retry_queue import MemoryRetryQueue, MemoryRoom
from worker.adapters.memory_shard import MemoryRoomLimit, MemoryShard, RememberedKeys
from worker.adapters.memory_webhook_states import MemoryWebhookStates
from worker.domain.ids import Shard


class MemoryStore:
    """All ports of the store over one state: several workers in one process share one `MemoryStore`, as they would share one Redis.

    `clock` answers monotonic seconds (in virtual time `loop.time`). `dedupe_max_keys` is over all shards. `max_bytes` provokes
    `StoreFull`; None: no limit. `epoch_s`: what the clock's zero is on the wall.
    A call never waits unless it is a blocking one (`read`, `wait_wake`) or `faults` says so.
    """

    def __init__(
        self,
        *,
        shards: int,
        clock: Callable[[], float],
        dedupe_window_s: float = 21_600.0,
        dedupe_max_keys: int = 5_000_000,
        max_bytes: int | None = None,
        epoch_s: float = 0.0,
    ) -> None:
        self.faults = StoreFaults()
        limit = MemoryRoomLimit(max_bytes)
        state: dict[Shard, MemoryShard] = {}
        for number in range(shards):
            seen = RememberedKeys(window_s=dedupe_window_s, max_keys=dedupe_max_keys // shards, now_s=clock())
            state[Shard(number)] = MemoryShard(Shard(number), clock=clock, seen=seen, room=limit)
        self.journal = MemoryJournal(state, self.faults, clock)
        self.checkpoints = MemoryCheckpoints(state, self.faults, clock)
        self.retry_queue = MemoryRetryQueue(state, self.faults, clock)
        self.chat_aliases = MemoryChatAliases(state, self.faults)
        self.dead_letters = MemoryDeadLetters(state, self.faults, clock, epoch_s)
        self.past = MemoryPast(state, self.faults, clock)
        self.room = MemoryRoom(state, self.faults, clock, limit)
        self.webhook_states = MemoryWebhookStates(self.faults, clock)
        self.attempts_log = MemoryAttemptsLog(self.faults)
        self.snapshots = MemorySnapshots(self.faults, clock)
        self.idempotency = MemoryIdempotency(self.faults, clock)
        self.contacts = MemoryContacts(self.faults, clock)
        self.directory = MemoryDirectory(self.faults, clock)
        self.drain_reports = MemoryDrainReports(self.faults)
        self.resume_points = MemoryResumePoints(self.faults, clock)
        self.call_counts = MemoryCallCounts(self.faults)
        self.leases = MemoryLeases(state, self.faults, clock)
        self.membership = MemoryMembership(self.faults, clock)
        self.leases.wake = self.membership.wake_now
        self.handovers = MemoryHandovers(self.faults, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to give back: what it holds is gone with it."""
