"""Random walks: shards come and go, connections break, the journal and the receipts fail, rows change; what was read is always journalled.

Whatever a connection answered is in the journal in the end. Where the gateway keeps its events, so is everything it told, with a receipt
for each, sent only while the shard was ours. A failing seed is the test's parameter.
"""

from __future__ import annotations

import random
from dataclasses import replace

import orjson
import pytest

from tests.component.rig import pass_time, until
from tests.component.sockets_world import SHARDS, SocketsWorld, another, forgets, keeps_events, shard_number, sockets_world
from tests.conftest import scaled
from worker.domain.ids import Shard
from worker.websocket.port import CloseReason, ConnectionClosed

pytestmark = pytest.mark.anyio

INSTANCES = 6
STEPS = 120
DROPS = (CloseReason.BROKEN, CloseReason.SERVER_LEFT, CloseReason.REPLACED, CloseReason.PROTOCOL)
REFUSALS = (None, None, None, CloseReason.REFUSED, CloseReason.UNAUTHORIZED)


class Walk:
    def __init__(self, it: SocketsWorld, chance: random.Random) -> None:
        self.it = it
        self.chance = chance
        self.renamed = 0

    async def step(self) -> None:
        news = (self.tell, self.tell, self.tell, self.row, self.drop, self.trouble, self.journal)
        ownership = (self.own, self.abort, self.close, self.prepare)
        await self.chance.choice((*news, *ownership))()
        await pass_time(self.chance.choice((0, 0.001, 0.05, 0.5, 3)))

    def shard(self) -> Shard:
        return Shard(self.chance.randrange(SHARDS))

    async def tell(self) -> None:
        self.it.tell(self.chance.randrange(1, 40), f"phone-{self.chance.randrange(INSTANCES)}")

    async def drop(self) -> None:
        self.it.gateway.drop(self.chance.choice(DROPS), name=self.chance.choice((None, f"phone-{self.chance.randrange(INSTANCES)}")))

    async def own(self) -> None:
        self.it.own(self.shard())

    async def abort(self) -> None:
        self.it.abort(self.shard())

    async def close(self) -> None:
        """As a handover does: still ours while it closes, and not after that."""
        shard = self.shard()
        await self.it.streams.orchestrator.close(shard, within_s=self.chance.choice((0, 0.5, 2)))
        self.it.owned.discard(shard)

    async def prepare(self) -> None:
        self.it.streams.orchestrator.prepare(frozenset(Shard(n) for n in range(SHARDS) if self.chance.random() < 0.3))

    async def trouble(self) -> None:
        troubles, chance = self.it.gateway.troubles, self.chance
        refusal = chance.choice(REFUSALS)
        troubles.refuse = None if refusal is None else ConnectionClosed(refusal, "no")
        troubles.refuse_receipts = chance.random() < 0.2
        self.hush(is_hushed=chance.random() < 0.1)
        troubles.connect_s = chance.choice((0, 0, 0.2, 11))

    def hush(self, *, is_hushed: bool) -> None:
        """A connection that has gone deaf never brings again what it should have brought."""
        troubles, was_hushed = self.it.gateway.troubles, self.it.gateway.troubles.is_hushed
        troubles.is_hushed = is_hushed
        if was_hushed and not is_hushed:
            self.it.gateway.drop()

    async def journal(self) -> None:
        faults, chance = self.it.store.faults, self.chance
        faults.away = chance.random() < 0.3
        faults.lose_next_answers(chance.randrange(3))
        if chance.random() < 0.2:
            faults.stall()
        else:
            faults.resume()

    async def row(self) -> None:
        """Deleted and registered again, or called another name by its tenant."""
        row = another(self.chance.randrange(INSTANCES, INSTANCES + 3))
        if self.chance.random() < 0.5:
            self.it.catalog.drop(row)
        else:
            self.renamed += 1
            self.it.catalog.put(replace(row, name=f"name {self.renamed}"))

    def calm(self) -> None:
        troubles, faults = self.it.gateway.troubles, self.it.store.faults
        troubles.refuse, troubles.refuse_receipts, troubles.connect_s = None, False, 0.0
        self.hush(is_hushed=False)
        faults.away = False
        faults.lose_next_answers(0)
        faults.resume()
        self.it.streams.orchestrator.prepare(frozenset())
        self.it.own()


@pytest.mark.parametrize("seed", range(scaled(25, 1_000)))
@pytest.mark.parametrize("kind", ["forgets", "keeps_events"])
async def test_whatever_happens_what_was_read_is_journalled(kind: str, seed: int) -> None:
    gateway = forgets() if kind == "forgets" else keeps_events()
    wrong: list[str] = []
    async with sockets_world(gateway, instances=INSTANCES) as it:

        def look(_by: str, name: str) -> None:
            if shard_number(f"i{name.removeprefix('phone-')}") not in it.owned:
                wrong.append(name)

        gateway.on_receipt = look
        walk = Walk(it, random.Random(seed))
        for _ in range(STEPS):
            await walk.step()
        walk.calm()
        await until(lambda: all(gateway.reading(f"phone-{n}") == 1 for n in range(INSTANCES)), within_s=2_000, what="all are read")
        await pass_time(20)
        journalled = await it.texts()
        read = {orjson.loads(frame.body)["text"] for frame in gateway.given}
        assert read <= set(journalled)
        assert len(journalled) == len(set(journalled))
        assert wrong == []
        if gateway.wants_receipts:
            assert set(it.told) == set(journalled)
            assert not any(gateway.unacknowledged(f"phone-{n}") for n in range(INSTANCES))
        assert it.streams.sessions.undurable() == []
        assert it.streams.statistics()["in_hand_bytes"] == 0
        assert not it.lines("session_failed")
