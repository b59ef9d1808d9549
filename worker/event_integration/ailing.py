"""Who ails: one warning when a webhook goes bad, one line when it answers again. Only tells; what follows is `standing.py`'s.

A webhook is bad after a second in which it failed and answered nothing with 2xx; it is well after one in which it was the other way
round. One that goes back and forth gets at most one such pair in five minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import structlog

from worker.domain.ids import WebhookId
from worker.event_integration.transport import Answer, Failure

log = structlog.get_logger("worker.webhooks")

WARN_AGAIN_S = 300.0


class Ailing:
    """`tell` once a second, with what came back since the last time."""

    def __init__(self) -> None:
        self._bad: set[WebhookId] = set()
        self._warned_at_s: dict[WebhookId, float] = {}

    def __repr__(self) -> str:
        return f"<Ailing {len(self._bad)}>"

    def tell(
        self,
        *,
        failed: Mapping[WebhookId, Answer | Failure],
        forbidden: Mapping[WebhookId, Failure],
        answered: AbstractSet[WebhookId],
        now_s: float,
    ) -> None:
        """`now_s` on a monotonic clock. `forbidden`: the address may not be called, so nothing was sent."""
        for webhook_id in sorted(failed.keys() - answered):
            self._warn(
                webhook_id, now_s, cause=_cause(failed[webhook_id]), next_step="look at the endpoint; its events wait and are tried again"
            )
        for webhook_id in sorted(forbidden):
            why_not = forbidden[webhook_id]
            next_step = "correct its url, or what [delivery] allows; until then each of its events is a dead letter"
            self._warn(webhook_id, now_s, cause=f"{why_not.cause.value}: {why_not.detail}", next_step=next_step)
        for webhook_id in sorted((self._bad & answered) - failed.keys()):
            self._bad.discard(webhook_id)
            log.info("webhook_answers_again", webhook=webhook_id, cause="answered with 2xx", next_step="none; what waited for it follows")

    def _warn(self, webhook_id: WebhookId, now_s: float, *, cause: str, next_step: str) -> None:
        if webhook_id in self._bad or now_s - self._warned_at_s.get(webhook_id, float("-inf")) < WARN_AGAIN_S:
            return
        self._bad.add(webhook_id)
        self._warned_at_s[webhook_id] = now_s
        log.warning("webhook_fails", webhook=webhook_id, cause=cause, next_step=next_step)


def _cause(result: Answer | Failure) -> str:
    return f"answered {result.status}" if isinstance(result, Answer) else f"{result.cause.value} at {result.stage.value}"
