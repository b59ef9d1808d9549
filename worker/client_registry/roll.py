"""Who is there, and who holds what: for people. Reads what the registry knows anyway, asks nobody, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from worker.client_registry.registry import Registry

ELSEWHERE = {"token": None, "validForS": None, "since": None, "heldForS": None}
"""What only its owner knows of a tenure."""


def roll(registry: Registry) -> dict[str, Any]:
    """`{workers, shards}`: ourselves as we are now, the others as they were at our last heartbeat.

    Workers in the order of revision, newest first, then by owner; all shards in order, `owner` None where nobody is known to hold it.
    """
    owner = registry.identity.owner
    rows: Any = registry.role()["shards"]
    mine = {row["shard"]: row for row in rows}
    members = {member.owner: member for member in registry.members} | {owner: registry.me()}
    ordered = sorted(members.values(), key=lambda m: (-m.revision, m.owner))
    return {
        "workers": [asdict(member) | {"me": member.owner == owner} for member in ordered],
        "shards": [_row(shard, mine, owner, registry.holders) for shard in range(registry.shards)],
    }


def _row(shard: int, mine: Mapping[int, Mapping[str, Any]], owner: str, holders: Mapping[Any, str]) -> dict[str, Any]:
    """A shard that we were said to hold and do not has no known owner."""
    if shard in mine:
        return {"owner": owner, **mine[shard]}
    holder = holders.get(shard)
    return {"shard": shard, "owner": None if holder == owner else holder, **ELSEWHERE}
