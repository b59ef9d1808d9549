"""Single flight: of those who want the same thing at the same time one does it, and all get what it got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio

KeyT = TypeVar("KeyT", bound=Hashable)
T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("ended", "error", "results")

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.results: list[T] = []
        self.error: Exception | None = None


class Flights(Generic[KeyT, T]):
    """`share` from any task of one loop."""

    def __init__(self) -> None:
        self._under_way: dict[KeyT, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def share(self, key: KeyT, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` answers or raises, ours or that of whoever began before. When that one is cancelled, the next does it anew."""
        while (other := self._under_way.get(key)) is not None:
            await other.ended.wait()
            if other.error is not None:
                raise other.error
            if other.results:
                return other.results[0]
        self._under_way[key] = mine = _Flight[T]()
        try:
            result = await work()
        except Exception as exc:
            mine.error = exc
            raise
        else:
            mine.results.append(result)
            return result
        finally:
            del self._under_way[key]
            mine.ended.set()
