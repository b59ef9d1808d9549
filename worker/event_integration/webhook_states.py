"""The port of what the workers know of a webhook beside its declaration: since when it fails, and whether it is disabled.

One small table for all workers, kept over restarts. Ages are seconds by the store's clock. Each call may be repeated after an
unknown outcome. All raise `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from worker.domain.ids import WebhookId


class DisabledReason(StrEnum):
    """Values are stored; `why` is what an operator reads."""

    GONE = "gone"
    UNANSWERED = "unanswered"

    @property
    def why(self) -> str:
        return "the endpoint answered 410" if self is DisabledReason.GONE else "no 2xx for longer than DISABLE_AFTER_S"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookState:
    """`disabled` None: it fails, for `for_s` now. Else: disabled for `for_s`. A webhook without a state is answering."""

    disabled: DisabledReason | None
    for_s: float


class WebhookStates(Protocol):
    """Read all, note what came back, disable."""

    async def all_states(self) -> Mapping[WebhookId, WebhookState]:
        """Every webhook that fails or is disabled."""
        ...

    async def note_answers(self, *, answered: Collection[WebhookId], failed: Collection[WebhookId]) -> None:
        """First `answered` stop failing, then `failed` begin to unless they do already. A disabled webhook stays as it is."""
        ...

    async def disable(self, webhook_id: WebhookId, reason: DisabledReason, *, failing_for_s: float = 0.0) -> bool:
        """Whether it is disabled now. With `failing_for_s` only if it has been failing for so long by then."""
        ...
