"""From file and environment to `Settings`, or to one line per fault: setting, value, what is allowed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from worker.domain.errors import ConfigurationError
from worker.settings.crosscheck import cross_faults
from worker.settings.faults import fault_lines, unknown_variables
from worker.settings.model import Settings


def load() -> Settings:
    """Reads `WORKER_…` variables and the file named by `WORKER_CONFIG`; raises `ConfigurationError` with every fault, no secret shown."""
    environment = dict(os.environ)
    document = _document(environment.get("WORKER_CONFIG"))
    faults = unknown_variables(environment)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise ConfigurationError(faults + fault_lines(error, document, environment)) from None
    except SettingsError:  # a whole section given as broken JSON: already among the unknown variables
        raise ConfigurationError(faults) from None
    faults += cross_faults(settings, environment)
    if faults:
        raise ConfigurationError(faults)
    return settings


def _document(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"WORKER_CONFIG: {path}: {error.strerror}; allowed: the path of a TOML file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"WORKER_CONFIG: {path}: not TOML: {error}"]) from None
