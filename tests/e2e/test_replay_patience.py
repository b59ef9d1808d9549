"""`whatsapp-worker replay` over an API that stumbles: it asks again while that makes sense, and keeps its place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

NEXT = "1.2.3.msg_" + "A" * 26


class Api(ThreadingHTTPServer):
    """Answers what it was told to, in turn, and remembers what it was asked. A status of 0 hangs up without an answer."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api

    def do_POST(self) -> None:
        assert self.path == "/api/dead-letters/replay"
        assert (self.headers["authorization"], self.headers["x-tenant-id"]) == ("Bearer k", "acme")
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, body = self.server.answers.pop(0)
        if status == 0:
            self.close_connection = True
            return
        answer = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def page(replayed: int, *, cursor: str | None = None) -> tuple[int, dict[str, Any]]:
    data = {"replayed": replayed, "skipped": 1}
    return 200, {"success": True, "data": data, "meta": {"nextCursor": cursor, "resumeAfterS": 0.0, "progress": 0.5 if cursor else 1.0}}


def refusal(status: int, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"success": False, "error": {"code": code, "message": "do this", "details": {}, "requestId": "r"}}


def ask(url: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines of stdout and of stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    words = [sys.executable, "-m", "worker", "replay", "--url", url, "--key", "k", "--tenant", "acme"]
    ended = subprocess.run(words, env=kept, capture_output=True, text=True, timeout=50, check=False)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr.splitlines()


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def test_a_page_without_an_answer_is_asked_for_again_with_its_cursor(api: Api) -> None:
    api.answers = [page(10, cursor=NEXT), (0, {}), refusal(503, "STORE_UNAVAILABLE"), page(5)]
    code, told, faults = ask(api.url)
    assert (code, faults) == (0, [])
    assert told == [
        "10 replayed, 1 skipped (50%)",
        "no answer; asked again in 0.5 s",
        "503 STORE_UNAVAILABLE: do this; asked again in 1 s",
        "15 replayed, 2 skipped (100%)",
        "15 replayed, 2 skipped",
    ]
    assert [body.get("cursor") for body in api.asked] == [None, NEXT, NEXT, NEXT]


def test_a_refusal_ends_it_and_says_how_to_go_on(api: Api) -> None:
    api.answers = [page(10, cursor=NEXT), refusal(409, "WEBHOOK_DISABLED")]
    code, told, faults = ask(api.url)
    assert (code, told) == (1, ["10 replayed, 1 skipped (50%)"])
    assert faults == ["409 WEBHOOK_DISABLED: do this", f"10 replayed, 1 skipped before that; go on with: --cursor {NEXT}"]


def test_something_that_is_no_worker_is_told_apart(api: Api) -> None:
    api.answers = [(200, {"hello": "world"})]
    code, _, faults = ask(api.url)
    assert code == 1
    assert faults[0] == "200 from something that is no worker"


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        code, told, faults = ask(f"http://127.0.0.1:{port}")
    assert (code, told) == (69, [])
    assert faults[0].startswith(f"no worker at 127.0.0.1 port {port}: connection refused; start the worker")


def test_what_is_no_address_is_a_fault_of_the_command_line() -> None:
    assert ask("elephant")[0] == 78
