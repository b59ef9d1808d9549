"""One pure module per gateway: verify and decode. To add one: a module that offers what `port.Gateway` names, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from worker.gateways import baileys, cloud_api, evolution, generic, gowa, waha, wuzapi, zapi
from worker.gateways.port import Gateway

GATEWAYS: Mapping[str, Gateway] = MappingProxyType(
    {
        "baileys": baileys,
        "cloud-api": cloud_api,
        "evolution": evolution,
        "generic": generic,
        "gowa": gowa,
        "waha": waha,
        "wuzapi": wuzapi,
        "zapi": zapi,
    }
)
"""By the name in the ingest path and in `[[instances]]`."""

_NOBODYS_SECRETS = frozenset({"secret", "changeme", "your-secret", "your-secret-key"})
DEFAULT_SECRETS: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: _NOBODYS_SECRETS | gateway.PUBLISHED_SECRETS for name, gateway in GATEWAYS.items()}
)
"""What a signature proves nothing with, by gateway: refused at configuration."""
