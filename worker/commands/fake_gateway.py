"""`fake-gateway`: serves a gateway that does not exist until it is told to stop, for trying the API by hand and for demos."""

from __future__ import annotations

import signal

import anyio

from worker.domain.errors import ConfigurationError
from worker.fake_gateway.server import Plan, fake_gateway

WORKER_URL = "http://127.0.0.1:8080"
"""Of a worker on this machine that was told no other port."""


async def serve(plan: Plan) -> None:
    """Until SIGINT or SIGTERM. Raises `ConfigurationError` where the port cannot be had."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with fake_gateway(plan) as fake:
                print(*greeting(plan, fake.url), sep="\n", flush=True)
                async for _ in signals:
                    return
        except OSError as error:
            raise ConfigurationError([f"--port: {plan.port}: allowed: a free port ({error.strerror})"]) from None


def greeting(plan: Plan, url: str) -> list[str]:
    """What to put where, line by line."""
    return [
        f"A fake {plan.gateway} listens at {url}. In the worker's file:",
        "",
        *_where_it_pushes(plan),
        "[[brokers]]",
        f'id = "fake-{plan.gateway}"',
        f'gateway = "{plan.gateway}"',
        f'url = "{url}"',
        f'api_key = "{plan.api_key}"',
        "",
        f'Make trouble: curl {url}/_fake/trouble -d \'{{"match": "GET *", "kind": "status", "status": 503, "times": 2}}\'',
        "Ctrl-C ends it.",
    ]


def _where_it_pushes(plan: Plan) -> list[str]:
    if plan.gateway == "baileys" and plan.push_url is not None:
        return []
    if plan.gateway == "baileys":
        return [f"# it takes no address with an instance: to push, start it with --push-url {WORKER_URL}/ingest/baileys/<instance id>", ""]
    return ["[http]", f'public_url = "{WORKER_URL}"  # where this worker listens: a created instance pushes there', ""]
