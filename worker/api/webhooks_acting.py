"""What is done with one webhook: try it out, pause and resume it, rotate its secret, look at its attempts (contract 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from worker.api.endpoints import ApiError, Call, Endpoint, Fault, Reply
from worker.api.targets import NOT_FOUND
from worker.api.webhooks import CONFLICT, DECLARED, FORBIDDEN, LIMIT, ONE, TAG, Finding, WebhookServices
from worker.api.webhooks_shapes import (
    ManyAttempts,
    Rotation,
    TriedShown,
    WebhookMade,
    WebhookShown,
    attempt_shown,
    phases_shown,
    with_secret,
)
from worker.domain.catalog import RetiringSecret, Webhook
from worker.event_integration.transport import Answer
from worker.event_integration.trial import TrialsBusy, Tried

MAX_RETIRING = 8
"""Secrets that sign beside the newest."""

BUSY = Fault(status=409, code="TEST_UNDER_WAY", when="this webhook is being tested already, or many others are")
TOO_MANY = Fault(status=409, code="TOO_MANY_SECRETS", when=f"{MAX_RETIRING} replaced secrets still sign")

log = structlog.get_logger("worker.api")


@dataclass(frozen=True, slots=True)
class _Acting:
    """The handlers."""

    services: WebhookServices
    finding: Finding

    async def test(self, call: Call) -> Reply:
        webhook = await self.finding.named(call)
        why_not = await self.services.objection(webhook.url)
        if why_not is not None:
            raise ApiError(409, FORBIDDEN.code, f"events may not be sent to its URL: {why_not}", details={"reason": why_not})
        try:
            tried = await self.services.trials.run(webhook)
        except TrialsBusy as exc:
            raise ApiError(409, BUSY.code, str(exc)) from exc
        return Reply(data=_tried_shown(tried))

    async def pause(self, call: Call) -> Reply:
        webhook = await self.finding.named(call)
        await self.services.states.pause(webhook.id)
        return await self._as_it_stands(webhook)

    async def resume(self, call: Call) -> Reply:
        webhook = await self.finding.named(call)
        await self.services.states.resume(webhook.id)
        return await self._as_it_stands(webhook)

    async def rotate(self, call: Call) -> Reply:
        webhook, overlap_s = await self.finding.named(call), call.sent(Rotation).overlap_s
        secret, now_s = self.services.new_secret(), self.services.wall_s()

        def rotated(row: Webhook) -> Webhook:
            if secret in row.secrets:
                return row
            if not overlap_s:  # whoever asks for it has lost a secret, and means all that are older than the new one
                return replace(row, secrets=(secret,), retiring=())
            left = [retiring for retiring in row.retiring if retiring.until_s > now_s]
            left += [RetiringSecret(secret=old, until_s=now_s + overlap_s) for old in row.secrets]
            if len(left) > MAX_RETIRING:
                raise ApiError(
                    409, TOO_MANY.code, f"{MAX_RETIRING} replaced secrets still sign; wait until one ends, or ask for overlapS 0"
                )
            return replace(row, secrets=(secret,), retiring=tuple(left))

        webhook = await self.finding.changed(webhook, rotated)
        log.info("webhook_secret_rotated", webhook=webhook.id, overlap_s=overlap_s)
        return Reply(data=with_secret(self.finding.shown(webhook), secret))

    async def attempts(self, call: Call) -> Reply:
        webhook = await self.finding.named(call)
        entries = await self.services.attempts_log.attempts_of(webhook.id)
        return Reply(data=ManyAttempts(attempts=[attempt_shown(entry) for entry in entries]))

    async def _as_it_stands(self, webhook: Webhook) -> Reply:
        await self.finding.look()
        return Reply(data=self.finding.shown(webhook))


def acting_endpoints(services: WebhookServices) -> list[Endpoint]:
    """Everything under one webhook but its replay."""
    acting = _Acting(services, Finding(services))
    return [
        Endpoint(
            method="POST", path=f"{ONE}/test", summary="Send one test event now and answer what came of it", tag=TAG,
            handle=acting.test, data=TriedShown, faults=(NOT_FOUND, FORBIDDEN, BUSY),
        ),
        Endpoint(
            method="POST", path=f"{ONE}/pause", summary="Hold its events back, losing none", tag=TAG,
            handle=acting.pause, data=WebhookShown, faults=(NOT_FOUND,),
        ),
        Endpoint(
            method="POST", path=f"{ONE}/resume", summary="Send what was held back, and go on", tag=TAG,
            handle=acting.resume, data=WebhookShown, faults=(NOT_FOUND,),
        ),
        Endpoint(
            method="POST", path=f"{ONE}/rotate-secret", summary="Make a new secret, shown once; the old one signs on for a while", tag=TAG,
            handle=acting.rotate, body=Rotation, data=WebhookMade, faults=(NOT_FOUND, DECLARED, CONFLICT, LIMIT, TOO_MANY),
        ),
        Endpoint(
            method="GET", path=f"{ONE}/attempts", summary="Its last 100 attempts", tag=TAG,
            handle=acting.attempts, data=ManyAttempts, faults=(NOT_FOUND,),
        ),
    ]  # fmt: skip


def _tried_shown(tried: Tried) -> TriedShown:
    answer, failure = (tried.result, None) if isinstance(tried.result, Answer) else (None, tried.result)
    return TriedShown(
        is_ok=answer is not None and 200 <= answer.status < 300,  # noqa: PLR2004 (2xx)
        event_key=tried.event_key,
        delivery_id=tried.delivery_id,
        status=answer.status if answer else None,
        error=None if failure is None else failure.cause.value + (f": {failure.detail}" if failure.detail else ""),
        stage=failure.stage if failure else None,
        duration_s=round(tried.duration_s, 6),
        phases_s=phases_shown(tried.result.phases_s),
    )
