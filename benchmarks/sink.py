"""The sink: compiled from `sink.c` where there is a C compiler, else the same in Python, which costs a good part of a core."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("sink.c")
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """`made_of` says which one it is: the figures of a whole path against a slow sink are worth less."""

    fast_url: str
    hang_url: str
    made_of: str
    pid: int


@contextmanager
def sink() -> Iterator[Sink]:
    """A sink for the length of a `with`: `fast_url` answers 204, `hang_url` never."""
    with tempfile.TemporaryDirectory(prefix="sink-") as folder:
        command, made_of = _built(Path(folder))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            fast, hang = process.stdout.readline().split()
            try:
                yield Sink(
                    fast_url=f"http://127.0.0.1:{fast}/hook", hang_url=f"http://127.0.0.1:{hang}/hook", made_of=made_of, pid=process.pid
                )
            finally:
                process.terminate()


def _built(folder: Path) -> tuple[list[str], str]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is not None:
        program = folder / "sink"
        if subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=False).returncode == 0:
            return [str(program)], "C"
    return [sys.executable, "-m", "benchmarks.sink"], "Python (no C compiler here)"


class _Peer(asyncio.Protocol):
    """Heads and bodies by Content-Length, as in `sink.c`."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs
        self._head = b""
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        whole = 0
        while True:
            if self._body_left:
                part = min(self._body_left, len(self._head))
                self._head, self._body_left = self._head[part:], self._body_left - part
                if self._body_left:
                    break
                whole += 1
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                break
            _, field, value = head.lower().partition(b"\r\ncontent-length:")
            self._head, self._body_left = rest, int(value.partition(b"\r\n")[0]) if field else 0
            whole += not self._body_left
        if whole and not self._hangs:
            self._transport.write(_ANSWER * whole)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda hangs=hangs: _Peer(hangs=hangs), "127.0.0.1", 0) for hangs in (False, True)]  # type: ignore[misc]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
