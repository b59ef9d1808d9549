"""Identifiers, and the two that are computed: the shard of an instance and the id of a delivery. Pure."""

from __future__ import annotations

import hashlib
from typing import NewType
from zlib import crc32

TenantId = NewType("TenantId", str)
InstanceId = NewType("InstanceId", str)
WebhookId = NewType("WebhookId", str)
EventKey = NewType("EventKey", str)
"""64 lower-case hex digits, or `ulid:…` for an event that has no identity (see `gateways/identity.py`)."""
DeliveryId = NewType("DeliveryId", str)
Shard = NewType("Shard", int)
Position = NewType("Position", int)
"""Where an event stands in its shard's journal: 1, 2, 3 … without meaning beyond order; gaps are legal."""
Token = NewType("Token", int)
"""A fencing token: below 2**53, larger for each later grant of the same shard, compared as a number."""
ClaimId = NewType("ClaimId", int)
OwnerId = NewType("OwnerId", str)
"""One life of one worker process: a task's name and a random part."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What the ids of tenants, brokers, instances and webhooks look like: they stand in URLs, in keys of the store and in labels."""


def shard_of(instance_id: InstanceId, shards: int) -> Shard:
    """The shard that owns an instance, for ever the same while `shards` is."""
    return Shard(crc32(instance_id.encode()) % shards)


_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(first + second for first in _BASE32 for second in _BASE32)
"""Ten bits at a time: `base64.b32encode` is Python, and the dearest line of the hot path."""
_SHIFTS = tuple(range(120, -1, -10))


def delivery_id(event_key: EventKey, webhook_id: WebhookId) -> DeliveryId:
    """The receiver's `webhook-id`: the same over retries, owners, re-reads and late duplicates (contract 4)."""
    digest = hashlib.sha256(f"{len(event_key)}:{event_key}{webhook_id}".encode()).digest()
    bits = int.from_bytes(digest[:17]) >> 6  # 26 letters are 130 bits
    return DeliveryId("msg_" + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS]))
