"""The names of everything we keep in Redis, as tabled in docs/architecture.md "The store". Pure."""

from __future__ import annotations

from hashlib import sha256

from worker.domain.ids import EventKey, InstanceId, OwnerId, Shard, TenantId, WebhookId

RING_SLOTS = 4
CONFIG = "{wa}:config"
MEMBERS = "{wa}:members"
WEBHOOKS = "{wa}:webhooks"
PAUSES = "{wa}:pauses"
DRAINS = "{wa}:drains"
OFFERS = "{wa}:offers"
LIMITS = "{wa}:limits"
"""What stands before the keys of counted calls; the rest of such a key is the library's."""
DIRECTORY_CHANGES = "{wa}:directory:changes"


def directory_rows(kind: str) -> str:
    return f"{{wa}}:directory:{kind}"


def reserved(instance_id: str) -> str:
    return f"{{wa}}:reserved:{instance_id}"


def directory_claims(kind: str) -> str:
    return f"{{wa}}:directory:claims:{kind}"


def member(owner: OwnerId) -> str:
    return f"{{wa}}:member:{owner}"


def wake(owner: OwnerId) -> str:
    return f"{{wa}}:wake:{owner}"


def attempts(webhook_id: WebhookId) -> str:
    return f"{{wa}}:attempts:{webhook_id}"


def snapshot(tenant_id: TenantId) -> str:
    return f"{{wa}}:snapshot:{tenant_id}"


def once(tenant_id: TenantId, idempotency_key: str) -> str:
    """The key is somebody's own text, of any characters: its hash is short and plain."""
    return f"{{wa}}:once:{tenant_id}:{sha256(idempotency_key.encode()).hexdigest()}"


def contact(kind: str, place: int) -> str:
    """`kind`: `name`, `picture` or `failed`. Numbered, so that there are only so many, and no key tells a telephone number."""
    return f"{{wa}}:contact:{kind}:{place}"


class ShardKeys:
    """The keys of one shard; one hash tag, so that a script may touch several."""

    __slots__ = (
        "_tag",
        "aliases",
        "claims",
        "cursor",
        "dead",
        "dead_at",
        "deliveries",
        "done",
        "due",
        "epoch",
        "fence",
        "held",
        "journal",
        "lease",
        "marks",
        "ring",
        "seen",
        "tail",
        "waiting",
    )

    def __init__(self, shard: Shard) -> None:
        self._tag = tag = f"{{wa:{shard}}}:"
        self.lease = tag + "lease"
        self.fence = tag + "fence"
        self.epoch = tag + "epoch"
        self.tail = tag + "tail"
        self.journal = tag + "journal"
        self.seen = tag + "seen"
        self.ring = tuple(f"{tag}seen:{slot}" for slot in range(RING_SLOTS))
        self.cursor = tag + "cursor"
        self.done = tag + "done"
        self.marks = tag + "marks"
        self.waiting = tag + "waiting"
        self.deliveries = tag + "deliveries"
        self.claims = tag + "claims"
        self.due = tag + "due"
        self.held = tag + "held"
        self.dead = tag + "dead"
        self.dead_at = tag + "dead:at"
        self.aliases = tag + "aliases"

    def payload(self, event_key: EventKey) -> str:
        return f"{self._tag}payload:{event_key}"

    def resume(self, instance_id: InstanceId) -> str:
        return f"{self._tag}resume:{instance_id}"

    def due_of(self, webhook_id: WebhookId) -> str:
        return f"{self._tag}due:{webhook_id}"

    def line_of(self, webhook_id: WebhookId) -> tuple[str, str, str]:
        """A webhook's keys: due, chats, order."""
        return f"{self._tag}due:{webhook_id}", f"{self._tag}chats:{webhook_id}", f"{self._tag}order:{webhook_id}"
