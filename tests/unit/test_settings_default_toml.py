"""`config/default.toml` is in step with the settings, and `config/local.toml` loads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.unit.default_toml import render
from worker.settings import load
from worker.settings.crosscheck import PUBLISHED_KEY

CONFIG = Path(__file__).parents[2] / "config"


def test_the_file_is_what_the_settings_say() -> None:
    assert (CONFIG / "default.toml").read_text(encoding="utf-8") == render(), "run: python -m tests.unit.default_toml > config/default.toml"


def test_the_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_CONFIG", raising=False)
    defaults = load()
    monkeypatch.setenv("WORKER_CONFIG", str(CONFIG / "default.toml"))
    assert load() == defaults


def test_the_declared_examples_are_valid_once_uncommented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (CONFIG / "default.toml").read_text(encoding="utf-8")
    example = "\n".join(line.removeprefix("# ") for line in text.partition("One table each:\n")[2].splitlines() if line != "#")
    example = example.replace("whsec_...", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").replace('["..."]', '["of our own"]')
    path = tmp_path / "worker.toml"
    path.write_text(example)
    monkeypatch.setenv("WORKER_CONFIG", str(path))
    assert [w.id for w in load().webhooks] == ["crm"]


def test_make_worker_runs_the_demo_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CONFIG", str(CONFIG / "local.toml"))
    settings = load()
    assert settings.demo
    assert settings.redis.is_embedded
    assert [str(n) for n in settings.delivery.allowed_private_cidrs] == ["127.0.0.0/8", "::1/128"]
    assert tomllib.loads((CONFIG / "local.toml").read_text(encoding="utf-8")).keys() == {"demo", "http", "delivery"}
    assert settings.http.host == "127.0.0.1"
    assert settings.http.admin_key is not None
    assert settings.http.admin_key.get_secret_value() == PUBLISHED_KEY
