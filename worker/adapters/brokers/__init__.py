"""The REST side of four gateways behind one port, `worker.instances.broker.Broker`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp.abc import AbstractResolver

from worker.adapters.brokers.baileys import BaileysBroker
from worker.adapters.brokers.evolution import EvolutionBroker
from worker.adapters.brokers.waha import WahaBroker
from worker.adapters.brokers.wuzapi import WuzapiBroker
from worker.instances.broker import Broker, BrokerConfig

__all__ = ["open_broker"]

_ADAPTERS: Mapping[str, Callable[[BrokerConfig, AbstractResolver | None], Broker]] = {
    "baileys": BaileysBroker,
    "evolution": EvolutionBroker,
    "waha": WahaBroker,
    "wuzapi": WuzapiBroker,
}


def open_broker(config: BrokerConfig, *, resolver: AbstractResolver | None = None) -> Broker:
    """Connects to nothing yet. Raises `KeyError` for a gateway whose REST side is not known."""
    return _ADAPTERS[config.gateway](config, resolver)
