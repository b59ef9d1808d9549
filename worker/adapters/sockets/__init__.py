"""The streams of the gateways that have one, behind `worker.websocket.port`: WAHA's websocket, baileys-acessuswpp's server-sent events."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from worker.adapters.sockets.baileys import BaileysConnector
from worker.adapters.sockets.waha import WahaConnector
from worker.instances.broker import BrokerConfig
from worker.websocket.port import Connector

__all__ = ["GATEWAYS_WITH_STREAM", "open_connector"]

_ADAPTERS: Mapping[str, Callable[[BrokerConfig, ssl.SSLContext | None], Connector]] = {
    "baileys": BaileysConnector,
    "waha": WahaConnector,
}
GATEWAYS_WITH_STREAM = tuple(sorted(_ADAPTERS))


def open_connector(config: BrokerConfig, *, tls: ssl.SSLContext | None = None) -> Connector | None:
    """Connects to nothing yet. None: the gateway has no stream, or its broker wants none. `tls` None: the machine's own certificates."""
    adapter = _ADAPTERS.get(config.gateway)
    return None if adapter is None or not config.sockets else adapter(config, tls)
