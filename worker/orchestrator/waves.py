"""How fast sessions connect: a bounded number at a time and a bounded number each second, for each broker by itself.

Five thousand instances that start, or lose their gateway together, come as a wave that the gateway can bear; and a broker that does not
answer holds up no instance of another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of one broker."""

    per_s: float = 200.0
    at_a_time: int = 64


class _Lane:
    """Those who want to connect to one broker, first come, first served."""

    __slots__ = ("next_s", "slots", "turnstile")

    def __init__(self, at_a_time: int) -> None:
        self.slots = anyio.Semaphore(at_a_time)
        self.turnstile = anyio.Lock()
        self.next_s = 0.0


class Waves:
    """`turn` around each connect, from any task."""

    def __init__(self, pace: Pace, clock: Callable[[], float], unit_random: Callable[[], float]) -> None:
        self._pace = pace
        self._clock = clock
        self._unit_random = unit_random
        self._lanes: dict[object, _Lane] = {}

    @asynccontextmanager
    async def turn(self, broker: object) -> AsyncIterator[None]:
        """Held while connecting. Cancelling gives the turn to the next."""
        lane = self._lanes.get(broker)
        if lane is None:
            lane = self._lanes[broker] = _Lane(self._pace.at_a_time)
        async with lane.slots:
            async with lane.turnstile:
                await anyio.sleep(max(0.0, lane.next_s - self._clock()))
                lane.next_s = self._clock() + self._pause_s()
            yield

    def _pause_s(self) -> float:
        """To the next one: jittered, so that the waves of several workers do not keep step."""
        return (0.5 + self._unit_random()) / self._pace.per_s
