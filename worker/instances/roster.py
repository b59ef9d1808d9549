"""The brokers there are, and whose they are: a broker that is not a tenant's does not exist for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.domain.ids import TenantId
from worker.instances.calling import Caller


@dataclass(frozen=True, slots=True)
class Post:
    """A configured broker. `tenant_ids` empty: every tenant's."""

    caller: Caller
    tenant_ids: frozenset[TenantId] = frozenset()


class Roster:
    """Fixed for the life of the worker: brokers are declared in the file."""

    def __init__(self, posts: Iterable[Post]) -> None:
        self._posts: Mapping[str, Post] = {post.caller.broker.id: post for post in posts}

    def find(self, tenant_id: TenantId, broker_id: str) -> Caller | None:
        """The tenant's broker of this id."""
        post = self._posts.get(broker_id)
        return post.caller if post is not None and _is_theirs(post, tenant_id) else None

    def first_of(self, tenant_id: TenantId, gateway: str) -> Caller | None:
        """The first broker of this gateway, as declared, that is the tenant's."""
        return next((caller for caller in self.of_tenant(tenant_id) if caller.broker.gateway == gateway), None)

    def of_tenant(self, tenant_id: TenantId) -> list[Caller]:
        """In the order of declaration."""
        return [post.caller for post in self._posts.values() if _is_theirs(post, tenant_id)]

    def all(self) -> list[Caller]:
        return [post.caller for post in self._posts.values()]

    def statistics(self) -> list[dict[str, object]]:
        """One row per broker, in the order of declaration."""
        return [caller.statistics() for caller in self.all()]

    def health(self) -> dict[tuple[str, ...], float]:
        """By gateway: 1.0 where every broker's circuit is closed, else 0.0."""
        found: dict[tuple[str, ...], float] = {}
        for caller in self.all():
            label = (caller.broker.gateway,)
            found[label] = min(found.get(label, 1.0), 1.0 if caller.is_well else 0.0)
        return found


def _is_theirs(post: Post, tenant_id: TenantId) -> bool:
    return not post.tenant_ids or tenant_id in post.tenant_ids
