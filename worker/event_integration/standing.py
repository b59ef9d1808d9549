"""How webhooks stand: which are disabled or paused, for all workers, and which have been failing for too long. Owns `disabled`, `paused`.

```
            first failure                 DISABLE_AFTER_S without a 2xx, and it fails again
 answering ───────────────▶ failing ─────────────────────────────────────────────────────────▶ disabled (unanswered)
     ▲                        │ 2xx                                                                  │
     └────────────────────────┘ ◀──────────────── enabled by its owner ─────────────────────────────┤
     │                                                                                               │
     └───────── 410 ───────────────────────────────────────────────────────────────▶ disabled (gone) ┘
```

A webhook of any of these kinds may be paused beside that. Who is disabled gets nothing, paused or not.

What came back is noted in memory (`attempted`, hot path) and written once a second, only where it changes the table: a failing
endpoint that keeps failing costs no write. The same second's read brings what other workers disabled, enabled, paused and resumed.

Two workers that disagree within the same second may leave a webhook marked as failing that has just answered. It is disabled only by a
fresh failure, so that it takes `DISABLE_AFTER_S` without any other delivery to be wrong about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import anyio
import structlog

from worker.domain.catalog import OWED_FOR_S
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import WebhookId
from worker.domain.instants import later
from worker.event_integration.ailing import Ailing
from worker.event_integration.outcome import Dead, Delivered, Outcome
from worker.event_integration.transport import Answer, Cause, Failure, Stage
from worker.event_integration.webhook_states import DisabledReason, Pause, WebhookState, WebhookStates

log = structlog.get_logger("worker.webhooks")

EVERY_S = 1.0
SPARE_S = 0.25
"""For a turn itself."""
AWAY = (StoreUnavailable, StoreFull)
_NOTHING_KNOWN = WebhookState()


class Standing:
    """`attempted` for each outcome; `run` in a task group."""

    def __init__(self, states: WebhookStates, wall: Callable[[], str], *, disable_after_s: float) -> None:
        """`wall`: RFC 3339 now. `disable_after_s` 0: no webhook is ever disabled for not answering."""
        self._states = states
        self._wall = wall
        self._disable_after_s = disable_after_s
        self.disabled: dict[WebhookId, DisabledReason] = {}
        """Routed to no more; what waits for them becomes dead letters. Changed in place, by this object only."""
        self.owed_until: dict[WebhookId, str] = {}
        """Of each that is disabled: until when (RFC 3339) what was accepted is owed to it, and becomes dead letters."""
        self.paused: set[WebhookId] = set()
        """What is routed to them is held back in the store. Changed in place, by this object only."""
        self.is_known = False
        """Whether the table has been read since the start."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a webhook was disabled, enabled, paused or resumed, by whomever."""
        self._read: Mapping[WebhookId, WebhookState] = {}
        """As last read; their ages count from `_read_at_s`."""
        self._read_at_s = 0.0
        self._reading = anyio.Lock()
        """Two answers must not be taken over in the wrong order."""
        self._answered: set[WebhookId] = set()
        self._failed: dict[WebhookId, Answer | Failure] = {}
        self._forbidden: dict[WebhookId, Failure] = {}
        self._gone: set[WebhookId] = set()
        """Said 410, and the store does not know yet."""
        self._is_away = False
        self._ailing = Ailing()

    def __repr__(self) -> str:
        return f"<Standing {len(self.disabled)} disabled, {len(self.paused)} paused, {len(self._failed)} failed lately>"

    def attempted(self, webhook_id: WebhookId, result: Answer | Failure, outcome: Outcome) -> None:
        """An attempt has its outcome. Faults of ours and forbidden destinations say nothing about the endpoint."""
        if isinstance(outcome, Delivered):
            self._answered.add(webhook_id)
            self._failed.pop(webhook_id, None)
        elif isinstance(outcome, Dead) and outcome.disables_webhook:
            self._gone.add(webhook_id)
            self._take_in(webhook_id, DisabledReason.GONE)
        elif isinstance(result, Answer) or (result.stage is not Stage.QUEUE and result.cause is not Cause.FORBIDDEN):
            self._failed[webhook_id] = result
        elif result.cause is Cause.FORBIDDEN:
            self._forbidden[webhook_id] = result

    def time_paused_s(self, webhook_id: WebhookId, within_s: float) -> float:
        """How much of the last `within_s` the webhook was paused."""
        if webhook_id not in self._read:
            return 0.0
        return sum(max(0.0, min(within_s, pause.from_s) - pause.to_s) for pause in self.state_of(webhook_id).pauses)

    def state_of(self, webhook_id: WebhookId) -> WebhookState:
        """As read in the last second or so; disabled also where only this worker knows it yet."""
        state, since_s = self._read.get(webhook_id, _NOTHING_KNOWN), anyio.current_time() - self._read_at_s
        pauses = tuple(Pause(from_s + since_s, to_s and to_s + since_s) for from_s, to_s in state.pauses)
        reason = self.disabled.get(webhook_id)
        if reason is not state.disabled:
            return replace(state, pauses=pauses, disabled=reason, is_failing=False, for_s=0.0)
        return replace(state, pauses=pauses, for_s=state.for_s + since_s)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """A turn each second, until cancelled. Started after the first, so that a restart does not call whom 410 has ended."""
        while True:
            self._tell()
            try:
                await self._turn()
                self._is_away = False
            except AWAY as exc:
                if not self._is_away:
                    log.warning("webhook_states_not_reached", cause=str(exc), next_step="tried again each second; what is known holds")
                self._is_away = True
            task_status.started()
            task_status = anyio.TASK_STATUS_IGNORED
            await anyio.sleep(EVERY_S)

    def _tell(self) -> None:
        """Also while the store is away: a log line needs none."""
        forbidden, self._forbidden = self._forbidden, {}
        self._ailing.tell(failed=self._failed, forbidden=forbidden, answered=self._answered, now_s=anyio.current_time())

    async def look(self) -> None:
        """Reads the table now: for whoever has just changed it, so that this worker knows at once. Raises `StoreUnavailable`.

        Cancelling leaves what was known.
        """
        async with self._reading:
            await self._read_table()

    async def _turn(self) -> None:
        """Reads the table, takes over who is disabled and who is paused, and writes what is news to it."""
        async with self._reading:
            states = await self._read_table()
            answered, self._answered = self._answered, set()
            failed, self._failed = self._failed, {}
            try:
                ailing = {w: state for w, state in states.items() if state.is_failing or state.disabled is not None}
                written = await self._write(ailing, answered, set(failed))
            except AWAY:
                self._failed = {w: result for w, result in failed.items() if w not in self._answered} | self._failed
                self._answered |= answered
                raise
            if self._adopt(self.disabled | written):
                self.changed()

    async def until_known_everywhere(self) -> None:
        """Until every worker that reaches the store has read it since now: what is accepted after that meets no worker of yesterday."""
        await anyio.sleep(EVERY_S + SPARE_S)

    async def _read_table(self) -> Mapping[WebhookId, WebhookState]:
        asked_at_s = anyio.current_time()
        states = await self._states.all_states()
        self._read, self._read_at_s = states, asked_at_s
        self.is_known = True
        known = {webhook_id: state.disabled for webhook_id, state in states.items() if state.disabled is not None}
        is_news = self._adopt_paused({w for w, state in states.items() if state.is_paused})
        if self._adopt(known | dict.fromkeys(self._gone, DisabledReason.GONE)) or is_news:
            self.changed()
        return states

    async def _write(
        self, states: Mapping[WebhookId, WebhookState], answered: set[WebhookId], failed: set[WebhookId]
    ) -> dict[WebhookId, DisabledReason]:
        """Answers who is disabled by it."""
        written: dict[WebhookId, DisabledReason] = {}
        for webhook_id in sorted(self._gone):
            await self._states.disable(webhook_id, DisabledReason.GONE)
            self._gone.discard(webhook_id)
            written[webhook_id] = DisabledReason.GONE
        answering = {webhook_id for webhook_id in answered if webhook_id in states}
        failing = {webhook_id for webhook_id in failed if webhook_id not in states or webhook_id in answering}
        if answering or failing:
            await self._states.note_answers(answered=sorted(answering), failed=sorted(failing))
        for webhook_id in sorted(failed - failing):
            if self._has_failed_too_long(states[webhook_id]) and await self._states.disable(
                webhook_id, DisabledReason.UNANSWERED, failing_for_s=self._disable_after_s
            ):
                written[webhook_id] = DisabledReason.UNANSWERED
        return written

    def _has_failed_too_long(self, state: WebhookState) -> bool:
        return state.is_failing and 0 < self._disable_after_s <= state.for_s

    def _adopt_paused(self, paused: set[WebhookId]) -> bool:
        """Whether that is news."""
        for webhook_id in sorted(paused - self.paused):
            log.info("webhook_paused", webhook=webhook_id, cause="asked for", next_step="its events wait until it is resumed")
        for webhook_id in sorted(self.paused - paused):
            log.info("webhook_resumed", webhook=webhook_id, cause="asked for", next_step="none; what waited for it follows")
        is_news = paused != self.paused
        self.paused.clear()
        self.paused.update(paused)
        return is_news

    def _adopt(self, disabled: Mapping[WebhookId, DisabledReason]) -> bool:
        """Whether that is news."""
        news = disabled.keys() ^ self.disabled.keys()
        for webhook_id in sorted(news):
            if webhook_id in disabled:
                self._take_in(webhook_id, disabled[webhook_id])
            else:
                del self.disabled[webhook_id], self.owed_until[webhook_id]
                log.warning("webhook_enabled", webhook=webhook_id, cause="asked for")
        return bool(news)

    def _take_in(self, webhook_id: WebhookId, reason: DisabledReason) -> None:
        if webhook_id not in self.disabled:
            self.disabled[webhook_id] = reason
            read = self._read.get(webhook_id, _NOTHING_KNOWN)
            self.owed_until[webhook_id] = later(self._wall(), OWED_FOR_S - (read.for_s if read.disabled is not None else 0.0))
            tell = log.info if reason is DisabledReason.BY_HAND else log.error
            tell(
                "webhook_disabled",
                webhook=webhook_id,
                cause=reason.why,
                next_step="what waits for it becomes dead letters; once the endpoint is right, enable it (PATCH /api/webhooks/{id})",
            )
