"""The words of the command line, by typer. Loaded only when the command is not plainly `run`: the daemon does not need it."""

from __future__ import annotations

import random
import sys
from typing import Annotated, Literal

import anyio
import typer

from worker.commands.refusals import guarded
from worker.domain.catalog import Catalog
from worker.domain.errors import ConfigurationError
from worker.lifecycle import ExitCode, Signals, arm
from worker.settings import Settings

application = typer.Typer(name="whatsapp-worker", add_completion=False, pretty_exceptions_enable=False)


def line(words: list[str], signals: Signals | None = None) -> int:
    """Parses and runs; answers the exit code. A word that is not understood is 2, as everywhere. `signals`: if already taken."""
    try:
        application(words, obj=signals)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - the signature of a callback
    if wanted:
        from importlib.metadata import version

        print(f"whatsapp-worker {version('whatsapp-event-worker')}")
        raise typer.Exit


@application.callback()
def words_of_all(
    *, version: Annotated[bool, typer.Option("--version", help="Say the version and leave.", callback=_say_version, is_eager=True)] = False
) -> None:
    """The worker that never loses a WhatsApp event."""


@application.command("run")
def run_command(
    context: typer.Context,
    *,
    processes: Annotated[int, typer.Option(help="Workers on one port, under a parent; 0: one for each usable core.", min=0, max=64)] = 1,
    process_ports: Annotated[
        int | None,
        typer.Option(
            help="Each process listens on one of its own too, for its /metrics: the first here, the next on the next.", min=1, max=65_000
        ),
    ] = None,
) -> None:
    """The daemon (default). SIGTERM or Ctrl-C drains it; settings come from the environment and the file named by WORKER_CONFIG."""
    signals = context.obj if isinstance(context.obj, Signals) else arm()
    from worker.commands.processes import run_processes, usable_cores

    if (count := processes or usable_cores()) > 1 or process_ports is not None:
        raise typer.Exit(run_processes(signals, count, process_ports))
    from worker.commands.run import run

    raise typer.Exit(run(signals))


@application.command("check")
def check_command() -> None:
    """Validates the settings, reaches the store, prints what can be relied on. Changes nothing; exit 78 or 69 when it would not run.

    Not looked at, because a worker that runs here may have both: whether http.port is free, and whether data_dir is. The embedded server
    is not started, so at how many registry.shards it was fixed is not known either.
    """

    def command(settings: Settings) -> int:
        from worker.commands.check import check

        for told in anyio.run(check, settings):
            print(told)
        return ExitCode.CLEAN

    raise typer.Exit(guarded(command))


@application.command("simulate")
def simulate_command(  # noqa: PLR0913 - one per option
    *,
    gateway: Annotated[
        Literal["baileys", "cloud-api", "evolution", "generic", "gowa", "waha", "wuzapi", "zapi"], typer.Option(help="Whose traffic.")
    ] = "generic",
    rate: Annotated[float, typer.Option(help="Events per second.", min=0.1, max=10_000)] = 10,
    seconds: Annotated[float, typer.Option(help="For how long.", min=0.1, max=86_400)] = 30,
    instances: Annotated[str, typer.Option(help="How many declared instances to play, or their ids with commas between.")] = "1",
    duplicates: Annotated[float, typer.Option(help="Share of pushes that repeat an earlier one.", min=0, max=1)] = 0.02,
    seed: Annotated[int | None, typer.Option(help="The same seed is the same run; a second one is all duplicates.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The worker's address; else what http.host and http.port (WORKER_HTTP__PORT) say.")
    ] = None,
    secret: Annotated[str | None, typer.Option(help="Sign with this; else with the instance's first ingest secret.")] = None,
) -> None:
    """Sends a gateway's traffic, correctly signed, to a worker. Exit 1: something was refused, unanswered or not sent; 69: no worker there.

    It plays instances that your settings declare, and whatever webhooks you declared for them get the events.
    """

    def command(settings: Settings) -> int:
        from worker.commands.simulate import Plan, senders, simulate

        address = (url or f"http://{settings.http.host}:{settings.http.port}").rstrip("/")
        plan = Plan(
            gateway=gateway,
            rate=rate,
            seconds=seconds,
            duplicates=duplicates,
            seed=random.randrange(2**32) if seed is None else seed,  # noqa: S311 - a simulation
            url=address,
            senders=senders(_playable(settings, address), gateway, instances, secret),
        )
        return 0 if anyio.run(simulate, plan).is_clean else 1

    raise typer.Exit(guarded(command))


@application.command("fake-gateway")
def fake_gateway_command(
    *,
    gateway: Annotated[Literal["baileys", "evolution", "waha", "wuzapi"], typer.Option(help="Which one to pretend to be.")] = "waha",
    port: Annotated[int, typer.Option(help="On loopback; 0 takes any that is free.", min=0, max=65_535)] = 3000,
    api_key: Annotated[str, typer.Option(help="The key it wants.")] = "fake-gateway-key",
    push_url: Annotated[str | None, typer.Option(help="Where instances push that were not told where (all of baileys).")] = None,
    push_secret: Annotated[str | None, typer.Option(help="What those pushes are signed with.")] = None,
    seed: Annotated[int, typer.Option(help="Of the events it makes up.")] = 1,
) -> None:
    """Pretends to be a gateway: its REST side, signed events, and any trouble you tell it to make. Needs no settings; Ctrl-C ends it."""
    from worker.commands.fake_gateway import serve
    from worker.fake_gateway.server import Plan

    plan = Plan(gateway=gateway, port=port, api_key=api_key, push_url=push_url, push_secret=push_secret, seed=seed)
    try:
        anyio.run(serve, plan)
    except ConfigurationError as error:
        print(*error.faults, sep="\n", file=sys.stderr)
        raise typer.Exit(ExitCode.MISCONFIGURED) from None


@application.command("replay")
def replay_command(  # noqa: PLR0913 - one per option
    *,
    events: Annotated[bool, typer.Option("--events/--dead-letters", help="Past events of a webhook, or dead letters.")] = False,
    webhook: Annotated[str | None, typer.Option(help="Of this webhook. Needed with --events.")] = None,
    instance: Annotated[str | None, typer.Option(help="Dead letters of this instance.")] = None,
    reason: Annotated[str | None, typer.Option(help="Dead letters of this reason, as attempts_exhausted.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339: died then or later; with --events: received then or later.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339: before.")] = None,
    to_webhook: Annotated[str | None, typer.Option(help="Dead letters to this webhook; else each to its own.")] = None,
    rate: Annotated[int, typer.Option(help="Deliveries per second.", min=1, max=1_000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where an earlier run was stopped.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The worker's address; else what http.host and http.port (WORKER_HTTP__PORT) say.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A key of the tenant, or the admin key; else WORKER_HTTP__ADMIN_KEY.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose data. Needed with the admin key.")] = None,
) -> None:
    """Delivers dead letters, or past events of a webhook, once more. Exit 1: refused; 69: no worker there; 130: stopped by Ctrl-C.

    What is queued is delivered whatever becomes of this command; Ctrl-C stops it between two pages.
    """

    def command(settings: Settings) -> int:
        from worker.commands.replay import Asked, plan_of, replay_until_told

        wanted = {"webhookId": webhook, "instanceId": instance, "reason": reason, "since": since, "until": until}
        admin_key = settings.http.admin_key.get_secret_value() if settings.http.admin_key else None
        plan = plan_of(
            (url or f"http://{settings.http.host}:{settings.http.port}").rstrip("/"),
            key or admin_key,
            tenant,
            Asked(events=events, wanted=wanted, to_webhook=to_webhook, rate_per_s=rate, cursor=cursor),
        )
        return replay_until_told(plan)

    raise typer.Exit(guarded(command))


@application.command("status")
def status_command(
    *,
    raw: Annotated[bool, typer.Option("--json", help="The page as it is.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C, whatever becomes of the worker.")] = False,
    url: Annotated[
        str | None, typer.Option(help="The worker's address; else what http.host and http.port (WORKER_HTTP__PORT) say.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The admin key; else WORKER_HTTP__ADMIN_KEY. Needed where it is not on loopback.")] = None,
) -> None:
    """Asks a running worker for its status and prints it: workers, shards, sockets, buffers, lag. Exit 1: refused; 69: no worker there."""

    def command(settings: Settings) -> int:
        from worker.commands.status import Asked, show_status

        address = (url or f"http://{settings.http.host}:{settings.http.port}").rstrip("/").removesuffix("/status")
        admin_key = settings.http.admin_key.get_secret_value() if settings.http.admin_key else None
        return show_status(Asked(url=address, key=key or admin_key, raw=raw, watch=watch))

    raise typer.Exit(guarded(command))


def _playable(settings: Settings, url: str) -> Catalog:
    """What is declared; the demo's instances where nothing is, because then a worker that answers can only be running the demo."""
    from worker.demo import with_demo

    catalog = settings.catalog()
    return with_demo(catalog, url) if settings.demo or not catalog.instances else catalog
