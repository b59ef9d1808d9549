"""From file and environment to `Settings`, or to one line per fault: setting, value, what is allowed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_settings import SettingsError

from worker.domain.errors import ConfigurationError
from worker.settings.crosscheck import ECS_METADATA_VARIABLE, PLATFORM_VARIABLES, cross_faults
from worker.settings.faults import fault_lines, unknown_variables
from worker.settings.model import Settings


class Platform(NamedTuple):
    """Who starts and stops this process, as far as its environment tells.

    `is_there`: somebody does; `ecs_metadata_uri`: where an ECS task asks about itself.
    """

    is_there: bool
    ecs_metadata_uri: str | None


def platform() -> Platform:
    """Reads the environment."""
    return Platform(
        is_there=any(variable in os.environ for variable in PLATFORM_VARIABLES), ecs_metadata_uri=os.environ.get(ECS_METADATA_VARIABLE)
    )


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
