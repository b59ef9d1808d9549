"""How this process begins and ends: signals, the watchdog behind them, exit codes, open files.

`arm()` is the first statement of `main`, so nothing heavy may be imported here (standard library only, no asyncio).
Owns signals of the whole process; what a drain does is `worker.shutdown`'s business.

Signals are *blocked* and taken by a thread with `sigwait`, rather than handled: a Python handler waits for the main thread,
and a wake-up descriptor is taken over by whichever event loop runs (uvloop sets its own). A thread that waits needs neither, so
the watchdog is armed even when the main thread is stuck in C code. It does need the interpreter lock: C code that never
lets go of it is ended by the platform's SIGKILL alone. A child process inherits the blocked mask: whoever starts one unblocks
it (`adapters/tethered.py` does).
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
import traceback
from enum import Enum, IntEnum
from faulthandler import cancel_dump_traceback_later, dump_traceback_later
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Iterable, Iterator
    from types import FrameType

    import anyio

IGNORED_FOR_S = 5.0
"""Duplicate senders (a supervisor and its shell, a process group) repeat a signal within moments."""
DEFAULT_BUDGET_S = 110.0
WATCHDOG_GRACE_S = 3.0
"""Beyond the budget, for what comes after the phases: keeping the report, closing the store."""
DUMP_PATIENCE_S = 1.0
YOUNG_OBJECTS = 50_000
"""Containers made, less those freed, between two looks at the youngest generation."""
_STACK_DEPTH = 40
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def monotonic_s() -> float:
    """Seconds on a clock that never jumps; where there is `CLOCK_BOOTTIME` the time a machine was suspended counts too.

    Not the clock of the event loop, which stands still while the machine sleeps: never mix the two.
    """
    return time.clock_gettime(_CLOCK)


class ExitCode(IntEnum):
    """What the process says at its end (contract 1)."""

    CLEAN = 0
    UNREACHABLE = 69
    NOT_DURABLE = 70
    LEFT_TO_TIME = 75
    MISCONFIGURED = 78
    WATCHDOG = 124


class Reaction(Enum):
    DRAIN = "drain"
    IGNORE = "ignore"
    SPILL = "spill"


def reaction(signum: int, since_first_s: float | None) -> Reaction:
    """What a signal asks for, `since_first_s` after the first one (None: it is the first). Pure.

    | signal | first | within 5 s | later |
    |---|---|---|---|
    | SIGTERM, SIGINT | drain | ignore | spill |
    | SIGQUIT | spill | spill | spill |
    """
    if signum == signal.SIGQUIT:
        return Reaction.SPILL
    if since_first_s is None:
        return Reaction.DRAIN
    return Reaction.IGNORE if since_first_s < IGNORED_FOR_S else Reaction.SPILL


def arm() -> Signals:
    """Takes the process's signals; from here on SIGTERM means drain, whenever it comes. Call once, first, from the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    signals = Signals(Watchdog())
    threading.Thread(target=signals.take, name="signals", daemon=True).start()
    return signals


class Signals:
    """What has been asked of this process so far. Fields are written by the signal thread only."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog
        self.first_at_s: float | None = None
        """On `monotonic_s`: the budget counts from here."""
        self.name: str | None = None
        """Of the first signal, such as `SIGTERM`."""
        self.seen = 0
        self._spill = False
        self._budget_s = DEFAULT_BUDGET_S
        self._lock = threading.Lock()
        self._loop: AbstractEventLoop | None = None
        self._first_event: anyio.Event | None = None
        self._spill_event: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<Signals seen={self.seen} first={self.name}>"

    def attach(self, loop: AbstractEventLoop) -> None:
        """Lets coroutines of this running loop wait; a signal that came earlier is there at once."""
        import anyio  # noqa: PLC0415 - `arm` must not wait for heavy imports

        with self._lock:
            self._first_event, self._spill_event, self._loop = anyio.Event(), anyio.Event(), loop
            self.watchdog.loop = loop
            self._tell()

    def limit(self, budget_s: float) -> None:
        """Sets the watchdog's patience from the first signal, also when that has already come."""
        with self._lock:
            self._budget_s = budget_s
            if self.first_at_s is not None:
                self.watchdog.arm(max(0.0, self.first_at_s + budget_s - monotonic_s()))

    async def wait_first(self) -> None:
        """Until the first signal. Cancel-safe; raises `RuntimeError` before `attach`."""
        await _attached(self._first_event).wait()

    async def wait_spill(self) -> None:
        """Until somebody asks to skip to spilling. Cancel-safe; raises `RuntimeError` before `attach`."""
        await _attached(self._spill_event).wait()

    @property
    def is_spill_asked(self) -> bool:
        """Whether somebody has asked to skip to spilling; for code that looks rather than waits."""
        return self._spill

    def take(self) -> None:
        """The signal thread's life: waits for the next signal and records it, for ever."""
        while True:
            self.record(signal.sigwait(_TAKEN))

    def record(self, signum: int) -> None:
        """One signal came. Called by the signal thread; tests call it to play a signal."""
        now_s = monotonic_s()
        if signum == signal.SIGQUIT:
            # First: once told to spill the process may end before a line of it is written, and the stacks to see are those of before.
            print_stacks_patiently("SIGQUIT", self._loop)
        with self._lock:
            self.seen += 1
            asked = reaction(signum, None if self.first_at_s is None else now_s - self.first_at_s)
            if self.first_at_s is None:
                self.name = signal.Signals(signum).name
                self.first_at_s = now_s
                self.watchdog.arm(self._budget_s)
            self._spill = self._spill or asked is Reaction.SPILL
            self._tell()

    def _tell(self) -> None:
        if self._loop is None or self._first_event is None or self._spill_event is None or self._loop.is_closed():
            return
        if self.first_at_s is not None:
            self._loop.call_soon_threadsafe(self._first_event.set)
        if self._spill:
            self._loop.call_soon_threadsafe(self._spill_event.set)


def _attached(event: anyio.Event | None) -> anyio.Event:
    if event is None:
        msg = "attach the signals to the running loop before waiting for them"
        raise RuntimeError(msg)
    return event


class Watchdog:
    """Ends the process with 124 when a shutdown does not. A timer thread outside the loop, a C timer behind it.

    The second one fires a second later, needs no interpreter lock, and its exit code is 1 (faulthandler's own).
    """

    def __init__(self) -> None:
        self.loop: AbstractEventLoop | None = None
        """Whose tasks it names when it fires."""
        self._timer: threading.Timer | None = None

    @property
    def is_armed(self) -> bool:
        return self._timer is not None

    def arm(self, budget_s: float) -> None:
        """Fires `budget_s` from now; arming again moves the instant."""
        self.disarm()
        self._timer = threading.Timer(budget_s, self._bite)
        self._timer.name = "watchdog"
        self._timer.daemon = True
        self._timer.start()
        dump_traceback_later(budget_s + DUMP_PATIENCE_S + 1.0, exit=True, file=2)

    def disarm(self) -> None:
        """Idempotent. A worker that exits need not: leaving it armed guards the interpreter's own end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            cancel_dump_traceback_later()

    def _bite(self) -> None:
        print_stacks_patiently("the shutdown watchdog fired", self.loop)
        os._exit(ExitCode.WATCHDOG)


def print_stacks_patiently(why: str, loop: AbstractEventLoop | None) -> None:
    """`print_stacks`, but back after `DUMP_PATIENCE_S` at most: whoever reads our stderr may have stopped reading."""
    printer = threading.Thread(target=print_stacks, args=(why, loop), daemon=True)
    printer.start()
    printer.join(DUMP_PATIENCE_S)


def print_stacks(why: str, loop: AbstractEventLoop | None) -> None:
    """Writes the stack of every thread, and of every task of `loop`, to stderr: names, files and lines; no locals, no values.

    Not by `faulthandler`, which writes while it holds the interpreter lock: a stalled stderr would stop the whole process.
    """
    text = "\n".join([f"=== stacks: {why}", *_thread_stacks(), *_task_stacks(loop), "=== end of stacks", ""])
    left = text.encode(errors="replace")
    while left:
        left = left[os.write(2, left) :]


def stuck_tasks(loop: AbstractEventLoop) -> list[dict[str, str]]:
    """The tasks that have not ended, for the drain report: `{task, state}`, where state is the place it waits at."""
    return [
        {"task": task.get_name(), "state": places[-1].strip() if (places := _task_places(task)) else "starting"} for task in _tasks(loop)
    ]


def raise_open_files() -> tuple[int, int]:
    """Raises the soft limit of open files to the hard one; answers (before, now). Never fails: a refusal leaves what was."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the hard limit infinite and then refuses more than this.
    wanted = hard if hard != resource.RLIM_INFINITY else 10_240
    if wanted > before:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return before, before
    return before, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_standard_streams() -> None:
    """Whichever of descriptors 0 to 2 is closed leads to nowhere from here on.

    Call first: the next file opened would take its place, and the event loop ends a process that asks it to close one of these.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def calm_collector() -> None:
    """Once everything is built: the cycle collector leaves what is there alone and looks at young objects in larger portions.

    An attempt's objects live for milliseconds and hold hardly a cycle. With Python's own threshold of 700 they are promoted before they
    die, and old generations are walked for nothing: more than a quarter of the CPU of a busy worker (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 10)


def _thread_stacks() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to see other threads
        yield f"--- thread {names.get(ident, ident)}"
        yield from reversed(_places(traceback.walk_stack(frame)))


def _task_stacks(loop: AbstractEventLoop | None) -> Iterator[str]:
    for task in _tasks(loop):
        yield f"--- task {task.get_name()}"
        yield from _task_places(task)


def _tasks(loop: AbstractEventLoop | None) -> list[Task[object]]:
    """Seen from outside the loop this is a snapshot: good enough for people, decides nothing."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or loop is None:
        return []
    return [task for task in asyncio.all_tasks(loop) if not task.done()]


def _task_places(task: Task[object]) -> list[str]:
    """Outermost first. Follows awaits below the task's own frame, which is where it really waits."""
    places: list[tuple[FrameType, int]] = []
    awaitable: object = task.get_coro()
    while awaitable is not None and len(places) < _STACK_DEPTH:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is not None:
            places.append((frame, frame.f_lineno))
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
    return _places(places)


def _places(frames: Iterable[tuple[FrameType, int]]) -> list[str]:
    return [f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}" for frame, line in islice(frames, _STACK_DEPTH)]
