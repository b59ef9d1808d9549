"""Why a worker stops, as far as anybody can tell: said in log, metric and report, and believed by nothing else. Pure.

| who is ready beside us | a platform runs us | nobody does |
|---|---|---|
| another revision of ours | deployment | deployment |
| our own revision | replacement (local, where ECS itself wants us running) | replacement |
| nobody | scale_in (local, where ECS itself wants us running) | local |
| could not be read | local where ECS wants us running, else unknown | local where we alone hold the store, else unknown |

An older revision left alone beside us means that ours is rolled back, a deployment too. Revisions compare within one family only: a ready
worker of another family counts as one that takes our place. ECS says *that* it stops a task (`DesiredStatus`), never why.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from worker.client_registry.port import Member
from worker.client_registry.registry import Identity


class Reason(StrEnum):
    """The closed set of `worker.rotations`."""

    DEPLOYMENT = "deployment"
    REPLACEMENT = "replacement"
    SCALE_IN = "scale_in"
    LOCAL = "local"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """What the reason was read from."""

    MEMBERSHIP = "membership"
    ECS = "ecs"
    NONE = "none"


class Rotation(NamedTuple):
    reason: Reason
    source: Source


UNTOLD = Rotation(Reason.UNKNOWN, Source.NONE)
"""Before anybody was asked."""


def rotation(me: Identity, members: Sequence[Member] | None, *, is_told_to_stop: bool | None) -> Rotation:
    """`members`: who is live, us included or not; None where nobody could say. `is_told_to_stop`: what ECS wants of us, where it says."""
    if members is None:
        return _unseen(me, is_told_to_stop=is_told_to_stop)
    ready = [m for m in members if m.owner != me.owner and m.ready and not m.draining]
    kin = [m.revision for m in ready if m.family == me.family]
    if any(revision > me.revision for revision in kin) or (kin and me.revision not in kin):
        return Rotation(Reason.DEPLOYMENT, Source.MEMBERSHIP)
    if is_told_to_stop is False:
        return Rotation(Reason.LOCAL, Source.ECS)
    if ready:
        return Rotation(Reason.REPLACEMENT, Source.MEMBERSHIP)
    return Rotation(Reason.SCALE_IN if me.is_managed else Reason.LOCAL, Source.MEMBERSHIP)


def _unseen(me: Identity, *, is_told_to_stop: bool | None) -> Rotation:
    """The membership could not be read."""
    if is_told_to_stop is False:
        return Rotation(Reason.LOCAL, Source.ECS)
    return Rotation(Reason.LOCAL, Source.NONE) if me.sole else UNTOLD
