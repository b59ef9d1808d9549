"""What the README tells a newcomer to type: refused where a gap was left open, valid once it is filled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.domain.errors import ConfigurationError
from worker.settings import Settings, load

README = Path(__file__).parents[2] / "README.md"
GAP = "…"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The README's TOML, all of its blocks, as a file named by WORKER_CONFIG."""
    blocks = re.findall(r"^```toml\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    path = tmp_path / "my.toml"
    path.write_text("\n".join(blocks), encoding="utf-8")
    monkeypatch.setenv("WORKER_CONFIG", str(path))
    return path


def filled(example: Path) -> Settings:
    text = example.read_text(encoding="utf-8").replace(f"whsec_{GAP}", SECRET).replace(f'"{GAP}"', '"sixteen or more of them"')
    example.write_text(text, encoding="utf-8")
    return load()


def test_the_example_as_it_stands_is_refused_once_for_each_gap(example: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load()
    assert [fault.partition(":")[0] for fault in refused.value.faults] == [
        "http.admin_key",
        "instances[acme-sales].ingest_secrets[0]",
        "webhooks[crm].secrets[0]",
    ]


def test_the_example_with_its_gaps_filled_is_valid(example: Path) -> None:
    catalog = filled(example).catalog()
    assert [(name, instance.gateway) for name, instance in catalog.instances.items()] == [("acme-sales", "waha"), ("acme-api", "generic")]
    assert list(catalog.webhooks) == ["crm"]


def test_every_ingest_path_in_the_readme_names_an_instance_of_its_gateway(example: Path) -> None:
    paths = re.findall(r"/ingest/([a-z-]+)/([a-z-]+)", README.read_text(encoding="utf-8"))
    assert ("generic", "acme-api") in paths
    instances = {str(name): instance.gateway for name, instance in filled(example).catalog().instances.items()}
    assert all(instances[name] == gateway for gateway, name in paths)
