"""Who may start an attempt now: slots shared so that no number of hanging endpoints takes the share of the healthy.

Pure but for what it remembers: time is passed in, randomness injected, nothing is awaited. Slots are per worker.

```
 webhook is   when                                                  in flight    all of them together
 ──────────   ───────────────────────────────────────────────────   ──────────   ───────────────────────────────────────
 healthy      answered 2xx last, nothing under way for over 2 s     2, earns 8   whatever the others leave, always ≥ half
 unproven     no 2xx yet in this worker's life                      1            ┐ at most half (half-open probes included),
 suspect      last finished attempt failed, or one > 2 s under way  1            ┘ suspects of one host:port at most a quarter,
                                                                                  a quarter of the half kept for the unproven
```

An attempt counts where its webhook stands *now*: an endpoint that starts to hang with eight attempts under way takes all
eight to the suspects' account after 2 s. They never count against the healthy beyond the suspects' half, so the total may
exceed `max_in_flight` by what the suspects hold beyond their share of that half, and by no more. That excess is not bounded by this file
but by time: every attempt ends at its deadline, and a suspect with anything under way starts nothing. Newcomers that hang
add to it at most the quarter kept for them, every 2 s until the first deadlines pass; without that quarter sixty hung
endpoints would keep every healthy newcomer waiting for those deadlines.

Cancelled attempts change nothing but the counts. Every operation is O(1) in the number of webhooks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from worker.domain.catalog import Webhook
from worker.domain.ids import WebhookId
from worker.event_integration.circuit import Circuit, CircuitState
from worker.event_integration.slots import Share

SUSPECT_AFTER_S = 2.0
FIRST_LIMIT = 2
RETRY_SHARE = 0.2
FORGET_AFTER_S = 3600.0
KEPT_FOR_RETRY_S = 0.25
"""A few looks of the retry pump."""


class Verdict(StrEnum):
    START = "start"
    WAIT = "wait"
    """Stay in the lane; ask again when a slot frees."""
    PARK = "park"
    """A suspect without a place: to the retry queue, due in 1 s, no attempt counted."""
    OPEN = "open"
    """The circuit is open for `reopen_in_s` more."""


class Admission(NamedTuple):
    verdict: Verdict
    reopen_in_s: float = 0.0


_START = Admission(Verdict.START)
_WAIT = Admission(Verdict.WAIT)
_PARK = Admission(Verdict.PARK)


class SlotResult(StrEnum):
    ANSWERED_OK = "answered_ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Place(NamedTuple):
    """Where a webhook stands: attempts under way, how many there may be, and its circuit."""

    in_flight: int
    limit: int
    circuit: CircuitState


class Slot:
    """One attempt under way; opaque to the caller, to be given back to `end` exactly once."""

    __slots__ = ("health", "is_open", "is_probe", "is_retry", "is_slow", "started_s")

    def __init__(self, health: _Health, started_s: float, *, retry: bool, probe: bool) -> None:
        self.health = health
        self.started_s = started_s
        self.is_retry = retry
        self.is_probe = probe
        self.is_slow = False
        self.is_open = True


class Bulkheads:
    """Ask `admit`, then `begin` without an await in between, then `end` once; `sweep` every 20 ms or so."""

    def __init__(self, max_in_flight: int, unit_random: Callable[[], float]) -> None:
        """Raises `ValueError` below 2 slots: neither side could have one."""
        if max_in_flight < 2:  # noqa: PLR2004 - one for each side
            msg = f"max_in_flight is {max_in_flight}; at least 2 are needed, one for suspects and one for the healthy"
            raise ValueError(msg)
        self._unit_random = unit_random
        self._slots = Share(max_in_flight)
        self._retry_slots = Share(max(2, int(max_in_flight * RETRY_SHARE)))
        self._suspects_per_destination = max(1, max_in_flight // 4)
        self._suspects_at: dict[str, int] = {}
        self._suspects = 0
        """Attempts of suspects under way, wherever they go."""
        self._webhooks: OrderedDict[WebhookId, _Health] = OrderedDict()
        self._recent: OrderedDict[Slot, None] = OrderedDict()
        self._now_s = 0.0

    @property
    def in_flight(self) -> int:
        return self._slots.healthy + self._slots.confined

    def admit(self, webhook: Webhook, now_s: float, *, retry: bool, firsts_wait: bool) -> Admission:
        """May one attempt start now? Reserves nothing."""
        self._now_s = now_s
        health = self._health_of(webhook)
        if not health.counts_as_confined and not retry:  # nearly always: the same answer as below, at half the cost
            limit = min(webhook.max_in_flight, health.limit) - (now_s < health.kept_until_s)
            return _START if health.in_flight < limit and self._slots.has_healthy_room() else _WAIT
        circuit = health.circuit
        if not circuit.is_closed:
            reopen_in_s = circuit.reopen_in_s(now_s)
            if reopen_in_s > 0:
                return Admission(Verdict.OPEN, reopen_in_s)
        if self._room(health, webhook, of_retries=retry and firsts_wait) > 0:
            return _START
        return _PARK if health.is_suspect else _WAIT

    def room_for(self, webhook: Webhook, now_s: float, *, firsts_wait: bool) -> int:
        """How many retries of this webhook could start now: 0 while its circuit is open, 1 for its probe."""
        self._now_s = now_s
        health = self._health_of(webhook)
        if health.circuit.reopen_in_s(now_s) > 0:
            return 0
        return max(0, self._room(health, webhook, of_retries=firsts_wait))

    def keep_for_retry(self, webhook: Webhook, now_s: float) -> None:
        """One is due and had no room: firsts leave it the next slot that frees. Without this, endless firsts would starve it.

        One at a time, for `KEPT_FOR_RETRY_S`, and only where the webhook's own limit is in the way.
        """
        health = self._health_of(webhook)
        is_full = health.in_flight >= min(webhook.max_in_flight, health.limit)
        if is_full and not (health.is_confined or health.retries) and self._retry_slots.room(confined=False) > 0:
            health.kept_until_s = now_s + KEPT_FOR_RETRY_S

    def begin(self, webhook: Webhook, now_s: float, *, retry: bool) -> Slot:
        self._now_s = now_s
        health = self._health_of(webhook)
        self._webhooks.move_to_end(health.webhook_id)
        health.used_s = now_s
        slot = Slot(health, now_s, retry=retry, probe=health.circuit.began())
        self._recent[slot] = None
        if retry:
            health.kept_until_s = 0.0
        if retry or health.counts_as_confined:
            self._count(health, attempts=1, retries=1 if retry else 0)
        else:
            health.in_flight += 1
            self._slots.healthy += 1
        return slot

    def end(self, slot: Slot, result: SlotResult, now_s: float) -> None:
        assert slot.is_open, "a slot ends once"
        slot.is_open = False
        self._now_s = now_s
        health = slot.health
        was_at_limit = health.in_flight >= health.limit
        self._recent.pop(slot, None)
        if result is SlotResult.ANSWERED_OK and not (health.counts_as_confined or slot.is_slow or slot.is_retry):
            health.in_flight -= 1
            self._slots.healthy -= 1
            health.answered(at_limit=was_at_limit)
            health.circuit.answered(probe=slot.is_probe)
            return
        self._count(health, attempts=-1, retries=-1 if slot.is_retry else 0)
        if slot.is_slow:
            health.slow -= 1
        if result is SlotResult.ANSWERED_OK:
            health.answered(at_limit=was_at_limit)
            health.circuit.answered(probe=slot.is_probe)
        elif result is SlotResult.FAILED:
            health.failed()
            health.circuit.failed(now_s, probe=slot.is_probe)
        else:
            health.circuit.cancelled(probe=slot.is_probe)
        self._reclassify(health)

    def sweep(self, now_s: float) -> list[WebhookId]:
        """Marks webhooks with an attempt under way for over 2 s as suspect, names them, and forgets one that was idle for an hour."""
        self._now_s = now_s
        slow: list[WebhookId] = []
        while self._recent:
            slot = next(iter(self._recent))
            if now_s - slot.started_s <= SUSPECT_AFTER_S:
                break
            del self._recent[slot]
            slot.is_slow = True
            slot.health.slow += 1
            self._reclassify(slot.health)
            slow.append(slot.health.webhook_id)
        oldest = next(iter(self._webhooks.values()), None)
        if oldest is not None and oldest.in_flight == 0 and now_s - oldest.used_s > FORGET_AFTER_S:
            del self._webhooks[oldest.webhook_id]
        return slow

    def is_suspect(self, webhook_id: WebhookId) -> bool:
        health = self._webhooks.get(webhook_id)
        return health is not None and health.is_suspect

    def circuit(self, webhook_id: WebhookId) -> tuple[CircuitState, float]:
        """State and seconds until a probe may begin, as of the last instant passed to any method."""
        health = self._webhooks.get(webhook_id)
        if health is None:
            return CircuitState.CLOSED, 0.0
        return health.circuit.state(self._now_s), health.circuit.reopen_in_s(self._now_s)

    def places(self) -> dict[WebhookId, Place]:
        """Every webhook asked for in the last hour; for a scrape, not for the hot path."""
        return {
            health.webhook_id: Place(health.in_flight, _limit(health), health.circuit.state(self._now_s))
            for health in self._webhooks.values()
        }

    def statistics(self) -> Mapping[str, int]:
        """Counts for people; looks at every webhook, so not for the hot path."""
        known = self._webhooks.values()
        return {
            "max_in_flight": self._slots.total,
            "in_flight": self.in_flight,
            "in_flight_healthy": self._slots.healthy,
            "in_flight_confined": self._slots.confined,
            "in_flight_retries": self._retry_slots.healthy + self._retry_slots.confined,
            "webhooks": len(known),
            "webhooks_suspect": sum(health.is_suspect for health in known),
            "webhooks_unproven": sum(not health.is_proven for health in known),
            "circuits_open": sum(not health.circuit.is_closed for health in known),
        }

    def __repr__(self) -> str:
        return f"<Bulkheads {self.in_flight}/{self._slots.total} in flight, {self._slots.confined} of them confined>"

    def _room(self, health: _Health, webhook: Webhook, *, of_retries: bool) -> int:
        confined = health.is_confined
        if confined:
            if health.circuit.is_probing:
                return 0
            room = min(1 - health.in_flight, self._confined_room(health))
        else:
            room = min(health.limit, webhook.max_in_flight) - health.in_flight
            room = min(room, self._slots.room(confined=False))
        return min(room, self._retry_slots.room(confined=confined)) if of_retries else room

    def _confined_room(self, health: _Health) -> int:
        """A quarter of the confined half is for the unproven alone: a healthy newcomer must not wait for hung ones' deadlines.

        A newcomer that hangs gives its place back after 2 s, when it has become a suspect.
        """
        share, kept = self._slots, max(1, self._slots.for_confined // 4)
        if health.is_suspect:
            here = self._suspects_per_destination - self._suspects_at.get(health.destination, 0)
            return min(here, share.for_confined - kept - self._suspects, share.room(confined=True))
        unproven = share.confined - self._suspects
        beside_suspects_share = share.total - share.healthy - unproven - min(self._suspects, share.for_confined - kept)
        return max(share.room(confined=True), min(kept - unproven, beside_suspects_share))

    def _health_of(self, webhook: Webhook) -> _Health:
        health = self._webhooks.get(webhook.id)
        if health is None:
            health = self._webhooks[webhook.id] = _Health(webhook, Circuit(self._unit_random), self._now_s)
        elif health.url is not webhook.url or health.max_in_flight != webhook.max_in_flight:
            health.adopt(webhook)
        return health

    def _count(self, health: _Health, *, attempts: int, retries: int) -> None:
        health.in_flight += attempts
        health.retries += retries
        self._slots.add(attempts, confined=health.counts_as_confined)
        self._retry_slots.add(retries, confined=health.counts_as_confined)
        if health.counts_as_suspect:
            self._count_suspects(health.destination, attempts)

    def _reclassify(self, health: _Health) -> None:
        """Moves what a webhook has under way to the account where it stands now."""
        if health.is_confined != health.counts_as_confined:
            self._slots.move(health.in_flight, to_confined=health.is_confined)
            self._retry_slots.move(health.retries, to_confined=health.is_confined)
            health.counts_as_confined = health.is_confined
        if health.is_suspect != health.counts_as_suspect:
            self._count_suspects(health.destination, health.in_flight if health.is_suspect else -health.in_flight)
            health.counts_as_suspect = health.is_suspect

    def _count_suspects(self, destination: str, attempts: int) -> None:
        self._suspects += attempts
        count = self._suspects_at.get(destination, 0) + attempts
        if count:
            self._suspects_at[destination] = count
        else:
            self._suspects_at.pop(destination, None)


class _Health:
    """What this worker has seen of one webhook. `counts_as_…`: where its attempts are accounted, brought in step by the owner."""

    __slots__ = (
        "_answers_at_limit",
        "circuit",
        "counts_as_confined",
        "counts_as_suspect",
        "destination",
        "has_failed_last",
        "in_flight",
        "is_proven",
        "kept_until_s",
        "limit",
        "max_in_flight",
        "retries",
        "slow",
        "url",
        "used_s",
        "webhook_id",
    )

    def __init__(self, webhook: Webhook, circuit: Circuit, now_s: float) -> None:
        self.webhook_id = webhook.id
        self.circuit = circuit
        self.used_s = now_s
        self.in_flight = 0
        self.kept_until_s = 0.0
        self.retries = 0
        self.slow = 0
        self.limit = FIRST_LIMIT
        self.is_proven = False
        self.has_failed_last = False
        self.counts_as_confined = True
        self.counts_as_suspect = False
        self._answers_at_limit = 0
        self.adopt(webhook)

    @property
    def is_suspect(self) -> bool:
        return self.has_failed_last or self.slow > 0

    @property
    def is_confined(self) -> bool:
        return self.has_failed_last or self.slow > 0 or not self.is_proven

    def adopt(self, webhook: Webhook) -> None:
        """Follows a changed webhook; a new URL's destination counts from when nothing is under way at the old one."""
        self.max_in_flight = webhook.max_in_flight
        if self.in_flight == 0:
            self.url = webhook.url
            self.destination = destination_of(webhook.url)

    def answered(self, *, at_limit: bool) -> None:
        """As many answers at the limit as the limit is high, with no failure in between, earn one more."""
        self.is_proven = True
        self.has_failed_last = False
        self._answers_at_limit += at_limit
        if self._answers_at_limit >= self.limit and self.limit < self.max_in_flight:
            self.limit += 1
            self._answers_at_limit = 0

    def failed(self) -> None:
        self.has_failed_last = True
        self.limit = max(FIRST_LIMIT, self.limit // 2)
        self._answers_at_limit = 0


def _limit(health: _Health) -> int:
    return 1 if health.is_confined else min(health.limit, health.max_in_flight)


def destination_of(url: str) -> str:
    """`host:port`, lower case; all unreadable URLs (which are never called) count as one destination."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "unreadable"
    return f"{parts.hostname or ''}:{port}"
