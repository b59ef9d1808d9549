"""Where streams that resume go on after this process: each instance's last durable event, kept in the store now and then.

What is kept may be older than what is durable: then a gateway tells some events again, and they are known. It is never newer: events in
between would be nobody's. So a point is noted once its frame is durable, and nothing waits for the store to have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import anyio
import structlog

from worker.domain.errors import WorkerError
from worker.domain.ids import InstanceId

LOAD_S = 1.0
"""`resume_load`: before a session first connects."""
SAVE_S = 1.0
"""`resume_save`: one call."""
SAVE_EVERY_S = 1.0
SAVED_AT_ONCE = 1_000
KEPT_S = 30 * 86_400.0
"""From the last save or load; an instance that is gone leaves nothing behind for longer."""
MAX_ID_CHARS = 128

log = structlog.get_logger("worker.websocket")


class ResumePoints(Protocol):
    """What all workers remember of streams. Nothing has to be there."""

    async def load_point(self, instance_id: InstanceId) -> str | None:
        """The event id saved last; None: none within `KEPT_S`. Raises `StoreUnavailable`."""
        ...

    async def save_points(self, points: Mapping[InstanceId, str]) -> None:
        """By instance: the id of its last durable event. Repeatable. Raises `StoreUnavailable`, perhaps after saving some; `StoreFull`."""
        ...


class Bookmarks:
    """One worker's way to the points: `note` by whoever made something durable, `of` before a session connects, saved all together."""

    __slots__ = ("_points", "_saving", "_unsaved")

    def __init__(self, points: ResumePoints) -> None:
        self._points = points
        self._unsaved: dict[InstanceId, str] = {}
        self._saving = anyio.Lock()

    def __repr__(self) -> str:
        return f"<Bookmarks unsaved={len(self._unsaved)}>"

    def note(self, instance_id: InstanceId, event_id: str) -> None:
        """This event, and all that its stream told before, is durable. What is too long for an id is left out: an older one does."""
        if len(event_id) <= MAX_ID_CHARS:
            self._unsaved[instance_id] = event_id

    async def of(self, instance_id: InstanceId) -> str | None:
        """Behind which the instance's stream is to go on; None also where the store does not say so within `LOAD_S`. Cancel-safe."""
        if (unsaved := self._unsaved.get(instance_id)) is not None:
            return unsaved
        try:
            with anyio.fail_after(LOAD_S):
                return await self._points.load_point(instance_id)
        except (WorkerError, TimeoutError) as exc:
            log.debug("resume_point_unknown", instance=instance_id, cause=str(exc) or "timeout", next_step="told again what is known")
        except Exception as exc:
            log.exception("resume_point_failed", instance=instance_id, cause=type(exc).__name__, next_step="report it; all is read again")
        return None

    async def run(self) -> None:
        """Saves now and then, until cancelled."""
        while True:
            await anyio.sleep(SAVE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """What was noted, once through. What the store does not take stays for the next time; never raises."""
        async with self._saving:  # else a save that is late could put an older point over a newer
            rest = iter(list(self._unsaved.items()))
            while points := dict(islice(rest, SAVED_AT_ONCE)):
                if not await self._is_saved(points):
                    return
                for name, event_id in points.items():
                    if self._unsaved[name] == event_id:
                        del self._unsaved[name]

    async def _is_saved(self, points: Mapping[InstanceId, str]) -> bool:
        try:
            with anyio.fail_after(SAVE_S):
                await self._points.save_points(points)
        except (WorkerError, TimeoutError) as exc:
            log.debug("resume_points_not_saved", count=len(points), cause=str(exc) or "timeout", next_step="saved with the next ones")
            return False
        except Exception as exc:
            log.exception("resume_points_failed", cause=type(exc).__name__, next_step="report it; after a restart events may come twice")
            return False
        return True
