"""Order per chat (`ordering: chat`): which chat a delivery belongs to, and which chats wait in the store (design 3 "Order").

Owns the chats of each tenure and the instances' alias maps. A tenure's chats are loaded before its journal is first read; from then on
this worker parks all that is parked, so its copy can only think that more waits than does (a former owner settles its claims). A webhook
that begins to want order makes every tenure one to load again, for some of its chats may wait in the store since it last did.

The key of a chat is the instance and the chat's phone form. An event that carries only a LID looks it up among the aliases learnt from
events that carry both; where none was seen yet the LID itself is the key, so that order holds among those events, not across the two names.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from worker.client_registry.tenure import Tenure
from worker.domain.catalog import Catalog, Row, Webhook
from worker.domain.ids import InstanceId, Shard, WebhookId
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

    def __init__(self, retry_queue: RetryQueue, aliases: ChatAliases, catalog: Catalog) -> None:
        self._retry_queue = retry_queue
        self._store = aliases
        self._catalog = catalog
        self.webhooks = {w.id for w in catalog.webhooks.values() if w.ordering == "chat"}
        """Those that want order. Changed in place, by this object only."""
        self._wants_names: dict[InstanceId, bool] = {}
        """Of the instances asked about: whether a webhook of theirs wants order."""
        self._chats: dict[Tenure, dict[ChatKey, Chat]] = {}
        self._loaded: dict[Tenure, set[WebhookId]] = {}
        self._to_load: set[Tenure] = set()
        """Loaded once, and since then another webhook has come to want order."""
        self._aliases: OrderedDict[Alias, str] = OrderedDict()
        self._unkept: dict[Shard, dict[Alias, str]] = {}

    def __repr__(self) -> str:
        return f"<ChatOrder webhooks={len(self.webhooks)} chats={sum(map(len, self._chats.values()))} aliases={len(self._aliases)}>"

    def row_changed(self, row: Row) -> bool:
        """The catalog has another row, or lost one: who wants order now. True: tenures are to be loaded again before they are read on."""
        self._wants_names.clear()
        if not isinstance(row, Webhook):
            return False
        is_ordered = row.ordering == "chat" and row.id in self._catalog.webhooks
        if is_ordered == (row.id in self.webhooks):
            return False
        if not is_ordered:
            self.webhooks.discard(row.id)
            return False
        self.webhooks.add(row.id)
        for tenure, loaded in self._loaded.items():
            loaded.discard(row.id)
            self._to_load.add(tenure)
        return True

    def knows(self, tenure: Tenure) -> bool:
        """Whether the tenure may be read."""
        return not self.webhooks or (tenure in self._loaded and tenure not in self._to_load)

    async def load(self, tenure: Tenure) -> None:
        """Takes over what waits in the store. Raises `StoreUnavailable`; may be called again."""
        webhooks = self.webhooks - self._loaded.get(tenure, set())
        waiting = await self._retry_queue.waiting_chats(tenure.shard, sorted(webhooks))
        for alias, phone in (await self._store.load(tenure.shard)).items() if tenure not in self._loaded else ():
            self._remember(alias, phone)
        self._chats.setdefault(tenure, {})
        for webhook_id, chats in waiting.items():
            for chat, count in chats.items():
                found = self._chat(tenure, webhook_id, chat)
                found.parked = max(found.parked, count)
        loaded = self._loaded[tenure] = self._loaded.get(tenure, set()) | webhooks
        if self.webhooks <= loaded:
            self._to_load.discard(tenure)
        else:  # one more came to want order while the store was asked
            self._to_load.add(tenure)

    def forget(self, tenure: Tenure) -> None:
        """The tenure has ended; the next one loads anew."""
        self._chats.pop(tenure, None)
        self._loaded.pop(tenure, None)
        self._to_load.discard(tenure)

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
        if record.chat_id is None or record.chat_id.endswith(_LID) or not self._is_ordered(record):
            return
        for alias in record.chat_aliases:
            key = (record.instance_id, alias)
            if alias.endswith(_LID) and self._aliases.get(key) != record.chat_id:
                self._remember(key, record.chat_id)
                self._unkept.setdefault(shard, {})[key] = record.chat_id

    def _is_ordered(self, record: Record) -> bool:
        """Whether a webhook of its instance wants order, be it this event or others."""
        wants = self._wants_names.get(record.instance_id)
        if wants is None:
            if len(self._wants_names) >= MAX_ALIASES:
                self._wants_names.clear()
            webhooks = self._catalog.webhooks_for(record.tenant_id, record.instance_id)
            wants = self._wants_names[record.instance_id] = any(w.id in self.webhooks for w in webhooks)
        return wants

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
