"""Asking brokers for pictures: few at a time, never for long, and not at all where nobody would answer.

```
 refusal? ─no─▶ in line (its instance's 4, then its broker's 16) ─▶ refusal? ─no─▶ asked, one deadline, no retry
```

Its failures count here alone, per instance: a picture endpoint that hangs must not close the instances API, whose breaker
(`instances/breaker.py`) is only looked at. Nor may it take all of that API's connections to the broker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import NamedTuple

import anyio
import structlog

from worker.domain.catalog import Catalog, Instance
from worker.domain.contact import ContactKey
from worker.domain.ids import InstanceId
from worker.instances.breaker import BreakerState
from worker.instances.broker import BrokerCause, BrokerFailure, NoSuchInstance, NotConnected
from worker.instances.calling import LAST_WORDS_S, Caller
from worker.instances.roster import Roster

log = structlog.get_logger("worker.contacts")

PATIENCE = "contact_picture deadline"
ASK_WITHIN_S = 10.0
IN_LINE_S = 10.0
AT_ONCE = 4
IN_LINE = 32
"""Per instance, those being asked about among them; the next one is not asked about."""
AT_ONCE_PER_BROKER = 16
"""Half of the connections that a broker gets (`adapters/brokers/client.py`)."""
FAILURES_TO_REST = 5
REST_S = 30.0
NOT_CONNECTED_S = 60.0
MAX_URL_CHARACTERS = 2_048


class WhyNot(Enum):
    """Why there is no answer."""

    NOBODY = auto()
    """The instance has no broker: it only pushes."""
    LIMITED = auto()
    NOT_CONNECTED = auto()
    TIMEOUT = auto()
    FAILED = auto()


class Asked(NamedTuple):
    """With `why_not` None an answer: the picture's URL, or None for "there is none"."""

    url: str | None
    why_not: WhyNot | None = None

    def __repr__(self) -> str:
        return f"<Asked {self.why_not or 'answered'}>"


class Asking:
    """One per worker. `clock` is monotonic, the brokers' own."""

    def __init__(self, catalog: Catalog, roster: Roster, clock: Callable[[], float], observe_s: Callable[[float], None]) -> None:
        """`observe_s` is told how long each call to a broker took."""
        self._catalog = catalog
        self._roster = roster
        self._clock = clock
        self._observe_s = observe_s
        self._lines: dict[InstanceId, _Line] = {}
        self._at_broker: dict[str, anyio.Semaphore] = {}
        self.is_connected: Callable[[InstanceId], bool | None] = lambda _instance_id: None
        """Whether an instance's own socket says that it is connected to WhatsApp; None: nobody here knows."""

    def __repr__(self) -> str:
        return f"<Asking {len(self._lines)} instances>"

    def refusal(self, instance_id: InstanceId) -> WhyNot | None:
        """Why nobody would be asked now; None: somebody would."""
        found = self._post(instance_id)
        if found is None:
            return WhyNot.NOBODY
        line = self._lines.get(instance_id)
        if line is not None and line.members >= IN_LINE:
            return WhyNot.LIMITED
        return self._rest(found[1], instance_id, line)

    async def picture(self, key: ContactKey) -> Asked:
        """One question, when its turn has come. What can be expected is a value; what is raised is a fault of ours. Cancel-safe."""
        refused = self.refusal(key.instance_id)
        found = self._post(key.instance_id)
        if refused is not None or found is None:
            return Asked(None, refused or WhyNot.NOBODY)
        instance, caller = found
        line = self._lines.setdefault(key.instance_id, _Line())
        async with self._turn(line, caller) as has_come:
            refused = self._rest(caller, key.instance_id, line) if has_come else WhyNot.LIMITED
            asked = await self._ask(instance, caller, line, key) if refused is None else Asked(None, refused)
        if line.is_idle(self._clock()):
            self._lines.pop(key.instance_id, None)
        return asked

    def statistics(self) -> dict[str, int]:
        now_s = self._clock()
        return {
            "asking": sum(line.members for line in self._lines.values()),
            "instances_resting": sum(now_s < line.rests_until_s for line in self._lines.values()),
        }

    def _post(self, instance_id: InstanceId) -> tuple[Instance, Caller] | None:
        instance = self._catalog.instances.get(instance_id)
        if instance is None or instance.broker is None:
            return None
        caller = self._roster.find(instance.tenant_id, instance.broker)
        return None if caller is None else (instance, caller)

    def _rest(self, caller: Caller, instance_id: InstanceId, line: _Line | None) -> WhyNot | None:
        now_s = self._clock()
        if self.is_connected(instance_id) is False:
            return WhyNot.NOT_CONNECTED
        if line is not None and now_s < line.rests_until_s:
            return line.rests_because
        return WhyNot.LIMITED if caller.breaker.state(now_s) is BreakerState.OPEN else None

    @asynccontextmanager
    async def _turn(self, line: _Line, caller: Caller) -> AsyncIterator[bool]:
        """Whether the turn has come before patience ended."""
        at_broker = self._at_broker.setdefault(caller.broker.id, anyio.Semaphore(AT_ONCE_PER_BROKER))
        taken: list[anyio.Semaphore] = []
        line.members += 1
        try:
            with anyio.move_on_after(IN_LINE_S):
                for slots in (line.slots, at_broker):
                    await slots.acquire()
                    taken.append(slots)
            yield len(taken) == 2  # noqa: PLR2004 - both
        finally:
            line.members -= 1
            for slots in taken:
                slots.release()

    async def _ask(self, instance: Instance, caller: Caller, line: _Line, key: ContactKey) -> Asked:
        began_s = self._clock()
        try:
            with anyio.fail_after(ASK_WITHIN_S):
                url = await caller.broker.picture(instance.gateway_instance, key.contact_id, timeout_s=ASK_WITHIN_S - LAST_WORDS_S)
        except (NotConnected, NoSuchInstance):
            line.rest(began_s + NOT_CONNECTED_S, WhyNot.NOT_CONNECTED)
            return Asked(None, WhyNot.NOT_CONNECTED)
        except TimeoutError:
            return self._failed(instance, line, PATIENCE, WhyNot.TIMEOUT)
        except BrokerFailure as failure:
            if failure.cause is BrokerCause.RATE_LIMITED:
                line.rest(self._clock() + max(REST_S, failure.retry_after_s or 0.0), WhyNot.LIMITED)
            why_not = WhyNot.TIMEOUT if failure.cause is BrokerCause.TIMEOUT else WhyNot.FAILED
            return self._failed(instance, line, failure.cause.value, why_not)
        finally:
            self._observe_s(self._clock() - began_s)
        line.answered()
        return Asked(url if url and len(url) <= MAX_URL_CHARACTERS and url.startswith(("http://", "https://")) else None)

    def _failed(self, instance: Instance, line: _Line, cause: str, why_not: WhyNot) -> Asked:
        line.failures += 1
        if line.failures >= FAILURES_TO_REST:
            line.rest(self._clock() + REST_S, WhyNot.LIMITED)
            if not line.is_told:
                line.is_told = True
                next_step = f"webhooks get its events without contacts; a few are asked about every {REST_S:.0f} s"
                log.warning("contact_pictures_fail", instance=instance.id, broker=instance.broker, cause=cause, next_step=next_step)
        return Asked(None, why_not)


class _Line:
    """One instance's: who is asked about, and whether its gateway answers. `members` are in line or being asked about."""

    __slots__ = ("failures", "is_told", "members", "rests_because", "rests_until_s", "slots")

    def __init__(self) -> None:
        self.slots = anyio.Semaphore(AT_ONCE)
        self.members = 0
        self.failures = 0
        """In a row; stays high while it rests, so that the first failure after that makes it rest again."""
        self.rests_until_s = float("-inf")
        self.rests_because = WhyNot.LIMITED
        self.is_told = False

    def rest(self, until_s: float, because: WhyNot) -> None:
        self.rests_until_s = max(until_s, self.rests_until_s)
        self.rests_because = because

    def answered(self) -> None:
        self.failures = 0
        self.is_told = False

    def is_idle(self, now_s: float) -> bool:
        """There is nothing to remember of it."""
        return not self.members and not self.failures and now_s >= self.rests_until_s
