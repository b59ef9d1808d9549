"""How the settings fit together: what no single value can know. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from worker.gateways import DEFAULT_SECRETS
from worker.settings.model import Settings
from worker.settings.sections import MIN_KEY_CHARS

ECS_METADATA_VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
PLATFORM_VARIABLES = {
    ECS_METADATA_VARIABLE: "an ECS task",
    "KUBERNETES_SERVICE_HOST": "a Kubernetes pod",
}
"""Where one of these is set, the disk dies with the process."""


PUBLISHED_KEY = "demo-operator-key"
"""Of `config/local.toml`: everybody knows it."""


def cross_faults(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """One line per fault: setting, value, what is allowed."""
    return [
        *_platform(settings, environment),
        *_exposure(settings),
        *_bounds(settings),
        *_duplicates(settings),
        *_instances(settings),
        *_webhooks(settings),
        *_brokers(settings),
    ]


def _platform(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    if not settings.redis.is_embedded or settings.redis.embedded_anyway:
        return
    for variable, place in PLATFORM_VARIABLES.items():
        if variable in environment:
            yield (
                f"redis.url: embedded: not in {place}, whose disk dies with it; "
                "allowed: a redis:// or rediss:// URL, or embedded with WORKER_REDIS__EMBEDDED_ANYWAY=true"
            )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _exposure(settings: Settings) -> Iterator[str]:
    has_key = settings.http.admin_key is not None or any(t.api_keys_sha256 for t in settings.tenants)
    if is_loopback(settings.http.host):
        return
    if not has_key:
        yield f"http.host: {settings.http.host}: allowed: a loopback address, or any with WORKER_HTTP__ADMIN_KEY set"
    if settings.http.admin_key is not None and settings.http.admin_key.get_secret_value() == PUBLISHED_KEY:
        yield "http.admin_key: (not shown): allowed: a key of your own; the demo's is published, and good for loopback only"
    for name, key in (("admin_key", settings.http.admin_key), ("metrics_key", settings.http.metrics_key)):
        if key is not None and len(key.get_secret_value()) < MIN_KEY_CHARS:
            yield f"http.{name}: (not shown): allowed: at least {MIN_KEY_CHARS} characters where it listens to more than this machine"


def _bounds(settings: Settings) -> Iterator[str]:
    shutdown, delivery, buffer = settings.shutdown, settings.delivery, settings.buffer
    if shutdown.seconds > shutdown.stop_timeout_s:
        yield f"shutdown.budget_s: {shutdown.budget_s}: allowed: at most shutdown.stop_timeout_s ({shutdown.stop_timeout_s:g})"
    if delivery.max_in_flight_per_webhook > delivery.max_in_flight:
        yield (
            f"delivery.max_in_flight_per_webhook: {delivery.max_in_flight_per_webhook}: "
            f"allowed: at most delivery.max_in_flight ({delivery.max_in_flight})"
        )
    if buffer.min_lane_events > buffer.max_events:
        yield f"buffer.min_lane_events: {buffer.min_lane_events}: allowed: at most buffer.max_events ({buffer.max_events})"


def _duplicates(settings: Settings) -> Iterator[str]:
    for kind in ("tenants", "brokers", "instances", "webhooks"):
        for name, times in Counter(declared.id for declared in getattr(settings, kind)).items():
            if times > 1:
                yield f"{kind}[{name}].id: declared {times} times: allowed: each id once"
    named = Counter((i.tenant_id, i.gateway, i.name_at_gateway) for i in settings.instances)
    for (tenant, gateway, name), times in named.items():
        if times > 1:
            yield f"instances: {gateway} {name} of tenant {tenant} declared {times} times: allowed: once"


def _instances(settings: Settings) -> Iterator[str]:
    tenants = {t.id for t in settings.tenants}
    brokers = {(b.id, b.gateway) for b in settings.brokers}
    for instance in settings.instances:
        where = f"instances[{instance.id}]"
        if instance.tenant_id not in tenants:
            yield f"{where}.tenant_id: {instance.tenant_id}: allowed: a declared tenant{_names(tenants)}"
        if instance.broker is not None and (instance.broker, instance.gateway) not in brokers:
            own = {broker for broker, gateway in brokers if gateway == instance.gateway}
            yield f"{where}.broker: {instance.broker}: allowed: a declared broker of gateway {instance.gateway}{_names(own)}"
        if any(s.get_secret_value() in DEFAULT_SECRETS[instance.gateway] for s in instance.ingest_secrets):
            yield f"{where}.ingest_secrets: (not shown): allowed: secrets of your own; one of these is a published default"


def _webhooks(settings: Settings) -> Iterator[str]:
    tenants = {t.id for t in settings.tenants}
    owner = {i.id: i.tenant_id for i in settings.instances}
    for webhook in settings.webhooks:
        where = f"webhooks[{webhook.id}]"
        if webhook.tenant_id not in tenants:
            yield f"{where}.tenant_id: {webhook.tenant_id}: allowed: a declared tenant{_names(tenants)}"
        for instance_id in webhook.instance_ids:
            if owner.get(instance_id) != webhook.tenant_id:
                mine = {i for i, tenant in owner.items() if tenant == webhook.tenant_id}
                yield f"{where}.instance_ids: {instance_id}: allowed: an instance of tenant {webhook.tenant_id}{_names(mine)}"
        most = settings.delivery.max_in_flight
        if webhook.max_in_flight is not None and webhook.max_in_flight > most:
            yield f"{where}.max_in_flight: {webhook.max_in_flight}: allowed: at most delivery.max_in_flight ({most})"


def _brokers(settings: Settings) -> Iterator[str]:
    tenants = {t.id for t in settings.tenants}
    for broker in settings.brokers:
        for tenant_id in broker.tenant_ids:
            if tenant_id not in tenants:
                yield f"brokers[{broker.id}].tenant_ids: {tenant_id}: allowed: a declared tenant{_names(tenants)}"


def _names(known: set[str]) -> str:
    """` (a, b, …)`: at most five, so that a fault stays one readable line."""
    some = sorted(known)
    return f" ({', '.join(some[:5])}{', …' if len(some) > 5 else ''})" if some else " (none is declared)"  # noqa: PLR2004 - said above
