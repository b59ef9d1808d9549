"""The streams of the gateways that have one, behind `worker.websocket.port`: WAHA's websocket, baileys-acessuswpp's server-sent events."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from aiohttp.abc import AbstractResolver

from worker.adapters.sockets.baileys import BaileysConnector
from worker.adapters.sockets.client import Reaching
from worker.adapters.sockets.waha import WahaConnector
from worker.instances.broker import BrokerConfig
from worker.websocket.port import Connector

__all__ = ["GATEWAYS_WITH_STREAM", "open_connector"]

_ADAPTERS: Mapping[str, Callable[[BrokerConfig, Reaching], Connector]] = {
    "baileys": BaileysConnector,
    "waha": WahaConnector,
}
GATEWAYS_WITH_STREAM = tuple(sorted(_ADAPTERS))


def open_connector(
    config: BrokerConfig, *, resolver: AbstractResolver | None = None, tls: ssl.SSLContext | None = None
) -> Connector | None:
    """Connects to nothing yet. None: the gateway has no stream, or its broker wants none. `tls` None: the machine's own certificates."""
    adapter = _ADAPTERS.get(config.gateway)
    return None if adapter is None or not config.sockets else adapter(config, Reaching(resolver, tls))
