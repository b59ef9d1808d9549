"""What the instances API takes and answers, as models (contract 5). Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from worker.api.endpoints import ApiModel, Page
from worker.api.webhooks_shapes import WebhookFacts
from worker.domain.catalog import Instance
from worker.domain.ids import NAME_PATTERN
from worker.gateways import GATEWAYS
from worker.instances.broker import BrokerFailure, InstanceStatus
from worker.instances.failures import told
from worker.instances.listing import Entry, Listed, Mode
from worker.instances.snapshots import Sighting

YES = frozenset({"1", "true", "yes", "on"})
_LINE = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
"""One line of text that is not blank."""
GatewayName = StrEnum("GatewayName", {name.replace("-", "_").upper(): name for name in sorted(GATEWAYS)})  # type: ignore[misc]


class Fields(StrEnum):
    """How much of each instance: each holds what the one before holds."""

    BASIC = "basic"
    METRICS = "metrics"
    FULL = "full"


class InstancesQuery(Page):
    cursor: str | None = Field(None, pattern=NAME_PATTERN, description="`meta.nextCursor` of the page before")
    refresh: Literal["1", "true", "yes", "on", "0", "false", "no", "off"] = Field("0", description="ask the brokers now, whatever the mode")
    mode: Mode = Field(Mode.SNAPSHOT, description="db and snapshot: what was last seen; sync: ask the brokers, at most every 30 s")
    fields: Fields = Field(Fields.BASIC, description="how much of each instance")

    @property
    def wants_refresh(self) -> bool:
        return self.refresh in YES


class InstanceBasic(ApiModel):
    id: str = Field(description="ours: in ingest paths, events and shards")
    tenant_id: str
    name: str = Field(description="what its tenant calls it")
    gateway: str
    status: InstanceStatus
    connected: bool
    phone_number: str | None = Field(description="digits only", repr=False)
    last_activity: str | None = Field(description="RFC 3339, as its broker says")
    shard: int
    owner: str | None = Field(description="the worker that owns the shard now")


class InstanceMetrics(InstanceBasic):
    status_age_s: float | None = Field(description="seconds since its broker showed this; null: never")
    webhooks: int = Field(description="how many webhooks its events go to")


class InstanceFull(InstanceMetrics):
    profile_name: str | None = Field(repr=False)
    broker: str | None = Field(description="null: it only pushes")
    gateway_instance: str = Field(description="the name the gateway uses")
    is_made: bool = Field(description="false: its broker has not confirmed it yet; repeat its creation with the same key")
    read_only: bool = Field(description="declared in the worker's file: it does not change here")
    ingest_path: str = Field(description="where its gateway pushes")
    created_at: str | None = Field(description="RFC 3339")


class Instances(ApiModel):
    instances: list[InstanceFull | InstanceMetrics | InstanceBasic]


class RefreshFailure(ApiModel):
    cause: str
    status: int | None = Field(description="what the broker answered, where it did")
    code: str
    response_time_ms: int
    attempts: int
    retry_after_s: float | None


class InstancesMeta(ApiModel):
    tenant_id: str
    mode: Mode
    refresh_requested: bool
    refresh_failed: bool
    stale: bool = Field(description="a refresh failed, or what is shown was seen more than 300 s ago")
    snapshot_age_s: float | None = Field(description="seconds since all were last seen; null: never")
    refresh_failure: RefreshFailure | None
    duration_ms: int
    warnings: list[str]
    next_cursor: str | None = Field(description="for the next page; null: this was the last")


class InstanceStatusNow(ApiModel):
    id: str
    status: InstanceStatus
    connected: bool
    phone_number: str | None = Field(repr=False)
    last_activity: str | None


class Qr(ApiModel):
    qr: str | None = Field(repr=False, description="the text that the code holds; null: its broker gives a picture only")
    png: str | None = Field(repr=False, description="a picture of it, base64; null: its broker gives the text only")


class NewInstance(ApiModel):
    name: str = Field(pattern=_LINE, max_length=100, description="what its tenant calls it", examples=["Vendas"])
    gateway: GatewayName = Field(strict=False)
    id: str | None = Field(None, pattern=NAME_PATTERN, description="ours; left out: made from the name")
    broker: str | None = Field(None, pattern=NAME_PATTERN, description="left out: the first broker of this gateway, or none")
    attach: str | None = Field(None, pattern=_LINE, max_length=256, description="admin key only: the name of what the broker has already")
    ingest_secret: str | None = Field(
        None,
        pattern=r"^[!-~]+$",
        min_length=8,
        max_length=256,
        repr=False,
        description="its gateway signs with it: then unsigned pushes get 401",
    )
    webhook: WebhookFacts | None = Field(None, description="a webhook for this instance, made with it")


class NewWebhookMade(ApiModel):
    id: str
    secret: str = Field(description="signs its deliveries; shown now and never again", repr=False)


class InstanceMade(InstanceFull):
    ingest_secret: str | None = Field(
        description="its broker signs with it, or you said it; shown now and never again; null: not signed", repr=False
    )
    ingest_verify_token: str | None = Field(description="of Meta's GET challenge; shown now and never again", repr=False)
    webhook: NewWebhookMade | None


def basic(entry: Entry) -> InstanceBasic:
    """What every list shows."""
    return InstanceBasic(**_basic(entry))


def metrics(entry: Entry, webhooks: int) -> InstanceMetrics:
    return InstanceMetrics(**_metrics(entry, webhooks))


def full(entry: Entry, webhooks: int, *, read_only: bool) -> InstanceFull:
    instance = entry.instance
    return InstanceFull(
        **_metrics(entry, webhooks),
        profile_name=_seen(entry).profile_name,
        broker=instance.broker,
        gateway_instance=instance.gateway_instance,
        is_made=instance.is_made,
        read_only=read_only,
        ingest_path=ingest_path(instance),
        created_at=instance.created_at,
    )


def ingest_path(instance: Instance) -> str:
    return f"/ingest/{instance.gateway}/{instance.id}"


def status_now(instance: Instance, sighting: Sighting) -> InstanceStatusNow:
    return InstanceStatusNow(
        id=instance.id,
        status=sighting.status,
        connected=sighting.status is InstanceStatus.CONNECTED,
        phone_number=sighting.phone_number,
        last_activity=sighting.last_activity,
    )


def meta_of(listed: Listed, tenant_id: str, *, refresh_requested: bool, duration_ms: int) -> InstancesMeta:
    return InstancesMeta(
        tenant_id=tenant_id,
        mode=listed.mode,
        refresh_requested=refresh_requested,
        refresh_failed=listed.failure is not None,
        stale=listed.is_stale,
        snapshot_age_s=None if listed.age_s is None else round(listed.age_s, 3),
        refresh_failure=None if listed.failure is None else refresh_failure(listed.failure),
        duration_ms=duration_ms,
        warnings=list(listed.warnings),
        next_cursor=listed.next_after,
    )


def refresh_failure(failure: BrokerFailure) -> RefreshFailure:
    return RefreshFailure(
        cause=failure.cause.value,
        status=failure.status,
        code=told(failure).code,
        response_time_ms=failure.response_time_ms,
        attempts=failure.attempts,
        retry_after_s=failure.retry_after_s,
    )


def _seen(entry: Entry) -> Sighting:
    return Sighting(status=InstanceStatus.UNKNOWN) if entry.seen is None else entry.seen.sighting


def _basic(entry: Entry) -> dict[str, Any]:
    instance, seen = entry.instance, _seen(entry)
    return {
        "id": instance.id,
        "tenant_id": instance.tenant_id,
        "name": instance.name or instance.id,
        "gateway": instance.gateway,
        "status": seen.status,
        "connected": seen.status is InstanceStatus.CONNECTED,
        "phone_number": seen.phone_number,
        "last_activity": seen.last_activity,
        "shard": entry.shard,
        "owner": entry.owner,
    }


def _metrics(entry: Entry, webhooks: int) -> dict[str, Any]:
    age_s = None if entry.seen is None else round(entry.seen.age_s, 3)
    return {**_basic(entry), "status_age_s": age_s, "webhooks": webhooks}
