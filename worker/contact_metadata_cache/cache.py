"""The cache: memory in front of the store in front of the brokers. What it does not know at once it looks for beside everything.

```
 expect ──┐                  ┌─▶ memory ─▶ store ─▶ broker (asking.py) ─▶ store, memory
          ├─ one flight each ┘                                              │
 contact ─┴────────── waits for it, until its deadline at most ◀────────────┘
```

One flight per contact; across workers the store's entry, read before a broker is asked. Nothing here is needed: a store or a
broker that fails costs the contact, never the event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import anyio
import anyio.abc
import structlog
from cachetools import TLRUCache

from worker.contact_metadata_cache.asking import Asking, WhyNot
from worker.contact_metadata_cache.entry import Entry, Knowledge
from worker.contact_metadata_cache.port import ContactStore
from worker.domain.contact import Contact, ContactKey, Mention, mentioned
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull, StoreUnavailable, place_of
from worker.domain.record import Record
from worker.metrics_cells import Counter

log = structlog.get_logger("worker.contacts")

IN_MEMORY = 20_000
"""Contacts; some 20 MB with URLs of the usual length."""
MAX_FLIGHTS = 1_024
NAMES_IN_LINE = 1_024
LOADS_AT_ONCE = 4
"""Of the store's data connections, which the journal needs too."""
_COUNTED = {WhyNot.TIMEOUT: "timeout", WhyNot.NOT_CONNECTED: "not_connected", WhyNot.LIMITED: "limited"}


class ContactMetadataCache:
    """`Enrichment`. `clock` is monotonic; `lookups` counts by result (contract 7)."""

    def __init__(self, store: ContactStore, asking: Asking, clock: Callable[[], float], lookups: Counter) -> None:
        self.asking = asking
        self.is_store_tight: Callable[[], bool] = lambda: False
        """While it is, nothing more is kept there: what is remembered gives way first."""
        self._store = store
        self._clock = clock
        self._lookups = lookups
        self._memory: TLRUCache[ContactKey, Entry, float] = TLRUCache(IN_MEMORY, lambda _key, entry, _now_s: entry.gone_at_s, timer=clock)
        self._flights: dict[ContactKey, anyio.Event] = {}
        self._loads = anyio.Semaphore(LOADS_AT_ONCE)
        self._names: dict[ContactKey, str] = {}
        """Heard, and not in the store yet."""
        self._name_heard = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<ContactMetadataCache {len(self._memory)} contacts, {len(self._flights)} looked for>"

    def expect(self, record: Record) -> None:
        mention = mentioned(record.envelope)
        if mention is not None:
            entry = self._heard(mention)
            if entry.knowledge(self._clock()) is not Knowledge.FRESH:
                self._look_for(mention.key, entry)

    async def contact(self, record: Record, deadline: Deadline) -> Contact | None:
        mention = mentioned(record.envelope)
        if mention is None:
            return None
        entry = self._heard(mention)
        knowledge = entry.knowledge(self._clock())
        if knowledge is not Knowledge.FRESH:
            flight = self._look_for(mention.key, entry)
            if flight is not None and knowledge is not Knowledge.STALE and not deadline.has_passed(anyio.current_time()):
                with anyio.move_on_after(deadline.left_s(anyio.current_time())):
                    await flight.wait()
                entry = self._memory.get(mention.key, entry)
        self._count(entry, mention.key)
        return None if entry.name is None and entry.url is None else Contact(name=entry.name, picture_url=entry.url)

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                await self._keep_names()
        finally:
            self._tasks = None

    def statistics(self) -> Mapping[str, object]:
        return {"in_memory": len(self._memory), "looked_for": len(self._flights), **self.asking.statistics()}

    # -- in memory -----------------------------------------------------------------------------------------------------

    def _heard(self, mention: Mention) -> Entry:
        """What is known, with the name that the event itself says."""
        entry = self._memory.get(mention.key) or Entry()
        now_s = self._clock()
        if mention.name is not None and entry.wants_name_kept(mention.name, now_s):
            entry = entry.named(mention.name, now_s)
            self._memory[mention.key] = entry
            if len(self._names) < NAMES_IN_LINE:  # else the store hears it another day
                self._names[mention.key] = mention.name
                self._name_heard.set()
        return entry

    def _count(self, entry: Entry, key: ContactKey) -> None:
        """What a delivery found of the picture; where nobody can be asked for one, nothing was looked up."""
        knowledge = entry.knowledge(self._clock())
        if knowledge is Knowledge.STALE:
            self._lookups.add("stale")
        elif knowledge is Knowledge.FRESH:
            self._lookups.add("negative" if entry.url is None else "hit")
        elif self.asking.refusal(key.instance_id) is not WhyNot.NOBODY:
            self._lookups.add("miss" if knowledge is Knowledge.NOTHING else "negative")

    # -- beside everything ---------------------------------------------------------------------------------------------

    def _look_for(self, key: ContactKey, entry: Entry) -> anyio.Event | None:
        """The flight that will know more; None where nobody is to be asked now."""
        flight = self._flights.get(key)
        if flight is not None:
            return flight
        if entry.is_loaded:
            if not entry.may_be_asked(self._clock()):
                return None
            refused = self.asking.refusal(key.instance_id)
            if refused is not None:
                self._count_unanswered(refused)
                return None
        if self._tasks is None or len(self._flights) >= MAX_FLIGHTS:
            self._lookups.add("limited")
            return None
        flight = self._flights[key] = anyio.Event()
        self._tasks.start_soon(self._fly, key, flight)
        return flight

    async def _fly(self, key: ContactKey, flight: anyio.Event) -> None:
        try:
            entry, now_s = await self._loaded(key), self._clock()
            if entry.knowledge(now_s) is not Knowledge.NOTHING:
                flight.set()  # that much can be told, whatever comes of the rest
            if entry.may_be_asked(now_s):
                keep = await self._ask(key)
                flight.set()
                await self._keep(keep)
        except Exception as exc:  # noqa: BLE001 - a fault of ours with one contact must not end the worker
            log.warning(
                "contact_not_looked_up", instance=key.instance_id, cause=place_of(exc), next_step="report it; its events go on without"
            )
        finally:
            del self._flights[key]
            flight.set()

    async def _loaded(self, key: ContactKey) -> Entry:
        """With what other workers, or this one before a restart, found out."""
        try:
            async with self._loads:
                kept = await self._store.load(key)
        except StoreUnavailable:
            return self._memory.get(key) or Entry()
        entry = self._memory[key] = (self._memory.get(key) or Entry()).loaded(kept, self._clock())
        return entry

    async def _ask(self, key: ContactKey) -> Callable[[], Awaitable[None]] | None:
        """Answers how to keep what a broker said."""
        asked = await self.asking.picture(key)
        entry, now_s = self._memory.get(key) or Entry(), self._clock()
        if asked.why_not is None:
            self._memory[key] = entry.answered(asked.url, now_s)
            return partial(self._store.keep_picture, key, asked.url)
        self._count_unanswered(asked.why_not)
        if asked.why_not not in {WhyNot.TIMEOUT, WhyNot.FAILED}:
            return None  # nobody was asked: nothing is known of the contact
        self._memory[key] = entry.failed(now_s)
        return partial(self._store.keep_failure, key)

    def _count_unanswered(self, why_not: WhyNot) -> None:
        if (word := _COUNTED.get(why_not)) is not None:
            self._lookups.add(word)

    async def _keep_names(self) -> None:
        """One at a time: names are no hurry."""
        while True:
            while self._names:
                key = next(iter(self._names))
                await self._keep(partial(self._store.keep_name, key, self._names.pop(key)))
            self._name_heard = anyio.Event()
            await self._name_heard.wait()

    async def _keep(self, keep: Callable[[], Awaitable[None]] | None) -> None:
        """In the store, if it likes."""
        if keep is None or self.is_store_tight():
            return
        try:
            await keep()
        except (StoreUnavailable, StoreFull) as exc:
            log.debug("contact_not_kept", cause=str(exc), next_step="none; it is asked for again")
