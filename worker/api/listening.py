"""Sockets that listen: opened before anything serves on them, so that they can be handed on. Says why one cannot be had."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from worker.domain.errors import ConfigurationError

LISTEN_BACKLOG = 1_024


def opened(host: str, port: int, asked_by: str = "http.port (WORKER_HTTP__PORT)") -> list[socket.socket]:
    """One for each address of `host`, as an event loop would open them; connections wait in line from here on.

    Blocks while the name is looked up. Raises `ConfigurationError`.
    """
    with ExitStack() as undo:
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
            listening = [undo.enter_context(_bound(family, address)) for family, address in addresses]
        except OSError as exc:
            raise ConfigurationError([why_not(exc, host, port, asked_by)]) from exc
        undo.pop_all()
        return listening


def _bound(family: socket.AddressFamily, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - there is no other way to say it
    except BaseException:
        listener.close()
        raise
    return listener


def why_not(exc: OSError, host: str, port: int, asked_by: str = "http.port (WORKER_HTTP__PORT)") -> str:
    """For the operator: setting, value, what to do."""
    if exc.errno == errno.EADDRINUSE:
        return f"{asked_by}: {port} on {host} is in use by another process; stop that one or choose a free port"
    if exc.errno == errno.EACCES:
        return f"{asked_by}: {port} may not be opened by this user; choose one above 1023"
    return f"http.host (WORKER_HTTP__HOST): cannot listen on {host}:{port} ({exc.strerror}); use an address of this machine"
