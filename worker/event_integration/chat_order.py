"""Order per chat (`ordering: chat`): which chat a delivery belongs to, and which chats wait in the store (design 3 "Order").

Owns the chats of each tenure and the instances' alias maps. A tenure's chats are loaded before its journal is first read; from then on
this worker parks all that is parked, so its copy can only think that more waits than does (a former owner settles its claims).

The key of a chat is the instance and the chat's phone form. An event that carries only a LID looks it up among the aliases learnt from
events that carry both; where none was seen yet the LID itself is the key, so that order holds among those events, not across the two names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial

from worker.client_registry.tenure import Tenure
from worker.domain.catalog import Catalog
from worker.domain.ids import InstanceId, Shard, WebhookId, shard_of
from worker.domain.record import Record
from worker.event_buffer.deliveries import Chat
from worker.event_integration.chat_aliases import ChatAliases
from worker.event_integration.retry_queue import RetryQueue

MAX_ALIASES = 100_000
"""In memory, over all shards; the longest unused give way."""
_LID = "@lid"

Alias = tuple[InstanceId, str]
ChatKey = tuple[WebhookId, str]


class ChatOrder:
    """`chat_of` for each delivery of an ordered webhook; `load` before a tenure's first read; `keep_aliases` before a checkpoint."""

    def __init__(self, retry_queue: RetryQueue, aliases: ChatAliases, catalog: Catalog, *, shards: int) -> None:
        self._retry_queue = retry_queue
        self._store = aliases
        self.webhooks = frozenset(w.id for w in catalog.webhooks.values() if w.ordering == "chat")
        """Those that want order."""
        self._instances = frozenset(
            i.id for i in catalog.instances.values() if any(w.id in self.webhooks for w in catalog.webhooks_of(i.id))
        )
        self._webhooks_in = _by_shard(catalog, self.webhooks, shards)
        self._chats: dict[Tenure, dict[ChatKey, Chat]] = {}
        self._aliases: OrderedDict[Alias, str] = OrderedDict()
        self._unkept: dict[Shard, dict[Alias, str]] = {}

    def __repr__(self) -> str:
        return f"<ChatOrder webhooks={len(self.webhooks)} chats={sum(map(len, self._chats.values()))} aliases={len(self._aliases)}>"

    def knows(self, tenure: Tenure) -> bool:
        """Whether the tenure may be read."""
        return not self.webhooks or tenure in self._chats

    async def load(self, tenure: Tenure) -> None:
        """Takes over what waits in the store. Raises `StoreUnavailable`; may be called again."""
        webhooks = self._webhooks_in.get(tenure.shard, ())
        waiting = await self._retry_queue.waiting_chats(tenure.shard, webhooks) if webhooks else {}
        for alias, phone in (await self._store.load(tenure.shard)).items() if webhooks else ():
            self._remember(alias, phone)
        self._chats.setdefault(tenure, {})
        for webhook_id, chats in waiting.items():
            for chat, count in chats.items():
                found = self._chat(tenure, webhook_id, chat)
                found.parked = max(found.parked, count)

    def forget(self, tenure: Tenure) -> None:
        """The tenure has ended; the next one loads anew."""
        self._chats.pop(tenure, None)

    # -- whose ---------------------------------------------------------------------------------------------------------

    def chat_of(self, tenure: Tenure, webhook_id: WebhookId, record: Record) -> Chat | None:
        """The chat this delivery must keep its place in; None for an event of no chat."""
        key = self.key_of(record)
        return None if key is None else self._chat(tenure, webhook_id, key)

    def claimed(self, tenure: Tenure, webhook_id: WebhookId, key: str) -> Chat | None:
        """The chat of a delivery that came out of the store: it waits there until it is settled, whatever we thought.

        None where the chat is in memory and nothing of it waits: then an attempt of ours became this claim, the answer was lost, and
        the attempt had its outcome without it. What has already had its turn holds back nobody.
        """
        chat = self._chat(tenure, webhook_id, key)
        if chat.users and not chat.parked:
            return None
        chat.parked = max(1, chat.parked)
        return chat

    def key_of(self, record: Record) -> str | None:
        """`<instance> <chat>`: the name a chat has in the store."""
        chat_id = record.chat_id
        if chat_id is None:
            return None
        if chat_id.endswith(_LID):
            phone = self._aliases.get((record.instance_id, chat_id))
            if phone is not None:
                self._aliases.move_to_end((record.instance_id, chat_id))
                chat_id = phone
        return f"{record.instance_id} {chat_id}"

    def _chat(self, tenure: Tenure, webhook_id: WebhookId, key: str) -> Chat:
        chats = self._chats.get(tenure)
        if chats is None:  # ended meanwhile: what is still done for it concerns nobody else
            chats = {}
        name = (webhook_id, key)
        chat = chats.get(name)
        if chat is None:
            chat = chats[name] = Chat(key, partial(chats.pop, name, None))
        return chat

    # -- aliases -------------------------------------------------------------------------------------------------------

    def learn(self, shard: Shard, record: Record) -> None:
        """Takes note of an event that names its chat both ways. Called before anything of it is recorded: what we lose is read again."""
        if record.instance_id not in self._instances or record.chat_id is None or record.chat_id.endswith(_LID):
            return
        for alias in record.chat_aliases:
            key = (record.instance_id, alias)
            if alias.endswith(_LID) and self._aliases.get(key) != record.chat_id:
                self._remember(key, record.chat_id)
                self._unkept.setdefault(shard, {})[key] = record.chat_id

    async def keep_aliases(self, shard: Shard) -> None:
        """Writes what was learnt in this shard. Before a checkpoint lets the events go that taught it. Raises `StoreUnavailable`."""
        learnt = self._unkept.pop(shard, None)
        if learnt:
            try:
                await self._store.learn(shard, learnt)
            except BaseException:
                self._unkept[shard] = learnt | self._unkept.get(shard, {})
                raise

    def _remember(self, alias: Alias, phone: str) -> None:
        self._aliases[alias] = phone
        self._aliases.move_to_end(alias)
        if len(self._aliases) > MAX_ALIASES:
            self._aliases.popitem(last=False)


def _by_shard(catalog: Catalog, webhooks: Iterable[WebhookId], shards: int) -> dict[Shard, tuple[WebhookId, ...]]:
    """Which ordered webhooks a shard can have deliveries of."""
    wanted = frozenset(webhooks)
    found: dict[Shard, dict[WebhookId, None]] = {}
    for instance in catalog.instances.values():
        for webhook in catalog.webhooks_of(instance.id):
            if webhook.id in wanted:
                found.setdefault(shard_of(instance.id, shards), {})[webhook.id] = None
    return {shard: tuple(ids) for shard, ids in found.items()}
