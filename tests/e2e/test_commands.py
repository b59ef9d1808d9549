"""The commands as an operator meets them: whole processes, exit codes, lines on stdout and stderr."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
import redis

from tests.real_redis import real_redis
from worker.adapters.redis_binary import find_redis_binary
from worker.gateways import GATEWAYS, port

SECRET = "a secret of our own"
INSTANCES = "".join(
    f'[[instances]]\nid = "i-{gateway}"\ntenant_id = "t"\ngateway = "{gateway}"\n'
    f'gateway_instance = "sales"\ningest_secrets = ["{SECRET}"]\n'
    for gateway in GATEWAYS
)
CONFIG = f'[[tenants]]\nid = "t"\n{INSTANCES}'

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "worker.toml"
    path.write_text(CONFIG)
    return path


def worker(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *words], env={**kept, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_wrong_setting_ends_every_command_with_78_and_a_line() -> None:
    for command in ("run", "check", "simulate"):
        ended = worker(command, WORKER_DELIVERY__DEADLINE_S="31", WORKER_ELEPHANT="1")
        assert ended.returncode == 78
        assert ended.stderr.splitlines() == [
            "WORKER_ELEPHANT: unknown setting: allowed: the settings in config/default.toml",
            "WORKER_DELIVERY__DEADLINE_S: 31: allowed: 1 to 30",
        ]


def test_an_unknown_command_is_2() -> None:
    assert worker("fly").returncode == 2


def test_check_tells_what_the_embedded_store_is_and_changes_nothing(tmp_path: Path, config: Path) -> None:
    data = tmp_path / "data"
    ended = worker("check", WORKER_CONFIG=str(config), WORKER_DATA_DIR=str(data), WORKER_SHUTDOWN__STOP_TIMEOUT_S="30")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"store: embedded: {find_redis_binary().path}" in ended.stdout
    assert "durability: appendfsync always" in ended.stdout
    assert "shutdown: 20 s from the first signal; the platform kills at 30 s" in ended.stdout
    assert "open files: " in ended.stdout
    assert "up to 525 MiB of Redis memory" in ended.stdout
    assert f"declared: 1 tenants, {len(GATEWAYS)} instances, 0 webhooks" in ended.stdout
    assert not data.exists()


def test_check_fails_at_once_with_69_where_nobody_answers() -> None:
    with socket.socket() as unheard:  # bound, but not listening: refused, and nobody else's
        unheard.bind(("127.0.0.1", 0))
        ended = worker("check", WORKER_REDIS__URL=f"redis://:password-of-ours@127.0.0.1:{unheard.getsockname()[1]}/0")
    assert ended.returncode == 69
    assert "127.0.0.1" in ended.stderr
    assert ended.stderr.endswith("nothing was sent; start it, or correct redis.url (WORKER_REDIS__URL)\n")
    assert "password-of-ours" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"appendonly": "no"}, "no append-only file: loses everything accepted since the last snapshot"),
        ({"appendfsync": "everysec"}, "appendfsync everysec: may lose up to 2 s of accepted events when Redis or its host is killed"),
        ({"appendfsync": "always"}, "appendfsync always: an event that got its 2xx survives"),
    ],
)
def test_check_tells_how_durable_a_server_is(server: dict[str, str], told: str) -> None:
    with real_redis(**server) as running:
        ended = worker("check", WORKER_REDIS__URL=running.url)
    assert ended.returncode == 0
    assert f"durability: {told}" in ended.stdout
    assert "a 2xx waits for this server alone" in ended.stdout


def test_check_refuses_a_server_that_evicts() -> None:
    with real_redis(**{"maxmemory-policy": "allkeys-lru"}) as running:
        ended = worker("check", WORKER_REDIS__URL=running.url)
    assert ended.returncode == 78
    assert "redis maxmemory-policy: allkeys-lru: allowed: noeviction" in ended.stderr


def test_check_refuses_another_number_of_shards_than_the_store_was_fixed_at() -> None:
    with real_redis() as server, redis.Redis.from_url(server.url) as client:
        assert worker("check", WORKER_REDIS__URL=server.url, WORKER_REGISTRY__SHARDS="32").returncode == 0
        assert client.dbsize() == 0, "it changes nothing"
        client.hset("{wa}:config", "shards", "16")
        ended = worker("check", WORKER_REDIS__URL=server.url, WORKER_REGISTRY__SHARDS="32")
        assert worker("check", WORKER_REDIS__URL=server.url).returncode == 0
    assert (ended.returncode, ended.stdout) == (78, "")
    fault = "registry.shards (WORKER_REGISTRY__SHARDS): 32: allowed: 16, fixed at the first start of this deployment"
    assert ended.stderr == f"{fault}\n"


def test_check_says_what_it_does_not_look_at() -> None:
    told = " ".join(worker("check", "--help").stdout.split())
    assert all(word in told for word in ("http.port", "data_dir", "registry.shards"))


def test_check_warns_of_each_webhook_that_cannot_work(config: Path) -> None:
    hook = '[[webhooks]]\nid = "{}"\ntenant_id = "t"\nurl = "{}"\nsecrets = ["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]\n'
    urls = {
        "good": "https://crm.example.com/h",
        "loop": "http://2130706433/h",
        "meta": "http://169.254.169.254/h",
        "odd": "http://1.2.3.4.5/h",
    }
    config.write_text(CONFIG + "".join(hook.format(name, url) for name, url in urls.items()))
    ended = worker("check", WORKER_CONFIG=str(config))
    assert ended.returncode == 0
    warned = [line.split(": ")[1] for line in ended.stdout.splitlines() if line.startswith("warning: ")]
    assert warned == ["webhook loop", "webhook meta", "webhook odd"]


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_simulate_signs_as_the_gateway_does_and_counts_what_became_of_it(door: Door, config: Path, gateway: str) -> None:
    ended = worker(
        *("simulate", "--gateway", gateway, "--rate", "100", "--seconds", "1", "--duplicates", "0.3", "--seed", "7", "--url", door.url),
        WORKER_CONFIG=str(config),
    )
    assert ended.returncode == 0, ended.stderr
    assert len(door.bodies) == 100
    repeated = 100 - len(set(door.bodies))
    assert 15 < repeated < 45
    assert f"events accepted                   │ {100 - repeated}" in ended.stdout
    assert f"events known already (duplicates) │ {repeated}" in ended.stdout


def test_simulate_says_what_was_refused(door: Door, config: Path) -> None:
    ended = worker(
        *("simulate", "--rate", "50", "--seconds", "0.2", "--secret", "a wrong one", "--url", door.url, "--instances", "i-generic"),
        WORKER_CONFIG=str(config),
    )
    assert ended.returncode == 1
    assert "refused: 401 BAD_SIGNATURE        │ 10" in ended.stdout


def test_simulate_names_the_instances_it_could_play(config: Path) -> None:
    ended = worker("simulate", "--gateway", "waha", "--instances", "elephant", WORKER_CONFIG=str(config))
    assert ended.returncode == 78
    assert ended.stderr == "--instances: elephant: allowed: a number, or ids of declared waha instances (i-waha)\n"


def test_simulate_without_a_worker_says_so_at_once(config: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        ended = worker("simulate", "--instances", "i-generic", WORKER_CONFIG=str(config), WORKER_HTTP__PORT=str(port))
    assert (ended.returncode, ended.stdout) == (69, "")
    next_step = "start the worker, or say where it listens with --url or http.port (WORKER_HTTP__PORT)"
    assert ended.stderr == f"no worker at 127.0.0.1 port {port}: connection refused; {next_step}\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        *((url, url) for url in ("127.0.0.1:8080", "http://127.0.0.1:http", "ftp://127.0.0.1")),
        ("ftp://me:my-password@127.0.0.1", "(not shown)"),
    ],
)
def test_simulate_wants_an_address_it_can_call(config: Path, url: str, shown: str) -> None:
    ended = worker("simulate", "--url", url, WORKER_CONFIG=str(config))
    assert (ended.returncode, ended.stderr) == (78, f"--url: {shown}: allowed: http:// or https://, host and port of a worker\n")


def test_the_version_is_that_of_the_package() -> None:
    ended = worker("--version")
    assert (ended.returncode, ended.stdout) == (0, f"whatsapp-worker {version('whatsapp-event-worker')}\n")


class Door(ThreadingHTTPServer):
    """An ingest door of the test's own: verifies by the gateway's module, remembers bodies, answers as contract 3 says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, gateway: str, push: port.Push) -> tuple[int, dict[str, object]]:
        if not GATEWAYS[gateway].verify(push, [SECRET]):
            return 401, {"code": "BAD_SIGNATURE"}
        with self.lock:
            known = push.body in self.bodies
            self.bodies.append(push.body)
        return GATEWAYS[gateway].ACCEPTED_STATUS, {"accepted": int(not known), "duplicates": int(known)}


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Door

    def do_POST(self) -> None:
        _, ingest, gateway, instance = self.path.split("/")
        assert (ingest, instance) == ("ingest", f"i-{gateway}")
        body = self.rfile.read(int(self.headers["content-length"]))
        status, told = self.server.take(gateway, port.Push(headers={k.lower(): v for k, v in self.headers.items()}, body=body))
        answer = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)
