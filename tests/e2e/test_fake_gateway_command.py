"""`fake-gateway` as a person meets it: a whole process, its greeting, its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from worker.commands.fake_gateway import greeting
from worker.fake_gateway.server import Plan

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_serves_and_ends_when_told(told: signal.Signals) -> None:
    words = [sys.executable, "-m", "worker", "fake-gateway", "--gateway", "baileys", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert greeting.startswith("A fake baileys listens at http://127.0.0.1:")
        url = greeting.split()[5].rstrip(".")
        with urllib.request.urlopen(f"{url}/health", timeout=20) as answer:  # noqa: S310 - our own
            assert b'"status":"ok"' in answer.read()
        told_file = "".join(iter(process.stdout.readline, f'url = "{url}"\n'))
        assert 'id = "fake-baileys"' in told_file, "two of them can stand in one file"
        assert "public_url" not in told_file, "it takes no address with an instance"
        assert "--push-url http://127.0.0.1:8080/ingest/baileys/<instance id>" in told_file
        process.send_signal(told)
        assert process.wait(20) == 0


def test_it_says_where_instances_are_told_to_push() -> None:
    told = "\n".join(greeting(Plan(gateway="waha"), "http://127.0.0.1:3000"))
    assert '[http]\npublic_url = "http://127.0.0.1:8080"  #' in told
    assert "--push-url" not in told


def test_a_port_that_is_taken_is_named_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        words = [sys.executable, "-m", "worker", "fake-gateway", "--port", str(number)]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 78
    assert ended.stderr.startswith(f"--port: {number}: allowed: a free port")
    assert len(ended.stderr.splitlines()) == 1
