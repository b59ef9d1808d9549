"""What the contract suites of the store speak in: short makers of events and deliveries, and one bounded way of waiting."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

import anyio

from tests.real_redis import RealRedis
from worker.api.limits import CallCounts
from worker.client_registry.port import Granted, Handovers, Leases, Membership
from worker.contact_metadata_cache.port import ContactStore
from worker.directory.port import Directory
from worker.domain.ids import EventKey, OwnerId, Position, Shard, TenantId, Token, WebhookId, delivery_id
from worker.drain_report import DrainReports
from worker.event_integration.attempts_log import AttemptsLog
from worker.event_integration.chat_aliases import ChatAliases
from worker.event_integration.past import DeadLetters, Past
from worker.event_integration.retry_queue import Claimed, DueWebhook, Parked, Parking, RetryQueue, Room, Settlement, Want
from worker.event_integration.webhook_states import WebhookStates
from worker.instances.idempotency import Idempotency
from worker.instances.snapshots import Snapshots
from worker.journal.port import Checkpoints, Journal, NewEvent
from worker.websocket.resume_points import ResumePoints

T = TypeVar("T")

SHARDS = 4
SHARD = Shard(0)
OTHER_SHARD = Shard(1)
OWNER = OwnerId("owner")
TENANT = TenantId("acme")
HOOK = WebhookId("crm")
OTHER_HOOK = WebhookId("erp")
KNOWN_DONE = Parked(known_done=True, claim=None)
LONG_S = 30.0
"""A lease or a claim that does not end within the test."""
SHORT_S = 0.15
"""One that does."""


class Store(Protocol):
    """Both adapters, seen from a test."""

    @property
    def journal(self) -> Journal: ...
    @property
    def checkpoints(self) -> Checkpoints: ...
    @property
    def retry_queue(self) -> RetryQueue: ...
    @property
    def chat_aliases(self) -> ChatAliases: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def past(self) -> Past: ...
    @property
    def room(self) -> Room: ...
    @property
    def webhook_states(self) -> WebhookStates: ...
    @property
    def attempts_log(self) -> AttemptsLog: ...
    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def contacts(self) -> ContactStore: ...
    @property
    def drain_reports(self) -> DrainReports: ...
    @property
    def resume_points(self) -> ResumePoints: ...
    @property
    def call_counts(self) -> CallCounts: ...
    @property
    def directory(self) -> Directory: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def handovers(self) -> Handovers: ...


OpenStore = Callable[..., AbstractAsyncContextManager[Store]]
"""Opens an empty store; keywords `dedupe_window_s` and `dedupe_max_keys` as both adapters have them."""


def event(key: str, *, record: bytes = b"record", tenant: TenantId = TENANT, remembered: bool = True) -> NewEvent:
    return NewEvent(event_key=EventKey(key), tenant_id=tenant, record=record, remembered=remembered)


async def append(store: Store, *keys: str, shard: Shard = SHARD) -> list[Position]:
    """One segment of events named by their keys; their records are their keys."""
    answers = await store.journal.append(shard, [event(key, record=key.encode()) for key in keys])
    return [answer.position for answer in answers]


async def grant(store: Store, owner: str = OWNER, *, ttl_s: float = LONG_S, shard: Shard = SHARD) -> Token:
    """The shard's lease, which must be free."""
    answer = await store.leases.acquire(shard, OwnerId(owner), ttl_s=ttl_s, sole=False)
    assert isinstance(answer, Granted), answer
    return answer.token


async def supersede(store: Store, shard: Shard = SHARD) -> Token:
    """Takes the lease away from whoever holds it, as after a lost lease: the next token."""
    answer = await store.leases.acquire(shard, OwnerId("the next owner"), ttl_s=LONG_S, sole=True)
    assert isinstance(answer, Granted), answer
    return answer.token


def parking(
    position: Position,
    *,
    key: str | None = None,
    hook: WebhookId = HOOK,
    chat: str | None = None,
    attempts: int = 0,
    due_in_s: float = 0.0,
    claim_for_s: float | None = None,
) -> Parking:
    """A delivery of the event at `position`, named `event <position>` unless told otherwise."""
    event_key = EventKey(key or f"event {position}")
    return Parking(
        delivery_id=delivery_id(event_key, hook),
        event_key=event_key,
        webhook_id=hook,
        tenant_id=TENANT,
        position=position,
        record=f"record {event_key}".encode(),
        attempts=attempts,
        due_in_s=due_in_s,
        chat=chat,
        claim_for_s=claim_for_s,
    )


async def park(store: Store, token: Token, *items: Parking) -> list[Parked]:
    return await store.retry_queue.park(SHARD, token, items)


async def due(store: Store, *, limit: int = 100) -> list[DueWebhook]:
    return await store.retry_queue.due(SHARD, limit=limit)


async def claim(store: Store, token: Token, *, count: int = 10, hook: WebhookId = HOOK, visible_after_s: float = LONG_S) -> list[Claimed]:
    return await store.retry_queue.claim(SHARD, token, {hook: Want(count, visible_after_s)})


async def claim_when_due(store: Store, token: Token, *, hook: WebhookId = HOOK, visible_after_s: float = LONG_S) -> Claimed:
    """The next delivery, once the store's clock allows it."""

    async def one() -> Claimed | None:
        claimed = await claim(store, token, count=1, hook=hook, visible_after_s=visible_after_s)
        return claimed[0] if claimed else None

    return await eventually(one)


def delivered(of: Claimed) -> Settlement:
    return Settlement(claim=of.claim, delivery_id=of.delivery_id, event_key=of.event_key, webhook_id=of.webhook_id, delivered=True)


def retry(of: Claimed, in_s: float, *, counted: bool = True) -> Settlement:
    return replace(delivered(of), delivered=False, retry_in_s=in_s, counted=counted, error="500")


async def settle(store: Store, settlement: Settlement) -> bool:
    [settled] = await store.retry_queue.settle(SHARD, [settlement])
    return settled.is_settled


def positions(claimed: list[Claimed]) -> list[Position]:
    return [one.position for one in claimed]


def empty(server: RealRedis) -> None:
    """FLUSHALL over a connection of its own, so that it works beside any event loop."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(str(server.socket))
        line.sendall(b"FLUSHALL\r\n")
        assert line.recv(64).startswith(b"+OK")


async def eventually(probe: Callable[[], Awaitable[T | None]], *, within_s: float = 5.0) -> T:
    """Asks until the answer is not None and not False; what ends the wait is the store's clock, which tells nobody."""
    with anyio.fail_after(within_s):
        while True:
            answer = await probe()
            if answer is not None and answer is not False:
                return answer
            await anyio.sleep(0.005)  # noqa: TID251 - TTLs and due times end without telling anybody
