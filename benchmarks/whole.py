"""The whole worker as a process of its own, over a catalog and a Redis; what the system tells of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real_redis import RealRedis
from worker.domain.catalog import Catalog


@contextmanager
def worker(
    redis: RealRedis, catalog: Catalog, *words: str, brokers: Sequence[Mapping[str, Any]] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`worker run` with these words, ready, and its port; SIGKILL at the end: no drain is waited for."""
    config, port = redis.directory / "bench.toml", free_port()
    config.write_text("\n\n".join([*(_table("brokers", broker) for broker in brokers), _toml(catalog)]))
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
    with log, subprocess.Popen([sys.executable, "-m", "worker", "run", *words], env=environment, stdout=log, stderr=log) as process:
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
        broker = {} if instance.broker is None else {"broker": instance.broker}
        lines.append(_table("instances", {**fields, "gateway_instance": instance.gateway_instance, **broker}))
    for webhook in catalog.webhooks.values():
        fields = {"id": webhook.id, "tenant_id": webhook.tenant_id, "url": webhook.url}
        lines.append(_table("webhooks", {**fields, "instance_ids": sorted(webhook.instance_ids), "secrets": list(webhook.secrets)}))
    return "\n\n".join(lines)


def _table(name: str, values: Mapping[str, Any]) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])


def status(port: int, page: str = "/status") -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def proc(pid: int, field: str) -> int:
    """KiB, as Linux tells them; 0 elsewhere."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


def cpu_s(pid: int) -> float:
    """User and system time of the whole process; 0 where there is no /proc."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children; none where there is no /proc."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in found for child in task.read_text().split()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
