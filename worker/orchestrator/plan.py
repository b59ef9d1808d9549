"""Which sessions to start and which to stop: from what is owned, what is offered to us, what is wanted and what runs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from worker.domain.ids import InstanceId, Shard


class Place(NamedTuple):
    """Where an instance is read; another place is another stream, and wants another session."""

    broker: str
    gateway_instance: str


class Wanted(NamedTuple):
    """An instance whose stream can be read. `may_prepare`: also while its present owner still reads it."""

    shard: Shard
    place: Place
    may_prepare: bool


class Plan(NamedTuple):
    """`start` in the order of importance; `over`: those that would be started if there were room."""

    start: tuple[InstanceId, ...]
    stop: tuple[InstanceId, ...]
    over: int


def plan(
    wanted: Mapping[InstanceId, Wanted],
    *,
    owned: Collection[Shard],
    prepared: Collection[Shard],
    running: Mapping[InstanceId, Place],
    room: int,
) -> Plan:
    """What brings `running` to what it should be; `room`: how many sessions more there may be.

    An instance that has moved is stopped now, and started when it is over: until then it runs.
    """
    ours = [name for name, one in wanted.items() if one.shard in owned]
    offered = [name for name, one in wanted.items() if one.shard in prepared and one.shard not in owned and one.may_prepare]
    due = [name for name in (*ours, *offered) if name not in running]
    keep = {*ours, *offered}
    stop = tuple(name for name, place in running.items() if name not in keep or wanted[name].place != place)
    start = tuple(due[: max(0, room)])
    return Plan(start, stop, len(due) - len(start))
