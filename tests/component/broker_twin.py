"""A broker in memory, for virtual time: keeps instances, counts what it is asked, fails as a test says.

It answers at once, or when the test lets it. In which words real brokers say so: `tests/contract/test_brokers_contract.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio

from worker.domain.errors import WorkerError
from worker.instances.broker import (
    AlreadyExists,
    BrokerCause,
    BrokerFailure,
    BrokerInstance,
    InstanceStatus,
    NoSuchInstance,
    Push,
    QrCode,
)


def failure(cause: BrokerCause = BrokerCause.SERVICE_UNAVAILABLE, *, status: int | None = 503, is_certain: bool = True) -> BrokerFailure:
    return BrokerFailure(cause, f"made up: {cause}", status=status, is_certain=is_certain)


class BrokerTwin:
    """`Broker`. `fails` answers what a call of this name raises before it does anything, `loses` what it raises after it did it."""

    def __init__(self, broker_id: str = "main", gateway: str = "waha") -> None:
        self.id = broker_id
        self.gateway = gateway
        self.there: dict[str, BrokerInstance] = {}
        self.asked: Counter[str] = Counter()
        self.pictures: dict[str, str] = {}
        self.asked_about: Counter[str] = Counter()
        self.asking = 0
        """Questions about pictures under way, and the most there ever were."""
        self.most_asking = 0
        self.fails: Callable[[str], WorkerError | None] = lambda _call: None
        self.loses: Callable[[str], BrokerFailure | None] = lambda _call: None
        self.before: Callable[[str], Awaitable[None]] | None = None

    def have(self, *names: str, status: InstanceStatus = InstanceStatus.CONNECTED) -> None:
        self.there |= {name: BrokerInstance(name=name, status=status) for name in names}

    async def health(self, *, timeout_s: float | None = None) -> None:
        await self._reach("health")

    async def instances(self, *, timeout_s: float | None = None) -> list[BrokerInstance]:
        await self._reach("instances")
        return list(self.there.values())

    async def create(self, name: str, push: Push | None, *, timeout_s: float | None = None) -> BrokerInstance:
        await self._reach("create")
        if name in self.there:
            raise AlreadyExists
        self.have(name, status=InstanceStatus.QR_REQUIRED)
        return self._answered("create", self.there[name])

    async def status(self, name: str, *, timeout_s: float | None = None) -> BrokerInstance:
        await self._reach("status")
        if name not in self.there:
            raise NoSuchInstance
        return self._answered("status", self.there[name])

    async def qr(self, name: str, *, timeout_s: float | None = None) -> QrCode | None:
        await self._reach("qr")
        return None

    async def disconnect(self, name: str, *, timeout_s: float | None = None) -> None:
        await self._reach("disconnect")

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        await self._reach("delete")
        self.there.pop(name, None)

    async def picture(self, name: str, contact_id: str, *, timeout_s: float | None = None) -> str | None:
        self.asked_about[contact_id] += 1
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            await self._reach("picture")
        finally:
            self.asking -= 1
        return self.pictures.get(contact_id)

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def _reach(self, call: str) -> None:
        self.asked[call] += 1
        await anyio.lowlevel.checkpoint()
        if self.before is not None:
            await self.before(call)
        if (fault := self.fails(call)) is not None:
            raise fault

    def _answered(self, call: str, answer: BrokerInstance) -> BrokerInstance:
        if (fault := self.loses(call)) is not None:
            raise fault
        return answer
