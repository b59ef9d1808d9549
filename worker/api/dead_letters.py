"""Dead letters over the API: list, show, discard, replay one or by filter (contract 5).

Replaying by filter is stateless: a call moves one page, oldest deaths first, and answers the cursor of the next. Whoever loops may be
stopped and go on at any page; letters that die again meanwhile are not met again, for the first call's instant stands in the cursor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog
from pydantic import Field

from worker.api.endpoints import ApiError, ApiModel, Call, Endpoint, Fault, Page, PageMeta, Query, Reply
from worker.api.instants import IMPOSSIBLE, Instant, instant_ms, told
from worker.api.targets import DISABLED, GONE, NOT_FOUND, Targets
from worker.domain.errors import CorruptRecord
from worker.domain.ids import NAME_PATTERN, DeliveryId, InstanceId, TenantId, WebhookId, delivery_id
from worker.domain.record import decode, normalized_body
from worker.event_integration.past import MAX_REPLAYED, DeadLetters, Letter, LetterFilter, LetterPage, LetterPlace, Moved, Moving
from worker.event_integration.retry_queue import DeadReason

LETTER_ID = r"^msg_[A-Z2-7]{26}$"
MISSING = Fault(status=404, code="DEAD_LETTER_NOT_FOUND", when="there is no such dead letter of this tenant (any more)")
EMPTY = Fault(status=409, code="RECORD_GONE", when="the letter's event is not in the store any more")
POISON = Fault(
    status=409, code="DEAD_LETTER_IS_POISON", when="its event ended the worker more than once; the admin key may replay it alone"
)
RATE = "how fast they become due; a backlog is released at up to twice a webhook's usual rate, at least 100 a second"

log = structlog.get_logger("worker.api")


class Wanted(ApiModel):
    webhook_id: str | None = Field(None, pattern=NAME_PATTERN)
    instance_id: str | None = Field(None, pattern=NAME_PATTERN)
    reason: DeadReason | None = None
    since: Instant | None = Field(None, description="died then or later")
    until: Instant | None = Field(None, description="died before")


class LettersQuery(Page):
    cursor: str | None = Field(None, pattern=r"^[0-9]{1,15}\.msg_[A-Z2-7]{26}$", description="`meta.nextCursor` of the page before")
    webhook_id: str | None = Field(None, pattern=NAME_PATTERN)
    instance_id: str | None = Field(None, pattern=NAME_PATTERN)
    reason: DeadReason | None = None
    since: Instant | None = Field(None, description="died then or later")
    until: Instant | None = Field(None, description="died before")


class DeadLetterRow(ApiModel):
    """`instanceId`, `type` and `receivedAt` are null where the event cannot be read."""

    id: str = Field(description="the `webhook-id` of the delivery")
    webhook_id: str
    event_key: str
    reason: DeadReason
    attempts: int
    error: str | None = Field(description="of the last attempt")
    died_at: str
    instance_id: str | None
    type: str | None
    subtype: str | None
    received_at: str | None


class DeadLetterRows(ApiModel):
    dead_letters: list[DeadLetterRow]


class OpenedLetter(DeadLetterRow):
    event: dict[str, Any] | None = Field(description="as a `normalized` webhook gets it; null where it cannot be read")


class ReplayQuery(Query):
    webhook_id: str | None = Field(
        None, pattern=NAME_PATTERN, description="where to: another webhook of the tenant; left out: each letter's own"
    )


class Replayed(ApiModel):
    delivery_id: str = Field(description="the `webhook-id` under which it will arrive")
    webhook_id: str


class ReplayMany(Wanted):
    """Which letters (left out: all of the tenant), and how."""

    rate_per_s: int = Field(50, ge=1, le=1_000, description=RATE)
    limit: int = Field(MAX_REPLAYED, ge=1, le=MAX_REPLAYED, description="letters in this call")
    cursor: str | None = Field(None, pattern=r"^([0-9]{1,15}\.){3}msg_[A-Z2-7]{26}$", description="`meta.nextCursor` of the call before")


class ReplayedMany(ApiModel):
    replayed: int
    skipped: int = Field(description="their webhook is gone or disabled, their event is not in the store any more, or it is poison")


class ReplayMeta(PageMeta):
    resume_after_s: float = Field(description="the next call keeps to the rate when it comes so much later")
    progress: float = Field(description="0 to 1: how far this went through the time or the shards asked for")


def dead_letter_endpoints(letters: DeadLetters, targets: Targets) -> list[Endpoint]:
    handlers = _Handlers(letters, targets)
    patterns = {"deadLetterId": LETTER_ID}
    return [
        Endpoint(
            method="GET", path="/api/dead-letters", summary="List dead letters, newest first", tag="Dead letters",
            handle=handlers.list, query=LettersQuery, data=DeadLetterRows, meta=PageMeta, faults=(IMPOSSIBLE,),
        ),
        Endpoint(
            method="GET", path="/api/dead-letters/{deadLetterId}", summary="Show a dead letter with its event", tag="Dead letters",
            handle=handlers.show, data=OpenedLetter, path_patterns=patterns, faults=(MISSING,),
        ),
        Endpoint(
            method="DELETE", path="/api/dead-letters/{deadLetterId}", summary="Discard a dead letter", tag="Dead letters",
            handle=handlers.discard, status=204, path_patterns=patterns, faults=(MISSING,),
        ),
        Endpoint(
            method="POST", path="/api/dead-letters/{deadLetterId}/replay", summary="Deliver a dead letter again", tag="Dead letters",
            handle=handlers.replay, status=202, query=ReplayQuery, data=Replayed, path_patterns=patterns,
            faults=(MISSING, NOT_FOUND, GONE, DISABLED, EMPTY, POISON),
        ),
        Endpoint(
            method="POST", path="/api/dead-letters/replay", summary="Deliver a page of dead letters again, at a rate", tag="Dead letters",
            handle=handlers.replay_many, query=ReplayQuery, body=ReplayMany, data=ReplayedMany, meta=ReplayMeta,
            faults=(NOT_FOUND, DISABLED, IMPOSSIBLE),
        ),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, letters: DeadLetters, targets: Targets) -> None:
        self._letters = letters
        self._targets = targets

    async def list(self, call: Call) -> Reply:
        asked = call.asked(LettersQuery)
        after = None if asked.cursor is None else _place(*asked.cursor.split("."))
        page = await self._letters.page(_filter(call.tenant_id, asked), after=after, limit=asked.limit)
        following = None if page.next is None else f"{page.next.died_at_ms}.{page.next.delivery_id}"
        return Reply(data=DeadLetterRows(dead_letters=[_row(letter) for letter in page.letters]), meta=PageMeta(next_cursor=following))

    async def show(self, call: Call) -> Reply:
        letter, record = await self._found(call)
        return Reply(content=b'{"success":true,"data":%s}' % _opened(letter, record))

    async def discard(self, call: Call) -> Reply:
        letter, _ = await self._found(call)
        if not await self._letters.discard([letter]):
            raise _missing()
        log.info("dead_letter_discarded", delivery=letter.delivery_id, webhook=letter.webhook_id, event_key=letter.event_key)
        return Reply(status=204)

    async def replay(self, call: Call) -> Reply:
        letter, _ = await self._found(call)
        to = self._target(call, letter, call.asked(ReplayQuery).webhook_id)
        [moved] = await self._letters.replay([Moving(letter, to, 0.0)])
        if moved is Moved.GONE:
            raise _missing()
        if moved is Moved.EMPTY:
            raise ApiError(
                EMPTY.status, EMPTY.code, "its event is not in the store any more, so there is nothing to send; discard the letter"
            )
        log.info("dead_letters_replayed", replayed=1, webhook=to)
        return Reply(status=202, data=Replayed(delivery_id=delivery_id(letter.event_key, to), webhook_id=to))

    async def replay_many(self, call: Call) -> Reply:
        asked = call.sent(ReplayMany)
        named = call.asked(ReplayQuery).webhook_id
        to = None if named is None else self._targets.named(call.tenant_id, named).id
        wanted = _filter(call.tenant_id, asked)
        at = None if asked.cursor is None else Going.on(asked.cursor)
        if at is not None:
            wanted = _filter(call.tenant_id, asked, until_ms=at.until_ms)
        page = await self._letters.page(wanted, after=at.place if at else None, limit=asked.limit, newest_first=False)
        chosen = [(letter, target) for letter in page.letters if (target := self._open_target(letter, to)) is not None]
        movings = [Moving(letter, target, number / asked.rate_per_s) for number, (letter, target) in enumerate(chosen)]
        moved = await self._letters.replay(movings)
        replayed = moved.count(Moved.QUEUED)
        log.info("dead_letters_replayed", replayed=replayed, skipped=len(page.letters) - replayed, webhook=to)
        meta = _replay_meta(page, at, wanted, replayed / asked.rate_per_s)
        return Reply(data=ReplayedMany(replayed=replayed, skipped=len(page.letters) - replayed), meta=meta)

    async def _found(self, call: Call) -> tuple[Letter, bytes | None]:
        found = await self._letters.find(call.tenant_id, DeliveryId(call.path["deadLetterId"]))
        if found is None:
            raise _missing()
        return found

    def _target(self, call: Call, letter: Letter, named: str | None) -> WebhookId:
        """Raises `ApiError`."""
        if letter.reason is DeadReason.POISON and not call.is_admin:
            raise ApiError(POISON.status, POISON.code, "its event ended the worker more than once; ask the operator, or discard the letter")
        if named is None and self._targets.of_tenant(call.tenant_id, letter.webhook_id) is None:
            raise ApiError(GONE.status, GONE.code, "its webhook is gone; name another with ?webhookId=, or discard the letter")
        return self._targets.named(call.tenant_id, named or letter.webhook_id).id

    def _open_target(self, letter: Letter, named: WebhookId | None) -> WebhookId | None:
        """None: this letter is skipped. One that ended the worker is never among many."""
        if letter.reason is DeadReason.POISON:
            return None
        if named is not None:
            return named
        own = self._targets.of_tenant(letter.tenant_id, letter.webhook_id)
        return own.id if own is not None and self._targets.takes(own) else None


class Going(NamedTuple):
    """Where a replay by filter stands: what the cursor says. It ends at `until_ms`; `begun_ms` is only for the progress."""

    until_ms: int
    begun_ms: int
    place: LetterPlace

    @classmethod
    def on(cls, cursor: str) -> Going:
        until_ms, begun_ms, *place = cursor.split(".")
        return cls(int(until_ms), int(begun_ms), _place(*place))

    def __str__(self) -> str:
        return f"{self.until_ms}.{self.begun_ms}.{self.place.died_at_ms}.{self.place.delivery_id}"

    @property
    def progress(self) -> float:
        whole_ms = max(1, self.until_ms - self.begun_ms)
        return min(1.0, max(0.0, (self.place.died_at_ms - self.begun_ms) / whole_ms))


def _replay_meta(page: LetterPage, at: Going | None, wanted: LetterFilter, resume_after_s: float) -> ReplayMeta:
    if page.next is None:
        return ReplayMeta(next_cursor=None, resume_after_s=resume_after_s, progress=1.0)
    begun_ms = at.begun_ms if at else page.letters[0].died_at_ms if page.letters else page.next.died_at_ms
    until_ms = at.until_ms if at else min(page.now_ms, page.now_ms if wanted.until_ms is None else wanted.until_ms)
    going = Going(until_ms, begun_ms, page.next)
    return ReplayMeta(next_cursor=str(going), resume_after_s=resume_after_s, progress=round(going.progress, 4))


def _filter(tenant_id: TenantId, asked: Wanted | LettersQuery, *, until_ms: int | None = None) -> LetterFilter:
    if until_ms is None and asked.until is not None:
        until_ms = instant_ms(asked.until)
    return LetterFilter(
        tenant_id=tenant_id,
        webhook_id=None if asked.webhook_id is None else WebhookId(asked.webhook_id),
        instance_id=None if asked.instance_id is None else InstanceId(asked.instance_id),
        reason=asked.reason,
        since_ms=None if asked.since is None else instant_ms(asked.since),
        until_ms=until_ms,
    )


def _place(died_at_ms: str, name: str) -> LetterPlace:
    return LetterPlace(int(died_at_ms), DeliveryId(name))


def _row(letter: Letter) -> DeadLetterRow:
    heading = letter.heading
    return DeadLetterRow(
        id=letter.delivery_id,
        webhook_id=letter.webhook_id,
        event_key=letter.event_key,
        reason=letter.reason,
        attempts=letter.attempts,
        error=letter.error,
        died_at=told(letter.died_at_ms),
        instance_id=heading.instance_id if heading else None,
        type=heading.type if heading else None,
        subtype=heading.subtype if heading else None,
        received_at=heading.received_at if heading else None,
    )


def _opened(letter: Letter, record: bytes | None) -> bytes:
    """JSON of `OpenedLetter`: the gateway's bytes are embedded, neither parsed nor made anew."""
    try:
        event = b"null" if record is None else normalized_body(decode(record))
    except CorruptRecord:
        event = b"null"
    return _row(letter).model_dump_json(by_alias=True).encode()[:-1] + b',"event":' + event + b"}"


def _missing() -> ApiError:
    return ApiError(MISSING.status, MISSING.code, "no such dead letter; it may have been replayed, discarded or expired: list them again")
