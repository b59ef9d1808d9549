"""Settings: where a value comes from, and what a fault says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.domain.errors import ConfigurationError
from worker.domain.ids import InstanceId
from worker.settings import Platform, Settings, load, platform
from worker.settings.crosscheck import PUBLISHED_KEY

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

DECLARED = f"""
[[tenants]]
id = "acme"

[[instances]]
id = "acme-sales"
tenant_id = "acme"
gateway = "waha"
gateway_instance = "default"
ingest_secrets = ["hook-secret-of-our-own"]

[[webhooks]]
id = "crm"
tenant_id = "acme"
instance_ids = ["acme-sales"]
url = "https://crm.example.com/hooks"
events = ["message", "receipt/*"]
secrets = ["{SECRET}"]
headers = {{ authorization = "Bearer of-bad-news" }}
"""

Toml = Callable[[str], None]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:  # noqa: TID251 - it is what is tested
        if name.startswith(("WORKER_", "ECS_", "KUBERNETES_")):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toml:
    def write(text: str) -> None:
        path = tmp_path / "worker.toml"
        path.write_text(text)
        monkeypatch.setenv("WORKER_CONFIG", str(path))

    return write


def faults() -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load()
    return raised.value.faults


def only_fault() -> str:
    (fault,) = faults()
    return fault


def test_the_defaults_need_nothing() -> None:
    settings = load()
    assert settings.redis.is_embedded
    assert settings.http.port == 8080
    assert settings.shutdown.seconds == 110


def test_the_environment_comes_before_the_file_and_the_file_before_the_default(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    toml("[delivery]\ndeadline_s = 7\nmax_in_flight = 500\n")
    monkeypatch.setenv("WORKER_DELIVERY__DEADLINE_S", "5")
    delivery = load().delivery
    assert (delivery.deadline_s, delivery.max_in_flight, delivery.max_in_flight_per_webhook) == (5, 500, 8)


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_DELIVERY__RETRY_SCHEDULE_S", "[1, 0.5]")
    monkeypatch.setenv("WORKER_DELIVERY__ALLOWED_PRIVATE_CIDRS", '["127.0.0.0/8", "::1/128"]')
    delivery = load().delivery
    assert delivery.retry_schedule_s == (1, 0.5)
    assert [str(network) for network in delivery.allowed_private_cidrs] == ["127.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("WORKER_DELIVERY__DEADLINE_S", "31", "WORKER_DELIVERY__DEADLINE_S: 31: allowed: 1 to 30"),
        ("WORKER_DELIVERY__DEADLINE_S", "nan", "WORKER_DELIVERY__DEADLINE_S: nan: allowed: 1 to 30"),
        ("WORKER_HTTP__PORT", "http", "WORKER_HTTP__PORT: http: allowed: 0 to 65535"),
        ("WORKER_JOURNAL__BACKEND", "kafka", "WORKER_JOURNAL__BACKEND: kafka: allowed: redis (kafka comes with a later release)"),
        ("WORKER_DELIVERY__RETRY_SCHEDULE_S", "5,30", 'WORKER_DELIVERY__RETRY_SCHEDULE_S: 5,30: allowed: JSON, for example ["a", "b"]'),
        ("WORKER_DELIVERY__ALLOWED_PORTS", "[0]", "WORKER_DELIVERY__ALLOWED_PORTS: 0: allowed: 1 to 65535"),
        ("WORKER_REDIS__URL", "http://u:pw@h", "WORKER_REDIS__URL: http://h: allowed: embedded, or a URL that begins with redis://"),
        ("WORKER_HTTP__ADMIN_KEY", " ", 'WORKER_HTTP__ADMIN_KEY: (not shown): allowed: a key of your own, not "…"'),
        ("WORKER_API__RATE_LIMITS", '{"read": "5"}', 'WORKER_API__RATE_LIMITS: 5: allowed: calls/seconds such as "5/60", or "off"'),
    ],
)
def test_a_fault_names_the_setting_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, fault: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert only_fault().startswith(fault)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("WORKER_DELIVERY__DEADLIN_S", "did you mean WORKER_DELIVERY__DEADLINE_S?"),
        ("WORKER_DELIVERY_DEADLINE_S", "did you mean WORKER_DELIVERY__DEADLINE_S?"),
        ("WORKER_ELEPHANT", "allowed: the settings in config/default.toml"),
        ("WORKER_PORT_80_TCP", "enableServiceLinks"),
        ("WORKER_HTTP", "unknown setting"),
    ],
)
def test_an_unknown_variable_is_a_fault_that_helps(monkeypatch: pytest.MonkeyPatch, variable: str, hint: str) -> None:
    monkeypatch.setenv(variable, "{broken")
    fault = only_fault()
    assert fault.startswith(f"{variable}: unknown setting: ")
    assert hint in fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('demo = "maybe"', "demo: maybe: allowed: true, false"),
        ("[http]\nhost = 3", "http.host: 3: allowed: text in quotes"),
        ('[journal]\ndurability = "x"', "journal.durability: x: allowed: auto, local, replicated"),
        ("[delivery]\nretry_schedule_s = []", "delivery.retry_schedule_s: 0 entries: allowed: 1 or more, each 0.1 to 86400"),
        ("[delivery]\nallowed_private_cidrs = 3", "delivery.allowed_private_cidrs: 3: allowed: a list"),
        ('[[tenants]]\nid = "t"\napi_keys_sha256 = ["x"]', "tenants[t].api_keys_sha256[0]: (not shown): allowed: 64 hex digits: a SHA-256"),
    ],
)
def test_what_is_allowed_is_told_in_the_words_of_the_file(toml: Toml, text: str, fault: str) -> None:
    toml(text)
    assert only_fault() == fault


def test_a_list_that_is_short_only_for_its_wrong_entries_is_one_fault(toml: Toml) -> None:
    toml(DECLARED.replace(SECRET, "whsec_…"))
    assert only_fault() == "webhooks[crm].secrets[0]: (not shown): allowed: whsec_ and the base64 of 24 to 64 random bytes"


def test_a_secret_left_as_it_stands_in_the_readme_is_a_fault(toml: Toml) -> None:
    toml(DECLARED.replace("hook-secret-of-our-own", "…"))
    assert only_fault() == 'instances[acme-sales].ingest_secrets[0]: (not shown): allowed: a secret of your own, not "…"'


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:pw@crm.example.com:99999/x?key=pw", "https://crm.example.com:99999"),
        ("https://crm.example.com:0/pw", "https://crm.example.com:0"),
        ("https://u:pw/w@crm.example.com:99999/x", "(not shown)"),
        ("crm.example.com/pw", "(not shown)"),
        ("https://[pw", "(not shown)"),
    ],
)
def test_of_a_bad_url_scheme_host_and_port_are_shown_and_nothing_that_may_be_secret(toml: Toml, url: str, shown: str) -> None:
    toml(DECLARED.replace("https://crm.example.com/hooks", url))
    assert only_fault() == f"webhooks[crm].url: {shown}: allowed: an http:// or https:// URL with a host, port 1 to 65535"


def test_an_unknown_key_that_is_near_a_known_one_is_asked_about(toml: Toml) -> None:
    toml("[http]\nprot = 1\n[registry]\nelephants = 1\n")
    assert faults() == [
        "http.prot: unknown setting: did you mean port?",
        "registry.elephants: unknown setting: allowed: shards, lease_ttl_s, revision",
    ]


def test_an_unknown_key_of_the_file_is_a_fault(toml: Toml) -> None:
    toml('colour = "blue"\n[delivery]\ndedline_s = 5\n[elephants]\nmany = true\n')
    assert [f.split(":")[:2] for f in faults()] == [
        ["delivery.dedline_s", " unknown setting"],
        ["colour", " unknown setting"],
        ["elephants", " unknown setting"],
    ]


def test_every_fault_is_told_at_once(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    toml("[buffer]\nmax_events = 1\n[registry]\nshards = 0\n")
    monkeypatch.setenv("WORKER_NOTHING", "1")
    assert len(faults()) == 3


def test_a_file_that_is_missing_or_no_toml_is_a_fault(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    toml("this is = = not toml")
    assert "not TOML" in only_fault()
    monkeypatch.setenv("WORKER_CONFIG", "/nowhere/worker.toml")
    assert only_fault() == "WORKER_CONFIG: /nowhere/worker.toml: No such file or directory; allowed: the path of a TOML file"


def test_who_starts_and_stops_us_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    assert platform() == Platform(is_there=False, ecs_metadata_uri=None)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert platform() == Platform(is_there=True, ecs_metadata_uri=None)
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x")
    assert platform() == Platform(is_there=True, ecs_metadata_uri="http://169.254.170.2/v4/x")


@pytest.mark.parametrize("variable", ["ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST"])
def test_the_embedded_store_is_refused_where_the_disk_dies_with_the_task(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://169.254.170.2/v4/x")
    assert "WORKER_REDIS__EMBEDDED_ANYWAY=true" in only_fault()
    monkeypatch.setenv("WORKER_REDIS__EMBEDDED_ANYWAY", "true")
    assert load().redis.is_embedded


def test_a_public_address_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_HTTP__HOST", "0.0.0.0")  # noqa: S104 - the point
    assert only_fault().startswith("http.host: 0.0.0.0: allowed: a loopback address")
    monkeypatch.setenv("WORKER_HTTP__ADMIN_KEY", "sixteen characters")
    assert load().http.host == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("name", ["admin_key", "metrics_key"])
def test_a_short_key_is_good_for_loopback_only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WORKER_HTTP__ADMIN_KEY", "sixteen characters")
    monkeypatch.setenv(f"WORKER_HTTP__{name.upper()}", "short")
    assert load().http.host == "127.0.0.1"
    monkeypatch.setenv("WORKER_HTTP__HOST", "0.0.0.0")  # noqa: S104 - the point
    assert only_fault().startswith(f"http.{name}: (not shown): allowed: at least 16 characters")


def test_the_key_of_the_demo_is_good_for_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in `config/local.toml` for everybody to read."""
    monkeypatch.setenv("WORKER_HTTP__ADMIN_KEY", PUBLISHED_KEY)
    for host in ("127.0.0.1", "localhost", "::1"):
        monkeypatch.setenv("WORKER_HTTP__HOST", host)
        assert load().http.host == host
    monkeypatch.setenv("WORKER_HTTP__HOST", "0.0.0.0")  # noqa: S104 - the point
    assert only_fault().startswith("http.admin_key: (not shown): allowed: a key of your own")


def test_a_budget_beyond_the_platforms_patience_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_SHUTDOWN__STOP_TIMEOUT_S", "30")
    assert load().shutdown.seconds == 20
    monkeypatch.setenv("WORKER_SHUTDOWN__BUDGET_S", "31")
    assert only_fault() == "shutdown.budget_s: 31.0: allowed: at most shutdown.stop_timeout_s (30)"


def test_what_is_declared_becomes_the_catalog(toml: Toml) -> None:
    toml(DECLARED + "\n[delivery]\ndeadline_s = 4\nmax_in_flight_per_webhook = 3\n")
    catalog = load().catalog()
    (webhook,) = catalog.webhooks_of(InstanceId("acme-sales"))
    assert (webhook.deadline_s, webhook.max_in_flight, webhook.secrets) == (4, 3, (SECRET,))
    assert webhook.headers == {"authorization": "Bearer of-bad-news"}
    assert catalog.instances[InstanceId("acme-sales")].ingest_secrets == ("hook-secret-of-our-own",)


def test_an_instance_without_a_gateway_name_goes_by_its_id(toml: Toml) -> None:
    toml(DECLARED.replace('gateway_instance = "default"\n', ""))
    assert load().catalog().instances[InstanceId("acme-sales")].gateway_instance == "acme-sales"


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ('gateway = "waha"', 'gateway = "telegram"', "instances[acme-sales].gateway: telegram: allowed: baileys, cloud-api, "),
        ('secrets = ["whsec', 'ordering = "total"\nsecrets = ["whsec', "webhooks[crm].ordering: total: allowed: none, chat"),
        ('secrets = ["whsec', 'format = "xml"\nsecrets = ["whsec', "webhooks[crm].format: xml: allowed: normalized, raw"),
        ('secrets = ["whsec', 'deadline_s = 31\nsecrets = ["whsec', "webhooks[crm].deadline_s: 31: allowed: 1 to 30"),
        ('secrets = ["whsec', 'enrich_contact = "maybe"\nsecrets = ["whsec', "webhooks[crm].enrich_contact: maybe: allowed: true, false"),
        (SECRET, "whsec_tooshort", "webhooks[crm].secrets[0]: (not shown): allowed: whsec_ and the base64"),
        (f'secrets = ["{SECRET}"]', "", "webhooks[crm].secrets: missing: allowed: whsec_ and the base64 of 24 to 64 random bytes"),
        (f'secrets = ["{SECRET}"]', "secrets = []", "webhooks[crm].secrets: (not shown): allowed: 1 or more, each whsec_ and the base64"),
        ('"receipt/*"', '"recipe/*"', "webhooks[crm].events[1]: recipe/*: allowed: *, type or type/subtype"),
        ("https://crm", "ftp://crm", "webhooks[crm].url: ftp://crm.example.com: allowed: an http:// or https:// URL with a host"),
        ("https://crm.example.com/", "https:///", "webhooks[crm].url: (not shown): allowed: an http:// or https:// URL with a host"),
        (
            "authorization =",
            "Webhook-Id =",
            "webhooks[crm].headers: (not shown): allowed: headers of your own; webhook-id is set by the worker",
        ),
        ("Bearer of-bad-news", "a\\r\\nb: c", "webhooks[crm].headers: (not shown): allowed: header names"),
        ('id = "acme"', 'id = "acme corp"', "tenants[acme corp].id: acme corp: allowed: 1 to 64 letters, digits, . _ -, letter or digit"),
        (
            '"hook-secret-of-our-own"',
            '"your-secret-key"',
            "instances[acme-sales].ingest_secrets: (not shown): allowed: secrets of your own",
        ),
        (
            'instance_ids = ["acme-sales"]',
            'instance_ids = ["x"]',
            "webhooks[crm].instance_ids: x: allowed: an instance of tenant acme (acme-sales)",
        ),
        (
            '[[webhooks]]\nid = "crm"\ntenant_id = "acme"',
            '[[webhooks]]\nid = "crm"\ntenant_id = "b"',
            "webhooks[crm].tenant_id: b: allowed: a",
        ),
        (
            'gateway_instance = "default"',
            'broker = "main"',
            "instances[acme-sales].broker: main: allowed: a declared broker of gateway waha (none is declared)",
        ),
        ("[[tenants]]", '[[tenants]]\nid = "acme"\n[[tenants]]', "tenants[acme].id: declared 2 times: allowed: each id once"),
    ],
)
def test_a_fault_in_what_is_declared_names_the_object(toml: Toml, was: str, becomes: str, fault: str) -> None:
    assert was in DECLARED
    toml(DECLARED.replace(was, becomes, 1))
    assert faults()[0].startswith(fault)


def test_an_instance_has_a_broker_of_its_own_gateway(toml: Toml) -> None:
    """Else its events would be read from a stream that speaks of other instances."""
    brokers = "".join(f'[[brokers]]\nid = "{id_}"\ngateway = "{gateway}"\nurl = "http://x"\n' for id_, gateway in BROKERS)
    declared = brokers + DECLARED.replace('gateway_instance = "default"', 'broker = "main"', 1)
    toml(declared)
    assert faults() == ["instances[acme-sales].broker: main: allowed: a declared broker of gateway waha (other)"]
    toml(declared.replace('broker = "main"', 'broker = "other"'))
    assert load().brokers[1].sockets, "a stream is read where nothing is said"
    toml(declared.replace('broker = "main"', 'broker = "other"').replace('gateway = "waha"\nurl', 'gateway = "waha"\nsockets = false\nurl'))
    assert not load().brokers[1].sockets


BROKERS = (("main", "baileys"), ("other", "waha"))


def test_a_broker_declared_twice_is_that_one_fault(toml: Toml) -> None:
    brokers = "".join(f'[[brokers]]\nid = "main"\ngateway = "{gateway}"\nurl = "http://x"\n' for gateway in ("waha", "baileys"))
    toml(brokers + DECLARED.replace('gateway_instance = "default"', 'broker = "main"', 1))
    assert only_fault() == "brokers[main].id: declared 2 times: allowed: each id once"


def test_two_instances_with_one_name_at_the_gateway_are_a_fault(toml: Toml) -> None:
    toml(DECLARED + '\n[[instances]]\nid = "b"\ntenant_id = "acme"\ngateway = "waha"\ngateway_instance = "default"\n')
    assert only_fault().startswith("instances: waha default of tenant acme declared 2 times")


def test_a_webhook_never_gets_another_tenants_instance(toml: Toml) -> None:
    toml(DECLARED + '\n[[tenants]]\nid = "b"\n[[instances]]\nid = "bi"\ntenant_id = "b"\ngateway = "generic"\n')
    assert load().catalog().webhooks_of(InstanceId("bi")) == ()
    toml(
        DECLARED.replace('instance_ids = ["acme-sales"]', 'instance_ids = ["bi"]')
        + '\n[[tenants]]\nid = "b"\n[[instances]]\nid = "bi"\ntenant_id = "b"\ngateway = "generic"\n'
    )
    assert "bi: allowed: an instance of tenant acme" in only_fault()


def test_nothing_secret_is_in_the_repr(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(DECLARED)
    monkeypatch.setenv("WORKER_HTTP__ADMIN_KEY", "admin-key-of-our-own")
    monkeypatch.setenv("WORKER_REDIS__URL", "redis://user:redis-password@cache:6379/0")
    shown = repr(load())
    for secret in (SECRET, "hook-secret-of-our-own", "of-bad-news", "crm.example.com", "admin-key-of-our-own", "redis-password"):
        assert secret not in shown


def test_a_setting_cannot_be_changed_later() -> None:
    settings: Settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.delivery.deadline_s = 5  # type: ignore[misc]
