"""`run --processes N`: the parent of N workers. Loads what it needs to supervise, and nothing of what they do."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from worker.commands.refusals import guarded
from worker.domain.errors import ConfigurationError
from worker.lifecycle import Signals
from worker.processes.supervisor import Plan, supervise
from worker.settings import Settings

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""`<µs> <period in µs>` or `max <period>`: what a container may use, however many cores the machine shows it."""


def usable_cores(cpu_quota: Path = CPU_QUOTA) -> int:
    """Those that this process may run on, or its container's quota where that is less, as far as the system tells; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_quota.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def run_processes(signals: Signals, processes: int, ports_from: int | None) -> int:
    """Runs until a signal has been answered by the drain of all; answers the worst of their exit codes."""
    return guarded(lambda settings: anyio.run(supervise, plan_of(settings, processes, ports_from), signals))


def plan_of(settings: Settings, processes: int, ports_from: int | None) -> Plan:
    """The parent's slice of the settings. Raises `ConfigurationError` where the children's ports would take its own."""
    port = settings.http.port
    if ports_from is not None and ports_from <= port < ports_from + processes:
        raise ConfigurationError([f"--process-ports: {ports_from}: allowed: {processes} ports without http.port ({port}) among them"])
    return Plan(
        processes=processes,
        host=settings.http.host,
        port=port,
        ports_from=ports_from,
        store_url=settings.redis.url,
        data_dir=Path(settings.data_dir) if settings.redis.is_embedded else None,
        shards=settings.registry.shards,
        budget_s=settings.shutdown.seconds,
    )
