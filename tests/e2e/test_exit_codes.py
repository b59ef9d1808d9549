"""What the process says at its end when it cannot begin (contract 1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.real_redis import real_redis

pytestmark = [pytest.mark.timeout(60)]


def run(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "WORKER_DATA_DIR": str(tmp_path), "WORKER_HTTP__PORT": "0", **settings}
    return subprocess.run([sys.executable, "-m", "worker", "run"], env=env, capture_output=True, text=True, timeout=50, check=False)


def test_a_store_that_stays_unreachable_ends_in_69_with_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    ended = run(tmp_path, WORKER_REDIS__URL="redis://127.0.0.1:1/0", WORKER_STARTUP__WAIT_S="1")
    assert ended.returncode == 69
    assert "correct redis.url (WORKER_REDIS__URL)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_evicting_store_ends_in_78_naming_what_is_allowed(tmp_path: Path) -> None:
    with real_redis(**{"maxmemory-policy": "allkeys-lru"}) as server:
        ended = run(tmp_path, WORKER_REDIS__URL=server.url)
    assert ended.returncode == 78
    assert "noeviction" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_number_of_shards_ends_in_78_naming_the_one_that_was_fixed(tmp_path: Path) -> None:
    with real_redis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.hset("{wa}:config", "shards", "8")
        ended = run(tmp_path, WORKER_REDIS__URL=server.url)
    assert ended.returncode == 78
    assert "allowed: 8" in ended.stderr
    assert "Traceback" not in ended.stderr
