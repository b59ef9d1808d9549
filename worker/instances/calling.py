"""Calls to one broker: through its breaker, with the one place of retries, inside the caller's deadline.

Full jitter: each wait is uniform between nothing and a bound that doubles, so that many callers of a broker that comes back do not
come together. What a second try cannot change (a wrong key, a quota, a missing setting) is not tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import stamina
import structlog

from worker.domain.backoff import doubled_s
from worker.domain.deadline import Deadline
from worker.instances.breaker import Breaker, BreakerState
from worker.instances.broker import AlreadyExists, Broker, BrokerCause, BrokerFailure, NoSuchInstance

stamina.instrumentation.set_on_retry_hooks(())  # each failed try has a line of ours, with the broker's name
T = TypeVar("T")
log = structlog.get_logger("worker.instances")

LAST_WORDS_S = 0.25
"""Of our deadline, not given to the broker's adapter: it ends by itself before, and knows better than we where it waited."""
ATTEMPTS = 4
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
WORTH_A_RETRY = frozenset(
    {
        BrokerCause.DNS,
        BrokerCause.CONNECT,
        BrokerCause.TIMEOUT,
        BrokerCause.SERVICE_UNAVAILABLE,
        BrokerCause.RATE_LIMITED,
        BrokerCause.STORAGE,
    }
)


def wait_before_retry_s(failure: BrokerFailure, attempts: int, left_s: float, unit_random: float) -> float | None:
    """How long to wait after so many attempts; None: what failed is told now. Pure.

    A wait that the broker asks for is kept; one that is longer than the time left ends it.
    """
    if failure.cause not in WORTH_A_RETRY or attempts >= ATTEMPTS:
        return None
    wait_s = unit_random * doubled_s(FIRST_WAIT_S, attempts - 1, LONGEST_WAIT_S)
    wait_s = max(wait_s, failure.retry_after_s or 0.0)
    return wait_s if wait_s < left_s else None


class Caller:
    """One broker, and what this worker knows of its health. `clock` is monotonic, of the deadlines given."""

    def __init__(self, broker: Broker, *, clock: Callable[[], float], unit_random: Callable[[], float]) -> None:
        self.broker = broker
        self.breaker = Breaker()
        self._clock = clock
        self._unit_random = unit_random

    def __repr__(self) -> str:
        return f"<Caller {self.broker.id} {self.breaker.state(self._clock())}>"

    def statistics(self) -> dict[str, object]:
        """What is known of it from the calls of this worker."""
        return {"id": self.broker.id, "gateway": self.broker.gateway, **self.breaker.statistics(self._clock())}

    @property
    def is_well(self) -> bool:
        """As far as known: its circuit is closed."""
        return self.breaker.state(self._clock()) is BreakerState.CLOSED

    async def ask(self, deadline: Deadline, what: Callable[[float], Awaitable[T]], *, attempts: int = ATTEMPTS) -> T:
        """Does what may be repeated; `what` is given the seconds it has. Raises `BrokerFailure`, with `attempts`, and what `what` raises.

        Cancel-safe as far as `what` is.
        """
        probe = self.breaker.admit(self._clock())
        try:
            answer = await self._tried(deadline, what, 1 if probe else attempts)
        except BrokerFailure as failure:
            self.breaker.failed(failure, self._clock(), probe=probe)
            raise
        except (NoSuchInstance, AlreadyExists):
            self.breaker.answered(probe=probe)
            raise
        except BaseException:
            self.breaker.cancelled(probe=probe)
            raise
        self.breaker.answered(probe=probe)
        return answer

    async def _tried(self, deadline: Deadline, what: Callable[[float], Awaitable[T]], most: int) -> T:
        tries = 0

        def wait_s(fault: Exception) -> bool | float:
            if not isinstance(fault, BrokerFailure) or tries >= most:
                return False
            found = wait_before_retry_s(fault, tries, deadline.left_s(self._clock()), self._unit_random())
            return False if found is None else found

        async for attempt in stamina.retry_context(on=wait_s, attempts=None, timeout=None):
            with attempt:
                tries += 1
                return await self._once(deadline, what, tries)
        raise AssertionError("a retried call ends by its answer or by its failure")

    async def _once(self, deadline: Deadline, what: Callable[[float], Awaitable[T]], tries: int) -> T:
        begun_s = self._clock()
        left_s = deadline.left_s(begun_s)
        try:
            with anyio.fail_after(left_s):
                return await what(max(left_s - LAST_WORDS_S, left_s / 2))
        except TimeoutError as exc:
            message = f"{self.broker.id} did not answer within {left_s:.1f} s ({deadline.name}); is it overloaded? try again"
            failure = BrokerFailure(BrokerCause.TIMEOUT, message, is_certain=False)
            self._note(failure, begun_s, tries)
            raise failure from exc
        except BrokerFailure as failure:
            self._note(failure, begun_s, tries)
            raise

    def _note(self, failure: BrokerFailure, begun_s: float, tries: int) -> None:
        failure.attempts = tries
        failure.response_time_ms = failure.response_time_ms or round((self._clock() - begun_s) * 1000)
        log.warning(
            "broker_call_failed",
            broker=self.broker.id,
            gateway=self.broker.gateway,
            cause=failure.cause.value,
            status=failure.status,
            attempt=tries,
            response_time_ms=failure.response_time_ms,
        )
