"""The parent of several workers: opens what they share, starts them, passes signals on, starts again who died, sums up. Does no work.

```
listening sockets ( embedded server ( children: one worker each … until a signal … their reports ) the sum ) worst exit code
```

A child sits in a session of its own, so whatever reaches it comes from here, once. What it has accepted is durable without us: the
parent is never part of an event's way.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import structlog

from worker.adapters.departed import forget_departed
from worker.adapters.embedded_redis import EmbeddedRedis, prepared_redis
from worker.api.listening import opened
from worker.domain.backoff import doubled_s
from worker.domain.errors import ConfigurationError, DependencyUnreachable, StoreFull, StoreUnavailable, WorkerError
from worker.domain.ids import OwnerId
from worker.drain_report import in_words
from worker.lifecycle import WATCHDOG_GRACE_S, ExitCode, Signals, monotonic_s
from worker.logs import Lines, emit_report, set_up, stderr_lines
from worker.processes.child import Child
from worker.processes.seat import ALIVE_EVERY_S, Seat
from worker.processes.totals import exit_code_of, live_total, summed, worst

log = structlog.get_logger("worker.processes")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 30.0
"""Who ran for so long has not failed twice in a row."""
STUCK_LOOKS = 6
"""So many looks, `ALIVE_EVERY_S` apart, at a child that says nothing: its loop hangs, or the process was stopped."""
CHILD_GRACE_S = WATCHDOG_GRACE_S + 2.5
"""Beyond the budget: a child's own watchdog has ended it by then, the one behind that too."""
PARENT_GRACE_S = CHILD_GRACE_S + 3.0
_PLAIN_ENDS = frozenset({ExitCode.CLEAN, ExitCode.LEFT_TO_TIME})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is shared. `data_dir`: of the embedded server, None where `store_url` is somebody's.

    `ports_from`: where the first child listens too, the second one further, and so on.
    """

    processes: int
    host: str
    port: int
    ports_from: int | None
    store_url: str = field(repr=False)
    data_dir: Path | None
    shards: int
    budget_s: float


async def supervise(plan: Plan, signals: Signals) -> ExitCode:
    """Until a signal has been answered by the drain of all children. Raises `ConfigurationError`, `DependencyUnreachable`."""
    signals.attach(asyncio.get_running_loop())
    lines = stderr_lines()
    set_up(lines)
    try:
        return await Supervisor(plan, signals, lines).live()
    except (ConfigurationError, DependencyUnreachable):
        raise
    except Exception:
        log.exception("parent_crashed", next_step="what was accepted is in the journal; start again, and report the cause above")
        return ExitCode.NOT_DURABLE
    finally:
        lines.close()


class Supervisor:
    """`live` once."""

    def __init__(self, plan: Plan, signals: Signals, lines: Lines) -> None:
        self._plan = plan
        self._signals = signals
        self._lines = lines
        self._children: dict[int, Child] = {}
        self._mark = secrets.token_hex(3)
        self._shared: list[socket.socket] = []
        self._own: list[list[socket.socket]] = []
        self._store_url = plan.store_url
        self._has_served = False
        """Whether any child has ever been ready: from then on one that cannot start is tried again, the others serve meanwhile."""
        self._refusal: WorkerError | ExitCode | None = None
        """Why none can start."""
        self._leaving = anyio.Event()
        self._all_ended = anyio.Event()
        self._has_said_go = False
        self._sent: signal.Signals | None = None
        """To all; also to one that was being started meanwhile."""
        self._has_killed = False

    async def live(self) -> ExitCode:
        plan = self._plan
        self._signals.limit(plan.budget_s + PARENT_GRACE_S)
        log.info("processes_start", pid=os.getpid(), processes=plan.processes, budget_s=plan.budget_s)
        async with self._listening(), self._store() as server, anyio.create_task_group() as around:
            self._around = around
            around.start_soon(self._pass_signals_on)
            if server is not None:
                around.start_soon(self._run_store, server)
            around.start_soon(self._end_the_stuck)
            if self._lines.is_terminal:
                around.start_soon(self._show)
            await self._keep_all()
            around.cancel_scope.cancel()
            if self._refusal is None:
                return self._sum_up()
        if isinstance(self._refusal, WorkerError):
            raise self._refusal
        return self._refusal or ExitCode.CLEAN

    # -- what is shared ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """One socket for all: a child that dies takes no connection with it that nobody has accepted (decision 0019)."""
        plan = self._plan
        try:
            self._shared = opened(plan.host, plan.port)
            if plan.ports_from is not None:
                for index in range(plan.processes):
                    self._own.append(opened(plan.host, plan.ports_from + index, asked_by="--process-ports"))
            yield
        finally:
            for sock in (*self._shared, *(one for own in self._own for one in own)):
                sock.close()

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[EmbeddedRedis | None]:
        """The embedded server where it is asked for, its address known, not started yet; stopped after everything inside."""
        if self._plan.data_dir is None:
            yield None
            return
        async with prepared_redis(self._plan.data_dir) as server:
            self._store_url = server.url
            yield server

    async def _run_store(self, server: EmbeddedRedis) -> None:
        """Started beside the children, which wait for it. Who owned a shard before the directory was ours is gone."""
        try:
            await server.start()
        except (ConfigurationError, DependencyUnreachable) as exc:
            self._give_up(exc)
            return
        await self._forget(lambda owner: f"-{self._mark}-" not in owner)
        await server.supervise()

    # -- children ----------------------------------------------------------------------------------------------------

    async def _keep_all(self) -> None:
        async with anyio.create_task_group() as keeping:
            for index in range(self._plan.processes):
                keeping.start_soon(self._keep, index)
        self._all_ended.set()

    async def _keep(self, index: int) -> None:
        """One seat, taken again whenever its child ends alone."""
        failures = 0
        while not self._leaving.is_set():
            began_s = monotonic_s()
            child = self._children[index] = Child(self._seat(index), self._lines, self._look)
            try:
                await child.live()
            except OSError as exc:
                log.warning("process_not_started", process=index, cause=exc.strerror, next_step="tried again; free memory, raise limits")
            if self._leaving.is_set():
                return
            code = exit_code_of(child.returncode)
            if not self._has_served:
                self._cannot_start(child, code)
                return
            failures = 0 if code in _PLAIN_ENDS or monotonic_s() - began_s > STEADY_S else failures + 1
            del self._children[index]
            await self._after_death(child, 0.0 if code in _PLAIN_ENDS else pause_s(failures, random.random()))  # noqa: S311 - jitter

    async def _after_death(self, child: Child, pause_s: float) -> None:
        say = log.warning if exit_code_of(child.returncode) in _PLAIN_ENDS else log.error
        say(
            "process_ended_alone",
            process=child.seat.index,
            exit_code=child.returncode,
            cause=child.refused["lines"] if child.refused else None,
            again_in_s=round(pause_s, 1),
            next_step="nothing: its shards go to the others until it is back; if it keeps ending, its own lines above say why",
        )
        if child.owner is not None:
            await self._forget(child.owner.__eq__)
        with anyio.move_on_after(pause_s):
            await self._leaving.wait()

    def _seat(self, index: int) -> Seat:
        own = self._own[index] if self._own else ()
        return Seat(
            index=index,
            of=self._plan.processes,
            listening=tuple(sock.fileno() for sock in (*self._shared, *own)),
            store_url=self._store_url if self._plan.data_dir is not None else None,
            mark=self._mark,
            console=self._lines.is_terminal,
        )

    async def _forget(self, is_gone: Callable[[OwnerId], bool]) -> None:
        """Frees at once what would else wait for leases to run out."""
        try:
            freed = await forget_departed(self._store_url, self._plan.shards, is_gone)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("leases_not_freed", cause=str(exc), next_step="they end by themselves")
            return
        if freed:
            log.info("leases_freed", shards=freed)

    async def _end_the_stuck(self) -> None:
        """Its siblings answer `/livez`, so nobody else would notice. By looks, not by time: what was said while *we* stood still counts."""
        while True:
            with anyio.move_on_after(ALIVE_EVERY_S):
                await self._leaving.wait()
                return
            for child in self._living():
                child.silent_looks += 1
                if child.silent_looks == STUCK_LOOKS:
                    log.error("process_stuck", process=child.seat.index, next_step="read its stacks below; it is killed and started again")
                    child.send(signal.SIGQUIT)
                elif child.silent_looks > STUCK_LOOKS:
                    child.send(signal.SIGKILL)

    def _cannot_start(self, child: Child, code: ExitCode) -> None:
        """The first one's reason is everybody's."""
        if child.refused is None:
            log.error("process_cannot_start", process=child.seat.index, exit_code=child.returncode, next_step="see its own lines above")
            self._give_up(code if code not in _PLAIN_ENDS else ExitCode.NOT_DURABLE)
        elif child.refused["code"] == ExitCode.MISCONFIGURED:
            self._give_up(ConfigurationError(child.refused["lines"]))
        else:
            self._give_up(DependencyUnreachable("\n".join(child.refused["lines"])))

    def _give_up(self, why: WorkerError | ExitCode) -> None:
        if self._refusal is None and not self._leaving.is_set():
            self._refusal = why
            self._leaving.set()
            self._send(signal.SIGTERM)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _pass_signals_on(self) -> None:
        """The first to all at once; a later one as SIGQUIT, which spills whenever it comes. Who stays beyond all patience is killed."""
        await self._signals.wait_first()
        self._leaving.set()
        await self._tell_all("all")
        self._send(signal.SIGQUIT if self._signals.is_spill_asked else signal.Signals[self._signals.name or "SIGTERM"])
        self._around.start_soon(self._pass_spill_on)
        since_s = monotonic_s() - (self._signals.first_at_s or monotonic_s())
        with anyio.move_on_after(self._plan.budget_s + CHILD_GRACE_S - since_s):
            await self._all_ended.wait()
            return
        log.error("processes_killed", processes=len(self._living()), next_step="read their stacks above; raise shutdown.budget_s")
        self._has_killed = True
        self._send(signal.SIGKILL)

    async def _pass_spill_on(self) -> None:
        was_asked = self._signals.is_spill_asked
        await self._signals.wait_spill()
        if not was_asked:
            self._send(signal.SIGQUIT)

    def _look(self) -> None:
        """Something was heard of a child."""
        self._has_served = self._has_served or any(child.is_ready for child in self._children.values())
        if self._sent is not None:
            for child in self._living():
                if not child.is_signalled:
                    child.send(self._sent)
        if self._signals.first_at_s is None or self._has_said_go:
            return
        if all(child.is_leaving or not child.is_ready for child in self._living()):
            self._has_said_go = True
            self._around.start_soon(self._tell_all, "go")

    async def _tell_all(self, word: str) -> None:
        async with anyio.create_task_group() as telling:
            for child in self._living():
                telling.start_soon(child.tell, word)

    def _send(self, signum: signal.Signals) -> None:
        self._sent = signum
        for child in self._living():
            child.send(signum)

    def _living(self) -> list[Child]:
        return [child for child in self._children.values() if child.is_alive]

    def _sum_up(self) -> ExitCode:
        children = [self._children[index] for index in sorted(self._children)]
        codes = [ExitCode.WATCHDOG if self._has_killed and child.report is None else exit_code_of(child.returncode) for child in children]
        report = summed(
            [child.report for child in children if child.report is not None],
            processes=len(children),
            signal=self._signals.name,
            signals_seen=self._signals.seen,
            codes=codes,
        )
        emit_report(self._lines, report, in_words=in_words(report))
        return worst(codes)

    # -- for people --------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        from worker.terminal import show_live  # noqa: PLC0415 - rich, for a terminal only

        await show_live(self._lines, lambda: live_total([child.facts for child in self._living() if child.facts is not None]))


def pause_s(failures: int, unit_random: float) -> float:
    """Full jitter, bounded. Pure."""
    return unit_random * doubled_s(FIRST_PAUSE_S, failures, LONGEST_PAUSE_S)
