"""The port of what the workers know of a webhook beside its declaration: since when it fails, whether it is disabled, when it was paused.

One small table for all workers, kept over restarts. Ages are seconds by the store's clock. Each call may be repeated after an
unknown outcome. All raise `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from worker.domain.ids import WebhookId

MAX_PAUSES = 16
"""Remembered of each webhook; of more the two oldest become one, from the first's beginning to the second's end."""


class DisabledReason(StrEnum):
    """Values are stored; `why` is what an operator reads."""

    GONE = "gone"
    UNANSWERED = "unanswered"
    BY_HAND = "by_hand"

    @property
    def why(self) -> str:
        return _WHY[self]


_WHY = {
    DisabledReason.GONE: "the endpoint answered 410",
    DisabledReason.UNANSWERED: "no 2xx for longer than DISABLE_AFTER_S",
    DisabledReason.BY_HAND: "somebody disabled it",
}


class Pause(NamedTuple):
    """From `from_s` ago to `to_s` ago; `to_s` 0.0: it lasts."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookState:
    """`disabled` None and `is_failing` False: it answers, as far as anybody knows. A webhook without a state does, and was never paused."""

    disabled: DisabledReason | None = None
    is_failing: bool = False
    """False once it is disabled: nobody asks it any more."""
    for_s: float = 0.0
    """Since when it is disabled, or fails."""
    is_paused: bool = False
    pauses: tuple[Pause, ...] = ()
    """The oldest first; the last one lasts where `is_paused`."""


class WebhookStates(Protocol):
    """Read all, note what came back; and what people want of a webhook."""

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        """Every webhook that fails, is disabled, or has been paused."""
        ...

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        """First `answered` stop failing, then `failed` begin to unless they do already. A disabled webhook stays as it is."""
        ...

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        """Whether it is disabled now. With `failing_for_s` only if it has been failing for so long by then."""
        ...

    async def enable(self, webhook_id: WebhookId) -> None:
        """Undoes a disable, and forgets that it failed. Whether it is paused stays."""
        ...

    async def pause(self, webhook_id: WebhookId) -> None:
        """From now on, unless it is paused already."""
        ...

    async def resume(self, webhook_id: WebhookId) -> None:
        """Ends the pause, where there is one; and then forgets that it failed: nobody asked it meanwhile."""
        ...

    async def forget(self, webhook_id: WebhookId) -> None:
        """It has been deleted: nothing is known of it."""
        ...
