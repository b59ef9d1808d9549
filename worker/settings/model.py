"""The settings as a whole, and the catalog that they declare. Pure once loaded (`load.py` reads file and environment)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from worker.domain.catalog import Catalog, Instance, Tenant, Webhook
from worker.domain.ids import InstanceId, TenantId, WebhookId
from worker.settings.declared import BrokerDeclared, InstanceDeclared, TenantDeclared, WebhookDeclared
from worker.settings.sections import (
    ApiSettings,
    BufferSettings,
    DeadLetterSettings,
    DeliverySettings,
    HttpSettings,
    JournalSettings,
    Json,
    OrchestratorSettings,
    RedisSettings,
    RegistrySettings,
    ShutdownSettings,
    StartupSettings,
)


class Settings(BaseSettings):
    """Everything that can be set. `repr` shows no secret."""

    model_config = SettingsConfigDict(
        env_prefix="WORKER_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    data_dir: str = Field(".worker", min_length=1, description="directory of the embedded server's data")
    demo: bool = Field(False, description="register a demo tenant and push demo events at 5/s through the real ingest path")  # noqa: FBT003
    redis: RedisSettings = RedisSettings()
    http: HttpSettings = HttpSettings()
    journal: JournalSettings = JournalSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    buffer: BufferSettings = BufferSettings()
    registry: RegistrySettings = RegistrySettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    delivery: DeliverySettings = DeliverySettings()
    api: ApiSettings = ApiSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    startup: StartupSettings = StartupSettings()
    tenants: Annotated[tuple[TenantDeclared, ...], NoDecode, Json] = Field((), max_length=100_000)
    brokers: Annotated[tuple[BrokerDeclared, ...], NoDecode, Json] = Field((), max_length=10_000)
    instances: Annotated[tuple[InstanceDeclared, ...], NoDecode, Json] = Field((), max_length=100_000)
    webhooks: Annotated[tuple[WebhookDeclared, ...], NoDecode, Json] = Field((), max_length=100_000)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names the parameters
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the TOML document (handed to the constructor), then defaults; no `.env`, no secrets folder."""
        return env_settings, init_settings

    def catalog(self) -> Catalog:
        """Tenants, instances and webhooks as the worker knows them; webhooks with what `[delivery]` says where they are silent."""
        return Catalog(
            [Tenant(id=TenantId(t.id), api_keys_sha256=t.api_keys_sha256) for t in self.tenants],
            [_instance(i) for i in self.instances],
            [_webhook(w, self.delivery) for w in self.webhooks],
        )


def _instance(declared: InstanceDeclared) -> Instance:
    return Instance(
        id=InstanceId(declared.id),
        tenant_id=TenantId(declared.tenant_id),
        gateway=declared.gateway,
        gateway_instance=declared.name_at_gateway,
        broker=declared.broker,
        ingest_secrets=tuple(s.get_secret_value() for s in declared.ingest_secrets),
        ingest_verify_token=_plain(declared.ingest_verify_token),
    )


def _webhook(declared: WebhookDeclared, defaults: DeliverySettings) -> Webhook:
    return Webhook(
        id=WebhookId(declared.id),
        tenant_id=TenantId(declared.tenant_id),
        url=declared.url,
        instance_ids=frozenset(InstanceId(i) for i in declared.instance_ids),
        events=declared.events,
        format=declared.format,
        ordering=declared.ordering,
        deadline_s=defaults.deadline_s if declared.deadline_s is None else declared.deadline_s,
        max_in_flight=defaults.max_in_flight_per_webhook if declared.max_in_flight is None else declared.max_in_flight,
        secrets=tuple(s.get_secret_value() for s in declared.secrets),
        headers={name: value.get_secret_value() for name, value in declared.headers.items()},
        enrich_contact=declared.enrich_contact,
    )


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
