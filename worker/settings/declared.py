"""What the TOML file declares: tenants, brokers, instances, webhooks; one by one. How they fit together is `crosscheck.py`. Pure."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from worker.domain import webhook_rules as rules
from worker.domain.event import EventType
from worker.domain.ids import NAME_PATTERN
from worker.gateways import GATEWAYS
from worker.settings.sections import Allowed, Section

BROKER_GATEWAYS = ("baileys", "evolution", "waha", "wuzapi")

SIGNING_KEY_BYTES = range(24, 65)
"""Standard Webhooks: a symmetric secret holds 24 to 64 random bytes."""

Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    Allowed("1 to 64 letters, digits, . _ -, letter or digit first"),
]
"""It stands in URLs, in keys of the store and in labels."""
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True), Allowed("64 hex digits: a SHA-256")]
_URL = "an http:// or https:// URL with a host, port 1 to 65535"
_SIGNING_SECRET = "whsec_ and the base64 of 24 to 64 random bytes"  # noqa: S105 - what one looks like


def one_of(allowed: Iterable[str]) -> AfterValidator:
    names = tuple(allowed)

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"allowed: {', '.join(names)}")
        return value

    return AfterValidator(check)


def _http_url(value: str) -> str:
    if not rules.is_http_url(value):
        raise ValueError(f"allowed: {_URL}")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        size = len(b64decode(text.removeprefix("whsec_"), validate=True))
    except ValueError:  # not base64, or not even ASCII
        size = 0
    if not text.startswith("whsec_") or size not in SIGNING_KEY_BYTES:
        raise ValueError(f"allowed: {_SIGNING_SECRET}")
    return value


def _ingest_secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip(" .…"):
        raise ValueError('allowed: a secret of your own, not "…"')
    return value


def _event_filter(value: str) -> str:
    if not rules.is_event_filter(value):
        raise ValueError(f"allowed: *, type or type/subtype (* allowed), type one of {', '.join(EventType)}")
    return value


def _header(item: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in item.items():
        if re.fullmatch(rules.HEADER_NAME_PATTERN, name) is None or any(c in value.get_secret_value() for c in "\r\n\0"):
            raise ValueError("allowed: header names of letters, digits and -, values on one line")
        if rules.is_our_header(name):
            raise ValueError(f"allowed: headers of your own; {name.lower()} is set by the worker")
    return item


def _ordering(value: str) -> str:
    if value not in rules.ORDERINGS:
        raise ValueError("allowed: none, chat")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url), Allowed(_URL)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret), Allowed(_SIGNING_SECRET)]


class TenantDeclared(Section):
    id: Name
    api_keys_sha256: tuple[Sha256Hex, ...] = Field((), max_length=100, repr=False)


class BrokerDeclared(Section):
    """A gateway's REST side."""

    id: Name
    gateway: Annotated[str, one_of(BROKER_GATEWAYS), Allowed(", ".join(BROKER_GATEWAYS))]
    url: HttpUrl = Field(repr=False)
    api_key: SecretStr | None = None
    tenant_ids: tuple[Name, ...] = Field((), max_length=10_000)
    timeout_s: float = Field(15, ge=1, le=120)
    sockets: bool = True


class InstanceDeclared(Section):
    """`gateway_instance` is the name the gateway uses; where it uses none, our id."""

    id: Name
    tenant_id: Name
    gateway: Annotated[str, one_of(sorted(GATEWAYS)), Allowed(", ".join(sorted(GATEWAYS)))]
    gateway_instance: str | None = Field(None, min_length=1, max_length=256)
    broker: Name | None = None
    ingest_secrets: tuple[Annotated[SecretStr, AfterValidator(_ingest_secret)], ...] = Field((), max_length=10)
    ingest_verify_token: SecretStr | None = None

    @property
    def name_at_gateway(self) -> str:
        return self.gateway_instance or self.id


class WebhookDeclared(Section):
    """`deadline_s` and `max_in_flight` None mean what `[delivery]` says."""

    id: Name
    tenant_id: Name
    url: HttpUrl = Field(repr=False)
    instance_ids: tuple[Name, ...] = Field((), max_length=100_000)
    events: tuple[Annotated[str, AfterValidator(_event_filter)], ...] = Field((), max_length=rules.MAX_EVENTS)
    format: Literal["normalized", "raw"] = "normalized"
    ordering: Annotated[str, AfterValidator(_ordering)] = "none"
    deadline_s: float | None = Field(None, ge=rules.DEADLINE_S[0], le=rules.DEADLINE_S[1])
    max_in_flight: int | None = Field(None, ge=rules.MAX_IN_FLIGHT[0], le=rules.MAX_IN_FLIGHT[1])
    secrets: tuple[SigningSecret, ...] = Field(min_length=1, max_length=10)
    headers: Annotated[dict[str, SecretStr], AfterValidator(_header)] = Field({}, max_length=rules.MAX_HEADERS)
    enrich_contact: bool = False
