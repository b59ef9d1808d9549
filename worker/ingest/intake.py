"""What has come in, counted and told of: by the handler of pushes and by the frames of sockets alike. Decides nothing."""

from __future__ import annotations

import re

import structlog

from worker.domain.catalog import Instance
from worker.domain.errors import MalformedEvent, place_of
from worker.domain.ids import InstanceId
from worker.gateways.reading import subtype_of
from worker.ingest.preparation import Prepared
from worker.metrics import Metrics

MAX_FAULTS_LOGGED = 100
MAX_NAMES_LOGGED = 100
_LONG_NUMBER = re.compile(r"\d+(?=\d{4})")

log = structlog.get_logger("worker.ingest")


class Intake:
    """Since the start. `events`, `duplicates`: received; `refused`: pushes told to come again; `rejected`: those that may not."""

    __slots__ = ("_faults_logged", "_metrics", "_names_logged", "duplicates", "events", "refused", "rejected")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._faults_logged: set[tuple[str, str]] = set()
        self._names_logged: set[tuple[InstanceId, str]] = set()
        self.events = 0
        self.duplicates = 0
        self.refused = 0
        self.rejected = 0

    def __repr__(self) -> str:
        return f"<Intake events={self.events} duplicates={self.duplicates} refused={self.refused} rejected={self.rejected}>"

    def count(self, instance: Instance, prepared: Prepared, duplicate: list[bool]) -> None:
        """All of `prepared` is in the journal; `duplicate[i]`: it was there before."""
        metrics, tenant = self._metrics, instance.tenant_id
        duplicates = sum(duplicate)
        self.events += len(duplicate) - duplicates
        self.duplicates += duplicates
        for event_type, again in zip(prepared.types, duplicate, strict=True):
            if not again:
                metrics.ingest_events.add(tenant, event_type.value)
        if duplicates:
            metrics.ingest_duplicates.add(tenant, amount=duplicates)
        if prepared.misnamed:
            metrics.ingest_misnamed.add(tenant, amount=len(prepared.misnamed))
            self._note_names(instance, prepared.misnamed)
        if prepared.fault is not None:
            metrics.ingest_undecodable.add(instance.gateway)
            self.note_fault(instance.gateway, prepared.fault)

    def note_fault(self, gateway: str, fault: Exception | None) -> None:
        """Once for each kind of fault: a gateway that sends the same again a million times must not fill the log."""
        if fault is None or len(self._faults_logged) >= MAX_FAULTS_LOGGED:
            return
        kind = (gateway, fault.field if isinstance(fault, MalformedEvent) else place_of(fault))
        if kind in self._faults_logged:
            return
        self._faults_logged.add(kind)
        if isinstance(fault, MalformedEvent):
            next_step = "is the broker's url that of this gateway? the frames are kept whole, as unknown/undecodable"
            log.warning("frame_not_of_this_gateway", gateway=gateway, cause=f"{fault.field}: {fault.why}", next_step=next_step)
        else:
            log.error("gateway_module_failed", gateway=gateway, cause=kind[1], next_step="report it; the events are kept whole")

    def _note_names(self, instance: Instance, names: list[str]) -> None:
        """Once for each name at an instance, as long as they are few: names come from outside."""
        for name in dict.fromkeys(names):
            pair = (instance.id, _shown(name))
            if len(self._names_logged) < MAX_NAMES_LOGGED and pair not in self._names_logged:
                self._names_logged.add(pair)
                log.warning(
                    "gateway_instance_unknown",
                    instance=instance.id,
                    gateway_instance=pair[1],
                    cause="no instance of this tenant has this name at the gateway; its events are kept under the path's instance",
                    next_step="declare an instance with this gateway_instance, or correct the URL at the gateway",
                )


def _shown(name: str) -> str:
    """A name from outside, fit for a log: some call their sessions by the phone number, so of a number the last four digits stay."""
    return _LONG_NUMBER.sub("…", subtype_of(name))
