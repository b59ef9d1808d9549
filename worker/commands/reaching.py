"""Whether somebody listens at a worker's address: asked before a command begins, so that a wrong one is told at once."""

from __future__ import annotations

from urllib.parse import urlsplit

import anyio

from worker.domain.errors import ConfigurationError, DependencyUnreachable

REACH_S = 5.0


async def reach(url: str) -> None:
    """Raises `ConfigurationError` for what is no address of a worker, `DependencyUnreachable` where nobody listens."""
    host, port = _address(url)
    try:
        with anyio.fail_after(REACH_S):
            stream = await anyio.connect_tcp(host, port)
    except TimeoutError:
        raise _nobody(host, port, f"no connection within {REACH_S:g} s") from None
    except OSError as exc:
        cause = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc  # anyio wraps what one address said
        raise _nobody(host, port, "connection refused" if isinstance(cause, ConnectionRefusedError) else str(cause)) from exc
    await stream.aclose()


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        shown = "(not shown)" if "@" in url else url  # before it stands a password
        raise ConfigurationError([f"--url: {shown}: allowed: http:// or https://, host and port of a worker"])
    return parts.hostname, port


def _nobody(host: str, port: int, cause: str) -> DependencyUnreachable:
    next_step = "start the worker, or say where it listens with --url or http.port (WORKER_HTTP__PORT)"
    return DependencyUnreachable(f"no worker at {host} port {port}: {cause}; {next_step}")
