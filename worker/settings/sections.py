"""The sections of the settings, one class each: every setting with its unit, range, default and one line of documentation. Pure.

`config/default.toml` shows the same; `tests/unit/test_settings_default_toml.py` keeps the two in step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from worker.domain.webhook_rules import is_http_url

MIB = 1024 * 1024
MAX_REVISION = (1 << 31) - 1


class Section(BaseModel):
    """Frozen, refuses unknown keys, keeps inputs (secrets) out of its error messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


@dataclass(frozen=True, slots=True)
class Allowed:
    """In the annotation of a setting: what it may hold, in the words a fault uses. pydantic itself does not look at it."""

    words: str


def _decoded(value: object) -> object:
    """A list or table given in an environment variable is JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('allowed: JSON, for example ["a", "b"]') from None


Json = BeforeValidator(_decoded)
"""Together with `NoDecode`: a fault in the JSON is reported like any other, with its setting, not as a crash of the loader."""


def _key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().strip(" .…"):
        raise ValueError('allowed: a key of your own, not "…"')
    return value


MIN_KEY_CHARS = 16
"""Of a key that is asked for by more than this machine."""
OperatorKey = Annotated[SecretStr | None, AfterValidator(_key)]


def _redis_url(value: str) -> str:
    if value != "embedded" and not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("allowed: embedded, or a URL that begins with redis://, rediss:// or unix://")
    return value


class RedisSettings(Section):
    url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "embedded", repr=False, description="redis://, rediss:// or unix:// URL, or embedded: a real server started as a child"
    )
    embedded_anyway: bool = Field(False, description="allow embedded in an ECS task or a Kubernetes pod, whose disk dies with it")  # noqa: FBT003

    @property
    def is_embedded(self) -> bool:
        return self.url == "embedded"


def _public_url(value: str | None) -> str | None:
    if value is not None and not is_http_url(value):
        raise ValueError("allowed: an http:// or https:// URL with a host")
    return value


class HttpSettings(Section):
    host: str = Field("127.0.0.1", description="address to listen on; anything but loopback needs an admin key or an API key")
    port: int = Field(8080, ge=0, le=65_535, description="TCP port of API, ingest, health and dashboard; 0 takes a free one")
    public_url: Annotated[str | None, AfterValidator(_public_url)] = Field(
        None, max_length=2_048, description="where gateways reach this deployment; told to a broker with each new instance, to push there"
    )
    admin_key: OperatorKey = Field(None, description="bearer token of the operator, at least 16 characters unless on loopback")
    metrics_key: OperatorKey = Field(None, description="bearer token that opens /metrics only, at least 16 characters unless on loopback")
    max_body_bytes: int = Field(4 * MIB, ge=1_024, le=64 * MIB, description="largest ingest body, bytes")


def _backend(value: str) -> str:
    if value == "kafka":
        raise ValueError("allowed: redis (kafka comes with a later release)")
    if value != "redis":
        raise ValueError("allowed: redis")
    return value


class JournalSettings(Section):
    backend: Annotated[str, AfterValidator(_backend)] = Field("redis", description="where accepted events are kept: redis")
    max_backlog_events: int = Field(
        1_000_000, ge=1_000, le=1_000_000_000, description="undelivered events in journal, retry queue and dead letters; beyond: 503"
    )
    max_backlog_bytes: int = Field(1024 * MIB, ge=MIB, le=1024 * 1024 * MIB, description="the same, bytes")
    max_backlog_share_per_tenant: float = Field(
        0.25, ge=0.01, le=1.0, description="one tenant's part of the backlog; beyond: 503 for that tenant only; 1.0 where there is only one"
    )
    durability: Literal["auto", "local", "replicated"] = Field(
        "auto", description="what a 2xx waits for: local, replicated (one replica), auto (replicated where there are replicas)"
    )
    keep_s: float = Field(3_600, ge=0, le=604_800, description="delivered events kept for replay and timelines, seconds")
    dedupe_window_s: float = Field(21_600, ge=60, le=604_800, description="how long an event_key is remembered, seconds")
    dedupe_max_keys: int = Field(5_000_000, ge=1_000, le=1_000_000_000, description="keys remembered at most, about 110 bytes each")


class DeadLetterSettings(Section):
    keep_days: float = Field(14, ge=0.01, le=3_650, description="dead letters are kept this long, days; then gone, counted and announced")


class BufferSettings(Section):
    max_events: int = Field(10_000, ge=100, le=1_000_000, description="events in memory, all lanes together")
    max_bytes: int = Field(64 * MIB, ge=8 * MIB, le=16_384 * MIB, description="bytes in memory, all lanes together")
    min_lane_events: int = Field(64, ge=1, le=100_000, description="events a webhook may hold before it can be asked to spill")


class RegistrySettings(Section):
    shards: int = Field(16, ge=1, le=1_024, description="parts of the work that can have different owners; fixed at the first start")
    lease_ttl_s: float = Field(15, ge=5, le=300, description="a silent owner loses its shards after this long, seconds")
    revision: int = Field(
        0,
        ge=0,
        le=MAX_REVISION,
        description="orders deployments: the newer take over from the older; 0: what ECS says, where there is ECS",
    )


class OrchestratorSettings(Section):
    """Of the gateways' streams that this worker reads."""

    max_sessions: int = Field(20_000, ge=0, le=1_000_000, description="streams of gateways that one worker reads at most")
    connects_per_s: float = Field(200, ge=0.1, le=10_000, description="streams opened per second, for each broker")
    max_connecting: int = Field(64, ge=1, le=10_000, description="streams being opened at the same time, for each broker")


RetryWait = Annotated[float, Field(ge=0.1, le=86_400)]
Port = Annotated[int, Field(ge=1, le=65_535)]


def _network(value: Any) -> IPv4Network | IPv6Network:  # noqa: ANN401 - whatever the TOML file holds
    try:
        return ip_network(value)
    except (ValueError, TypeError):
        raise ValueError("allowed: an address range such as 10.1.0.0/16 or fd00::/8, host bits zero") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class DeliverySettings(Section):
    deadline_s: float = Field(10, ge=1, le=30, description="one attempt, everything included, where the webhook does not say, seconds")
    max_in_flight: int = Field(2_000, ge=4, le=100_000, description="attempts under way at once, all webhooks together")
    max_in_flight_per_webhook: int = Field(8, ge=1, le=1_000, description="attempts under way at once for a webhook that keeps answering")
    retry_schedule_s: Annotated[tuple[RetryWait, ...], NoDecode, Json] = Field(
        (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 36_000),
        min_length=1,
        max_length=200,
        description="waits between attempts, seconds, each × uniform(0.8, 1.2); 1 to 200 entries of 0.1 to 86400",
    )
    max_age_s: float = Field(
        259_200, ge=60, le=31_536_000, description="older events become dead letters, seconds; time paused not counted"
    )
    disable_after_s: float = Field(
        259_200, ge=0, le=31_536_000, description="a webhook that has answered nothing for so long is disabled, seconds; 0 = never"
    )
    allowed_ports: Annotated[tuple[Port, ...], NoDecode, Json] = Field(
        (), max_length=100, description="ports a webhook may use, 1 to 65535; empty = every port"
    )
    allowed_private_cidrs: Annotated[tuple[Network, ...], NoDecode, Json] = Field(
        (), max_length=100, description="private address ranges a webhook may use; metadata addresses stay forbidden"
    )


class ShutdownSettings(Section):
    """`budget_s` None means `stop_timeout_s` − 10; ask `seconds` for the answer."""

    stop_timeout_s: float = Field(120, ge=11, le=86_400, description="what the platform gives between SIGTERM and SIGKILL, seconds")
    budget_s: float | None = Field(
        None, ge=1, le=86_400, description="what we take of it, from the first signal, seconds; unset: stop_timeout_s − 10"
    )

    @property
    def seconds(self) -> float:
        return self.stop_timeout_s - 10 if self.budget_s is None else self.budget_s


class StartupSettings(Section):
    wait_s: float = Field(300, ge=0, le=86_400, description="patience with an unreachable dependency at start, seconds; then exit 69")


def _rate(value: str) -> str:
    calls, slash, seconds = value.partition("/")
    if value != "off" and not (slash and calls.isdecimal() and seconds.isdecimal() and int(calls) and int(seconds)):
        raise ValueError('allowed: calls/seconds such as "5/60", or "off"')
    return value


Rate = Annotated[str, AfterValidator(_rate)]


class RateLimits(Section):
    refresh: Rate = "5/60"
    sync: Rate = "3/30"
    read: Rate = "10/15"
    create: Rate = "10/60"


class ApiSettings(Section):
    rate_limits: Annotated[RateLimits, NoDecode, Json] = Field(
        RateLimits(), description='calls/seconds per tenant, over all workers, or "off"'
    )
