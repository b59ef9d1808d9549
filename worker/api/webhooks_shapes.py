"""What the webhooks API takes and answers, as models (contract 5). Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from worker.adapters.clock import rfc3339
from worker.api.endpoints import ApiModel, Page
from worker.domain import webhook_rules as rules
from worker.domain.catalog import Webhook
from worker.domain.ids import NAME_PATTERN
from worker.event_integration.attempts_log import AttemptEntry
from worker.event_integration.circuit import CircuitState
from worker.event_integration.transport import Stage
from worker.event_integration.webhook_states import DisabledReason, WebhookState

MAX_INSTANCES = 1_000
MAX_OVERLAP_S = 604_800

Url = Annotated[
    str,
    Field(
        pattern=rules.URL_PATTERN,
        max_length=rules.MAX_URL_CHARACTERS,
        description="where events are posted to; public addresses, and what the operator allows beside them",
        examples=["https://crm.example.com/hooks/whatsapp"],
    ),
]
InstanceIds = Annotated[
    list[Annotated[str, StringConstraints(pattern=NAME_PATTERN)]],
    Field(max_length=MAX_INSTANCES, description="of the tenant's instances; empty: all, also those to come"),
]
EventFilter = Annotated[str, StringConstraints(pattern=rules.EVENT_PATTERN, max_length=rules.MAX_EVENT_CHARACTERS)]
Events = Annotated[
    list[EventFilter],
    Field(
        max_length=rules.MAX_EVENTS, description="`type` or `type/subtype`, `*` allowed; empty: all", examples=[["message", "receipt/*"]]
    ),
]
Format = Annotated[Literal["normalized", "raw"], Field(description="one JSON for all gateways, or the gateway's own bytes")]
Ordering = Annotated[Literal["none", "chat"], Field(description="chat: the events of one chat strictly in order")]
DeadlineS = Annotated[float, Field(ge=rules.DEADLINE_S[0], le=rules.DEADLINE_S[1], description="of one attempt, everything included")]
MaxInFlight = Annotated[int, Field(ge=rules.MAX_IN_FLIGHT[0], le=rules.MAX_IN_FLIGHT[1], description="attempts at a time")]
HeaderName = Annotated[str, StringConstraints(pattern=rules.HEADER_NAME_PATTERN, max_length=rules.MAX_HEADER_NAME_CHARACTERS)]
HeaderValue = Annotated[str, StringConstraints(pattern=rules.HEADER_VALUE_PATTERN, max_length=rules.MAX_HEADER_VALUE_CHARACTERS)]
Headers = Annotated[
    dict[HeaderName, HeaderValue],
    Field(
        max_length=rules.MAX_HEADERS,
        repr=False,
        description="sent with each request; their values are never shown again",
        examples=[{"authorization": "Bearer 0123456789abcdef"}],
        json_schema_extra={"additionalProperties": False},
    ),
]


EnrichContact = Annotated[
    bool,
    Field(
        description="true: a normalized body says as `contact` what is known of the person's name and picture; "
        "an event waits for that at most 250 ms (docs/enrichment.md)"
    ),
]
Description = Annotated[str, Field(max_length=500, description="for people")]
Enabled = Annotated[bool, Field(description="false: nothing is sent, and what waits becomes dead letters; true undoes a disable")]


def _no_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class WebhooksQuery(Page):
    cursor: str | None = Field(None, pattern=NAME_PATTERN, description="`meta.nextCursor` of the page before")


class WebhookFacts(ApiModel):
    """What there is to say about a webhook that is to be made, but whose events it gets."""

    url: Url
    events: Events = Field(default_factory=list)
    format: Format = "normalized"
    ordering: Ordering = "none"
    deadline_s: DeadlineS | None = Field(None, description="left out or null: what the operator's settings say")
    max_in_flight: MaxInFlight | None = Field(None, description="left out or null: what the operator's settings say")
    headers: Headers = Field(default_factory=dict)
    enrich_contact: EnrichContact = False
    description: Description = ""


class NewWebhook(WebhookFacts):
    instance_ids: InstanceIds = Field(default_factory=list)
    enabled: Enabled = True


class WebhookChange(ApiModel):
    """What is left out stays as it is."""

    url: Url = Field("", json_schema_extra=_no_default)
    instance_ids: InstanceIds = Field(default_factory=list)
    events: Events = Field(default_factory=list)
    format: Format = Field("normalized", json_schema_extra=_no_default)
    ordering: Ordering = Field("none", json_schema_extra=_no_default)
    deadline_s: DeadlineS = Field(0.0, json_schema_extra=_no_default)
    max_in_flight: MaxInFlight = Field(0, json_schema_extra=_no_default)
    headers: Headers = Field(default_factory=dict)
    enrich_contact: EnrichContact = Field(default=False, json_schema_extra=_no_default)
    description: Description = Field("", json_schema_extra=_no_default)
    enabled: Enabled = Field(default=True, json_schema_extra=_no_default)


class Rotation(ApiModel):
    overlap_s: int = Field(86_400, ge=0, le=MAX_OVERLAP_S, description="how long the secret that is replaced signs beside the new one")


class WebhookShown(ApiModel):
    id: str
    tenant_id: str
    url: str
    instance_ids: list[str]
    events: list[str]
    format: str
    ordering: str
    deadline_s: float
    max_in_flight: int
    header_names: list[str]
    enrich_contact: bool
    description: str
    secrets: int = Field(description="that sign each request now, those that are being replaced included")
    read_only: bool = Field(description="declared in the worker's file: only enabled and paused change here")
    created_at: str | None = Field(description="RFC 3339")
    enabled: bool
    disabled_reason: DisabledReason | None
    disabled_for_s: float | None
    paused: bool
    paused_for_s: float | None
    failing_for_s: float | None = Field(description="since its first failure without an answer; null: it answers, or was not asked")
    circuit: CircuitState = Field(description="as the worker that answers sees it")


class ManyWebhooks(ApiModel):
    webhooks: list[WebhookShown]


class WebhookMade(WebhookShown):
    secret: str = Field(description="signs by Standard Webhooks; shown now and never again", repr=False)


class Outcome(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


class PhasesShown(ApiModel):
    """Seconds; null where the attempt did not come so far, or needed nothing of it."""

    queue: float | None
    enrich: float | None
    dns: float | None
    connect: float | None
    tls: float | None
    send: float | None
    first_byte: float | None
    body: float | None


class AttemptShown(ApiModel):
    at: str = Field(description="RFC 3339: when it ended")
    event_key: str
    delivery_id: str = Field(description="the `webhook-id` header")
    attempt: int
    outcome: Outcome
    status: int | None = Field(description="of the answer; null: there was none")
    error: str | None = Field(description="why there was none")
    stage: Stage | None = Field(description="where it ended then")
    duration_s: float
    phases_s: PhasesShown


class ManyAttempts(ApiModel):
    attempts: list[AttemptShown] = Field(description="the newest first, at most 100")


class TriedShown(ApiModel):
    """One attempt, made now and never repeated."""

    is_ok: bool = Field(description="it answered 2xx")
    event_key: str
    delivery_id: str = Field(description="the `webhook-id` header")
    status: int | None = Field(description="of the answer; null: there was none")
    error: str | None = Field(description="why there was none")
    stage: Stage | None = Field(description="where it ended then")
    duration_s: float
    phases_s: PhasesShown


def webhook_shown(webhook: Webhook, state: WebhookState, circuit: CircuitState, *, read_only: bool, wall_s: float) -> WebhookShown:
    return WebhookShown(
        id=webhook.id,
        tenant_id=webhook.tenant_id,
        url=webhook.url,
        instance_ids=sorted(webhook.instance_ids),
        events=list(webhook.events),
        format=webhook.format,
        ordering=webhook.ordering,
        deadline_s=webhook.deadline_s,
        max_in_flight=webhook.max_in_flight,
        header_names=sorted(webhook.headers),
        enrich_contact=webhook.enrich_contact,
        description=webhook.description,
        secrets=len(webhook.secrets) + sum(retiring.until_s > wall_s for retiring in webhook.retiring),
        read_only=read_only,
        created_at=webhook.created_at,
        enabled=webhook.enabled and state.disabled is None,
        disabled_reason=state.disabled,
        disabled_for_s=None if state.disabled is None else round(state.for_s, 3),
        paused=state.is_paused,
        paused_for_s=round(state.pauses[-1].from_s, 3) if state.is_paused else None,
        failing_for_s=round(state.for_s, 3) if state.is_failing else None,
        circuit=circuit,
    )


def with_secret(shown: WebhookShown, secret: str) -> WebhookMade:
    return WebhookMade(**dict(shown), secret=secret)


def attempt_shown(entry: AttemptEntry) -> AttemptShown:
    return AttemptShown(
        at=rfc3339(datetime.fromtimestamp(entry.at_s, UTC)),
        event_key=entry.event_key,
        delivery_id=entry.delivery_id,
        attempt=entry.attempt,
        outcome=Outcome(entry.outcome),
        status=entry.status,
        error=entry.error,
        stage=entry.stage,
        duration_s=round(entry.duration_s, 6),
        phases_s=phases_shown(entry.phases_s),
    )


def phases_shown(phases_s: Any) -> PhasesShown:  # noqa: ANN401 -- a mapping of stages to seconds
    return PhasesShown(**{stage.value: None if (s := phases_s.get(stage)) is None else round(s, 6) for stage in Stage})
