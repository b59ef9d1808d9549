"""The process: builds everything, in dependency order, and takes it down in the reverse. The only place that wires the real parts.

```
listener ( store, embedded or not ( transport ( engine: … until a signal, then the shutdown … report ) ) ) exit code
```

The listener opens first and closes last: `/livez` answers from the start, and a push that comes while the store is not there yet
gets a 503 it can come back from.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Mapping, Sequence

import anyio
import structlog

from worker.adapters.clock import rfc3339, utc_now, wall_s
from worker.adapters.ecs import EcsMetadata
from worker.adapters.http import AiohttpTransport
from worker.adapters.http_push import pushing
from worker.adapters.http_urls import objection
from worker.adapters.own_process import OwnProcess
from worker.adapters.redis_store import RedisStore
from worker.adapters.store_opening import opened_store
from worker.api.dashboard import dashboard_routes
from worker.api.demo_sink import DemoSink, demo_sink_routes
from worker.api.frame import Frame
from worker.api.health import health_routes
from worker.api.server import Route, application, serving
from worker.demo import push_demo_events, with_demo
from worker.domain.catalog import Catalog
from worker.domain.errors import ConfigurationError, DependencyUnreachable, StoreFull, StoreUnavailable
from worker.domain.ids import EventKey
from worker.drain_report import Departure, KeptReport, Leavings, drain_report, in_words
from worker.engine import Engine, World
from worker.event_integration.pipeline import Clocks
from worker.event_integration.transport import Transport
from worker.gateways.identity import fresh_key
from worker.ingest.door import DoorState
from worker.ingest.entrance import Entrance
from worker.ingest.preparation import Stamps
from worker.ingest.routes import ingest_routes
from worker.instances.broker import Broker
from worker.lifecycle import WATCHDOG_GRACE_S, ExitCode, Signals, calm_collector, monotonic_s, raise_open_files, stuck_tasks
from worker.logs import Lines, emit_report, set_up, stderr_lines
from worker.loop_lag import LoopLag
from worker.management import contact_cache, instance_parts, open_api
from worker.processes.seat import Seat
from worker.processes.to_parent import ToParent
from worker.settings import Settings, platform
from worker.showing import Showing
from worker.shutdown import Shutdown
from worker.slices import (
    allowed_destinations,
    as_task,
    engine_settings,
    first_identity,
    health_keys,
    management_settings,
    opened_brokers,
    opened_connectors,
    store_choice,
)
from worker.terminal import show_live
from worker.websocket.port import Connector

log = structlog.get_logger("worker.app")

RECEIPTS = ("sent", "handed_over")
KEEP_REPORT_S = 1.0
"""`keep_drain_report`: within the grace."""
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address among all of them


async def run(settings: Settings, signals: Signals, parent: ToParent | None = None) -> ExitCode:
    """One life of a worker, until a signal was answered with a drain. Raises `ConfigurationError`, `DependencyUnreachable`.

    `parent`: where it is one of several processes.
    """
    signals.attach(asyncio.get_running_loop())
    lines = stderr_lines()
    set_up(lines, console=True if parent is not None and parent.seat.console else None)
    if parent is not None:
        structlog.contextvars.bind_contextvars(process=parent.seat.index)
    try:
        return await Process(settings, signals, lines, parent).live()
    except (ConfigurationError, DependencyUnreachable):
        raise
    except Exception as exc:
        if (told := _told_to_operator(exc)) is not None:
            raise told from exc
        log.exception("worker_crashed", next_step="what was accepted is in the journal; the lease ends by itself; report the cause above")
        return ExitCode.NOT_DURABLE
    finally:
        lines.close()


def _told_to_operator(exc: BaseException) -> ConfigurationError | DependencyUnreachable | None:
    """What the operator can mend, however deep in task groups it was raised."""
    if isinstance(exc, ConfigurationError | DependencyUnreachable):
        return exc
    inner = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    return next((found for one in inner if (found := _told_to_operator(one)) is not None), None)


class Process:
    """`live` once; everything it opens it closes, in the reverse order."""

    def __init__(self, settings: Settings, signals: Signals, lines: Lines, parent: ToParent | None = None) -> None:
        self._settings = settings
        self._parent = parent or ToParent(Seat())
        self._seat = self._parent.seat
        self._signals = signals
        self._lines = lines
        self._lag = LoopLag()
        self._sink = DemoSink() if settings.demo else None
        self._entrance = Entrance()
        self._api = Frame(is_shut=self._is_shut)
        self._budget_s = settings.shutdown.budget_s or settings.shutdown.stop_timeout_s - 10
        where = platform()
        self._ecs = EcsMetadata(where.ecs_metadata_uri)
        self._identity = first_identity(settings, self._seat, is_managed=where.is_there)
        self._showing = Showing(self._identity.owner, is_stopping=self._is_stopping, lag=self._lag, sink=self._sink)
        self._showing.process = OwnProcess(index=self._seat.index, of=self._seat.of)
        self._showing.ecs = self._ecs
        self._showing.api = self._api
        self._spill_asked = False
        self._live = anyio.CancelScope()

    async def live(self) -> ExitCode:
        http = self._settings.http
        self._signals.limit(self._budget_s + WATCHDOG_GRACE_S)
        _, open_files = raise_open_files()
        self._parent.tell(owner=self._identity.owner)
        log.info("worker_starts", pid=os.getpid(), owner=self._identity.owner, open_files=open_files, budget_s=self._budget_s)
        app = application(self.routes(), max_body_bytes=http.max_body_bytes)
        async with serving(app, http.host, http.port, self._seat.sockets()) as listening, anyio.create_task_group() as outside:
            self._stop_accepting, port = listening.stop_accepting, listening.port
            log.info("listening", host=http.host, port=port, dashboard=f"http://{_seen_at(http.host)}:{port}/")
            outside.start_soon(self._lag.measure)
            outside.start_soon(self._show_live)
            outside.start_soon(self._parent.hear)
            code = await self._until_stopped(f"http://127.0.0.1:{port}")
            outside.cancel_scope.cancel()
        return code

    def routes(self) -> list[Route]:
        """Everything that is served over HTTP."""
        return [
            *health_routes(self._showing.health(), health_keys(self._settings)),
            *ingest_routes(self._entrance, max_body_bytes=self._settings.http.max_body_bytes),
            *self._api.routes(),
            *dashboard_routes(),
            *(demo_sink_routes(self._sink) if self._sink else ()),
        ]

    async def _until_stopped(self, base_url: str) -> ExitCode:
        """Opens the store unless a signal comes first; then runs until one does."""
        code = ExitCode.CLEAN
        async with anyio.create_task_group() as starting:

            async def give_up_when_told() -> None:
                await self._signals.wait_first()
                starting.cancel_scope.cancel()

            starting.start_soon(give_up_when_told)
            self._identity = as_task(self._identity, await self._ecs.look())
            async with opened_store(store_choice(self._settings, self._seat.store_url)) as store:
                with anyio.CancelScope(shield=True):  # from here on a signal means drain; every phase of it is bounded
                    code = await self._with_store(store, base_url)
                starting.cancel_scope.cancel()
        return code

    async def _with_store(self, store: RedisStore, base_url: str) -> ExitCode:
        catalog = self._settings.catalog()
        if self._sink is not None:
            catalog = with_demo(catalog, base_url)
        destinations = allowed_destinations(self._settings)
        for webhook in catalog.webhooks.values():
            if (why_not := objection(webhook.url, destinations)) is not None:
                log.warning(
                    "webhook_unreachable_as_declared", webhook=webhook.id, cause=why_not, next_step="its deliveries end as dead letters"
                )
        transport = AiohttpTransport(destinations)
        brokers, connectors = opened_brokers(self._settings), opened_connectors(self._settings)
        try:
            engine = self._engine(store, transport, catalog, connectors)
            management = management_settings(self._settings)
            instances = instance_parts(engine, store, management, brokers)
            self._showing.brokers = instances.roster
            engine.contacts = contact_cache(engine, store, instances.roster)
            async with anyio.create_task_group() as running:
                await running.start(engine.run)
                self._entrance.open(engine.ingest)
                running.start_soon(instances.repairing.run)
                running.start_soon(self._showing.follow_drains, store.drain_reports)
                open_api(self._api, engine, store, management, instances)
                calm_collector()
                log.info("worker_ready", instances=len(catalog.instances), webhooks=len(catalog.webhooks))
                await self._work(base_url)
                running.start_soon(self._note_spill)
                code = await self._drain(engine, store)
                running.cancel_scope.cancel()
            return code
        finally:
            await transport.close()  # noqa: ASYNC102 - shielded and bounded inside
            await _close_all([*connectors.values(), *(served.broker for served in brokers)])  # noqa: ASYNC102 - the same

    def _engine(self, store: RedisStore, transport: Transport, catalog: Catalog, connectors: Mapping[str, Connector]) -> Engine:
        engine = Engine(store, transport, catalog, self._identity, engine_settings(self._settings), _world(connectors))
        engine.metrics.event_loop_lag.watch(self._lag.recent_s)
        engine.metrics.worker_clock_error.watch(self._ecs.clock_error)
        self._showing.engine = engine
        return engine

    async def _work(self, base_url: str) -> None:
        """Until the first signal; the demo's gateway ends with it."""
        self._parent.tell(ready=True)
        async with anyio.create_task_group() as working:
            if self._sink is not None and self._seat.index == 0:
                working.start_soon(_push_demo, base_url)
            await self._signals.wait_first()
            working.cancel_scope.cancel()

    async def _drain(self, engine: Engine, store: RedisStore) -> ExitCode:
        """The shutdown and its report. Whatever goes wrong inside becomes exit code 70 with its cause in the log."""
        await self._leave_siblings(engine)
        before = _counters(engine)
        signal_at_s = self._signals.first_at_s if self._signals.first_at_s is not None else monotonic_s()
        shutdown = engine.shutdown(signal_at_s=signal_at_s, budget_s=self._budget_s, spill_asked=lambda: self._spill_asked)
        shutdown.is_told_to_stop = self._ecs.is_told_to_stop
        self._showing.shutdown = shutdown
        code = ExitCode.LEFT_TO_TIME
        try:
            await shutdown.run()
            await engine.registry.withdraw()
            if shutdown.left_nothing:
                code = ExitCode.CLEAN
        except StoreUnavailable as exc:
            log.warning("store_away_at_exit", cause=str(exc), next_step="the journal has everything; leases end by themselves")
        except Exception:
            log.exception("shutdown_failed", next_step="what was accepted is in the journal; start again and look at the cause")
            code = ExitCode.NOT_DURABLE
        self._live.cancel()  # what it shows would stand below the report
        if engine.streams.sessions.undurable():
            code = ExitCode.NOT_DURABLE
        report = self._report(engine, shutdown, before, code)
        await self._keep(report, store)
        emit_report(self._lines, report, in_words=in_words(report))
        self._parent.tell(report=report)
        return code

    async def _leave_siblings(self, engine: Engine) -> None:
        """Where all leave, once all have said so; where we leave alone, new connections are for those who stay."""

        async def announce() -> None:
            engine.registry.is_draining = True
            await engine.registry.announce()

        if not await self._parent.leave_together(announce, self._budget_s) and self._seat.has_parent:
            self._stop_accepting()

    def _report(self, engine: Engine, shutdown: Shutdown, before: dict[str, int], code: ExitCode) -> dict[str, object]:
        successor, me, after = shutdown.successor, self._identity, _counters(engine)
        departure = Departure(
            reason=shutdown.rotation.reason,
            reason_source=shutdown.rotation.source,
            signal=self._signals.name,
            signals_seen=self._signals.seen,
            task_arn=self._ecs.task.arn if self._ecs.task else None,
            family=me.family,
            revision=me.revision,
            successor=successor.owner if successor else None,
            budget_s=self._budget_s,
        )
        leavings = Leavings(
            phases=shutdown.phases,
            accounts=list(shutdown.accounts.values()),
            at_signal=shutdown.at_signal,
            during={name: after[name] - before[name] for name in before if name not in RECEIPTS},
            spilled=shutdown.spilled,
            receipts={name: after[name] - before[name] for name in RECEIPTS},
            stuck=stuck_tasks(asyncio.get_running_loop()) if shutdown.unconfirmed else [],
            loop_lag_max_ms=round(self._lag.worst_s * 1000),
            undurable_ids=engine.streams.sessions.undurable(),
        )
        return drain_report(departure, leavings, exit_code=int(code))

    async def _keep(self, report: dict[str, object], store: RedisStore) -> None:
        """For `GET /api/drains`. The report is logged all the same."""
        kept = KeptReport(at=rfc3339(utc_now()), owner=self._identity.owner, report=report)
        try:
            with anyio.fail_after(KEEP_REPORT_S):
                await store.drain_reports.save(kept)
        except (StoreUnavailable, StoreFull, TimeoutError) as exc:
            log.warning("drain_report_not_kept", cause=str(exc) or type(exc).__name__, next_step="the log has it")

    async def _show_live(self) -> None:
        with self._live:
            await show_live(self._lines, lambda: self._showing.live_line(self._time_left))
            await self._parent.show(lambda: self._showing.live_line(self._time_left))

    async def _note_spill(self) -> None:
        await self._signals.wait_spill()
        self._spill_asked = True

    def _is_stopping(self) -> bool:
        return self._signals.first_at_s is not None

    def _is_shut(self) -> bool:
        engine = self._showing.engine
        return engine is not None and engine.door.state is DoorState.SHUT

    def _time_left(self) -> tuple[float, float]:
        since_s = monotonic_s() - (self._signals.first_at_s or monotonic_s())
        return max(0.0, self._budget_s - since_s), self._budget_s


def _seen_at(host: str) -> str:
    """Where a browser on this machine finds what listens there."""
    here = EVERYWHERE.get(host, host)
    return f"[{here}]" if ":" in here else here


async def _close_all(opened: Sequence[Broker | Connector]) -> None:
    """All at once, so that it is bounded by a second however many there are."""
    async with anyio.create_task_group() as closing:
        for one in opened:
            closing.start_soon(one.close)


def _world(connectors: Mapping[str, Connector]) -> World:
    chance = random.Random(secrets.token_bytes(16))  # noqa: S311 -- jitter: its seed differs by process, nothing else is asked of it

    def new_key() -> EventKey:
        return fresh_key(int(utc_now().timestamp() * 1000), secrets.token_bytes(10))

    return World(
        clocks=Clocks(monotonic_s=monotonic_s, wall_s=wall_s, unit_random=chance.random),
        stamps=Stamps(received_at=lambda: rfc3339(utc_now()), fresh_key=new_key),
        connectors=connectors,
    )


def _counters(engine: Engine) -> dict[str, int]:
    intake, settling, receipts = engine.ingest.intake, engine.settling, engine.streams.sessions.receipts
    return {
        "accepted": intake.events,
        "refused": intake.refused,
        "delivered": settling.delivered_count,
        "failed": settling.failed_count,
        "sent": receipts.sent,
        "handed_over": receipts.handed_over,
    }


async def _push_demo(base_url: str) -> None:
    async with pushing() as push:
        await push_demo_events(push.post, base_url)
