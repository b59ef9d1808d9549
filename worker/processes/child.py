"""One child process, as its parent sees it: started, listened to, told things, signalled, waited for. Decides nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import orjson
from anyio.abc import ByteReceiveStream, Process

from worker.domain.ids import OwnerId
from worker.logs import Lines
from worker.processes.seat import Seat

LINE_AT_MOST = 1 << 20
LAST_WORDS_S = 1.0
"""`last_words`: what is still in the pipes of a process that has ended."""
TOLD_WITHIN_S = 0.5
SEAT_OPTION = "--seat"
"""Private: what follows it is a seat's word (`seat.py`)."""
_TETHERED = Path(__file__).parents[1] / "adapters" / "tethered.py"
_REPORT = b'{"message":"drain report"'


class Child:
    """`live` once. `changed` is called once it is alive, after each thing heard, and at the end."""

    def __init__(self, seat: Seat, lines: Lines, changed: Callable[[], None]) -> None:
        self.seat = seat
        self.owner: OwnerId | None = None
        self.is_ready = False
        self.is_leaving = False
        self.facts: Mapping[str, object] | None = None
        self.refused: Mapping[str, Any] | None = None
        self.report: Mapping[str, Any] | None = None
        self.is_alive = False
        self.is_signalled = False
        self.silent_looks = 0
        """How often somebody looked since it last said anything; whoever looks counts."""
        self.returncode: int | None = None
        """None: not ended, or it could not even be started."""
        self._lines = lines
        self._changed = changed
        self._process: Process | None = None

    def __repr__(self) -> str:
        return f"<Child {self.seat.index} pid={self.pid} alive={self.is_alive}>"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def live(self) -> None:
        """From its start to its end. Raises `OSError` where the system cannot start one.

        In a session of its own, so that a terminal's Ctrl-C reaches the parent alone, and tied to the parent's life. Cancelled, it
        kills: what was accepted is durable.
        """
        tied = [sys.executable, "-I", "-S", str(_TETHERED), str(os.getpid()), "--blocked"]
        command = [*tied, sys.executable, "-m", "worker", "run", SEAT_OPTION, self.seat.word()]
        self._process = process = await anyio.open_process(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, pass_fds=self.seat.listening
        )
        self.is_alive = True
        self._changed()
        try:
            async with anyio.create_task_group() as listening:
                listening.start_soon(self._hear)
                listening.start_soon(self._pass_lines_on)
                await process.wait()
                listening.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
        finally:
            self.send(signal.SIGKILL)  # where it has ended already this does nothing
            with anyio.CancelScope(shield=True):  # bounded: SIGKILL is not refused
                await process.wait()
                await process.aclose()
            self.is_alive = False
            self.returncode = process.returncode
            self._changed()

    def send(self, signum: signal.Signals) -> None:
        """Nothing where it has ended."""
        if self._process is not None and self._process.returncode is None:
            self.is_signalled = True
            self._process.send_signal(signum)

    async def tell(self, word: str) -> None:
        """One word; left out where it does not listen."""
        if self._process is None or self._process.stdin is None:
            return
        with anyio.move_on_after(TOLD_WITHIN_S):
            try:
                await self._process.stdin.send(f"{word}\n".encode())
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                return

    async def _hear(self) -> None:
        assert self._process is not None
        async for line in lines_of(_pipe(self._process.stdout)):
            self.silent_looks = 0
            self._note(line)
            self._changed()

    def _note(self, line: bytes) -> None:
        match _said(line):
            case {"owner": str() as owner}:
                self.owner = OwnerId(owner)
            case {"ready": True}:
                self.is_ready = True
            case {"leaving": True}:
                self.is_leaving = True
            case {"facts": dict() as facts}:
                self.facts = facts
            case {"refused": dict() as refused}:
                self.refused = refused
            case {"report": dict() as report}:
                self.report = report

    async def _pass_lines_on(self) -> None:
        """Whole lines: those of two processes on one pipe would run into each other."""
        assert self._process is not None
        async for line in lines_of(_pipe(self._process.stderr)):
            self._lines.put(line.decode(errors="replace"), must=line.startswith(_REPORT))


def _said(line: bytes) -> object:
    """What is not understood says nothing: `alive` is there to be heard only, and a child prints nothing else (`to_parent.py`)."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _pipe(stream: ByteReceiveStream | None) -> ByteReceiveStream:
    assert stream is not None, "opened with pipes"
    return stream


async def lines_of(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Without their ends; one that does not end within `LINE_AT_MOST` comes in parts."""
    rest = b""
    async for piece in stream:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LINE_AT_MOST:
            yield rest
            rest = b""
    if rest:
        yield rest
