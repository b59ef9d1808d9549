"""Attempts under way: who they are, and waiting for them to end. Hot path: two dictionary operations per attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import anyio

from worker.client_registry.tenure import Tenure
from worker.domain.catalog import Webhook
from worker.domain.deadline import Deadline
from worker.event_buffer.deliveries import Chat, Delivery
from worker.event_integration.bulkheads import Slot
from worker.event_integration.outcome import Outcome
from worker.event_integration.retry_queue import Parked


class Attempt:
    """One POST under way. `claiming`: its claim is on its way to the store, so an outcome that comes first waits in `early`."""

    __slots__ = ("claiming", "deadline", "delivery", "early", "enriched_in_s", "slot", "started_s", "task", "webhook")

    def __init__(self, delivery: Delivery, webhook: Webhook, slot: Slot, started_s: float, deadline: Deadline) -> None:
        self.delivery = delivery
        self.webhook = webhook
        self.slot = slot
        self.started_s = started_s
        self.deadline = deadline
        self.claiming: asyncio.Future[Parked | None] | None = None
        self.early: tuple[Outcome, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self.enriched_in_s: float | None = None
        """None: its webhook wants no contacts."""


class UnderWay:
    """The table of attempts. Iterates over them as they are at that moment."""

    def __init__(self) -> None:
        self._attempts: dict[Delivery, Attempt] = {}
        self._one_ended = asyncio.Event()
        self._is_awaited = False

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._attempts.values()))

    def add(self, attempt: Attempt) -> None:
        self._attempts[attempt.delivery] = attempt

    def remove(self, attempt: Attempt) -> None:
        del self._attempts[attempt.delivery]
        if self._is_awaited:
            self._is_awaited = False
            self._one_ended.set()

    def ahead_of(self, chats: Iterable[Chat]) -> list[Attempt]:
        """The attempts that others of their chat wait for."""
        return [a for chat in chats if chat.ahead is not None and (a := self._attempts.get(chat.ahead)) is not None]

    def of(self, tenure: Tenure) -> list[Attempt]:
        """A tenure's attempts that still count against its journal."""
        return [a for a in self._attempts.values() if a.delivery.claim is None and a.delivery.event.tenure is tenure]

    async def wait_for_one(self, within_s: float) -> None:
        """Until an attempt ends, at most `within_s`."""
        self._one_ended.clear()
        self._is_awaited = True
        with anyio.move_on_after(within_s):
            await self._one_ended.wait()

    async def cancel_all(self, *, within_s: float) -> int:
        """Cancels every attempt and waits for them to end; answers how many are stuck."""
        tasks = [a.task for a in self._attempts.values() if a.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.move_on_after(within_s):
                await asyncio.wait(tasks)
        return len(self._attempts)
