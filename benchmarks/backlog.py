"""A large backlog waits at the start: the real process (`worker run`) delivers it, all endpoints healthy, then one of ten hung.

What is asked: how many deliveries were parked (none where all are healthy; where one hangs at most its own), how much memory the worker
took, and how fast it went.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.load import catalog_of, prefill_at
from benchmarks.measuring import Figure, figure
from benchmarks.sink import sink
from tests.real_redis import RealRedis, real_redis
from worker.domain.catalog import Catalog

WEBHOOKS = 10
STALLED_S = 30.0
LOOK_EVERY_S = 0.25
MIB = 1 << 20


def measure(*, events: int) -> tuple[str, list[Figure]]:
    figures = []
    with sink() as endpoint:
        for hung, name in ((0, "all healthy"), (1, "one of ten hung")):
            with real_redis(appendonly="no") as redis:
                catalog = catalog_of([endpoint.hang_url] * hung + [endpoint.fast_url] * (WEBHOOKS - hung))
                uvloop.run(prefill_at(redis.url, catalog, events))
                told = _deliver(redis, catalog, events - hung * (events // WEBHOOKS))
            parked = f"goal ≤ {hung * -(-events // WEBHOOKS):,}: its own" if hung else "goal 0"
            figures += [
                _one(f"{name}: parked", "deliveries", told["parked"], parked),
                _one(f"{name}: worker RSS at its highest", "MiB", told["rss_bytes"] / MIB, "goal ≤ 200"),
                _one(f"{name}: Redis memory before", "MiB", told["redis_bytes"] / MIB),
                _one(f"{name}: delivered", "events/s", told["per_s"]),
                _one(f"{name}: worker CPU", "µs/event", told["cpu_us"]),
            ]
    return f"A backlog of {events:,} events in the journal at the start, {WEBHOOKS} webhooks, the whole process", figures


def _one(name: str, unit: str, value: float, goal: str = "") -> Figure:
    return figure(name, unit, [value], goal)


def _deliver(redis: RealRedis, catalog: Catalog, expected: int) -> dict[str, float]:
    redis_bytes = _redis_bytes(redis)
    with _worker(redis, catalog) as (process, port):
        began_s, moved_s, delivered, status = time.monotonic(), time.monotonic(), 0, {}
        while delivered < expected:
            time.sleep(LOOK_EVERY_S)
            status = _status(port)
            now_s = time.monotonic()
            if status["settling"]["delivered"] > delivered:
                delivered, moved_s = status["settling"]["delivered"], now_s
            if process.poll() is not None or now_s - moved_s > STALLED_S:
                raise RuntimeError(f"the worker stopped at {delivered} of {expected} deliveries (exit code {process.poll()})")
        took_s = time.monotonic() - began_s
        return {
            "parked": status["settling"]["parked"],
            "rss_bytes": _proc(process.pid, "VmHWM") * 1024,
            "redis_bytes": redis_bytes,
            "per_s": delivered / took_s,
            "cpu_us": _cpu_s(process.pid) / delivered * 1e6,
        }


@contextmanager
def _worker(redis: RealRedis, catalog: Catalog) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The real process, ready; SIGTERM at the end, and the drain it does is not waited for."""
    config, port = redis.directory / "bench.toml", _free_port()
    config.write_text(_toml(catalog))
    settings = {
        "CONFIG": str(config),
        "REDIS__URL": redis.url,
        "HTTP__PORT": str(port),
        "JOURNAL__MAX_BACKLOG_EVENTS": "2000000",
        "JOURNAL__MAX_BACKLOG_BYTES": str(4 << 30),
        "JOURNAL__MAX_BACKLOG_SHARE_PER_TENANT": "1.0",
        "DELIVERY__ALLOWED_PRIVATE_CIDRS": '["127.0.0.0/8"]',
    }
    environment = {**os.environ, **{f"WORKER_{name}": value for name, value in settings.items()}}
    log = (redis.directory / "worker.log").open("wb")
    with log, subprocess.Popen([sys.executable, "-m", "worker", "run"], env=environment, stdout=log, stderr=log) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None:
                    raise RuntimeError(f"the worker did not start: {Path(log.name).read_text()[-1000:]}")
                time.sleep(0.02)
            yield process, port
        finally:
            process.send_signal(signal.SIGKILL)


def _toml(catalog: Catalog) -> str:
    lines = [f"[[tenants]]\nid = {json.dumps(tenant)}" for tenant in catalog.tenants]
    for instance in catalog.instances.values():
        fields = {"id": instance.id, "tenant_id": instance.tenant_id, "gateway": instance.gateway}
        lines.append(_table("instances", {**fields, "gateway_instance": instance.gateway_instance}))
    for webhook in catalog.webhooks.values():
        fields = {"id": webhook.id, "tenant_id": webhook.tenant_id, "url": webhook.url}
        lines.append(_table("webhooks", {**fields, "instance_ids": sorted(webhook.instance_ids), "secrets": list(webhook.secrets)}))
    return "\n\n".join(lines)


def _table(name: str, values: dict[str, Any]) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])


def _status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _redis_bytes(redis: RealRedis) -> int:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(redis.socket))
        asking.sendall(b"INFO memory\r\n")
        text = asking.recv(1 << 16).decode()
    return next(int(line.partition(":")[2]) for line in text.splitlines() if line.startswith("used_memory:"))


def _proc(pid: int, field: str) -> int:
    """KiB, as Linux tells them; 0 elsewhere."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


def _cpu_s(pid: int) -> float:
    """User and system time of the whole process; 0 where there is no /proc."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
