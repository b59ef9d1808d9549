"""Redis fails over in the middle of a grant: tokens only rise, nobody writes behind a newer owner, what got a 2xx is on both servers."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import redis.asyncio
import redis.exceptions

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.redis_pair import Pair, redis_pair
from tests.e2e.rig import Gateway, Hook, Rig, Worker, declared, everything_arrives, pushing
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_leases import ACQUIRE
from worker.domain.ids import Shard

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(240, 3600))]

SHARDS = 8
INSTANCES = tuple(f"i{n}" for n in range(16))
ROUNDS = scaled(2, 20)
LEASE_TTL_S = 5


class Books:
    """What the serving server said of each shard, ten times a second. Knows the inside of the store."""

    def __init__(self) -> None:
        self.fences: dict[int, list[int]] = {n: [] for n in range(SHARDS)}
        self.writers: dict[int, list[tuple[int, int]]] = {n: [] for n in range(SHARDS)}
        """(the server's port, the token of the last checkpoint)"""
        self.outrun = 0
        """Checkpoints under a token that nobody was granted, as far as that server knows."""

    async def read(self, pair: Pair) -> None:
        server = pair.primary
        async with pair.operator(server) as client:
            for number in range(SHARDS):
                keys = ShardKeys(Shard(number))
                saved = await client.hget(keys.cursor, "checkpoint")  # read first: the fence can only have risen since
                fence, writer = int(await client.get(keys.fence) or 0), int(str(saved or "0:0").split(":")[0])
                self.outrun += writer > fence
                self.fences[number].append(fence)
                self.writers[number].append((server.port, writer))

    @asynccontextmanager
    async def kept(self, pair: Pair) -> AsyncIterator[None]:
        async def keep() -> None:
            while True:
                with contextlib.suppress(OSError, redis.exceptions.ConnectionError):  # the one that was just killed
                    await self.read(pair)
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep)
            yield
            tasks.cancel_scope.cancel()

    def falls(self) -> int:
        """How often a fence stood lower than before, on whichever server."""
        return sum(later < sooner for seen in self.fences.values() for sooner, later in itertools.pairwise(seen))

    def interleaved(self) -> int:
        """How often, on one server, an older owner's checkpoint came after a newer one's."""
        pairs = (pair for seen in self.writers.values() for pair in itertools.pairwise(seen))
        return sum(sooner[0] == later[0] and later[1] < sooner[1] for sooner, later in pairs)


async def all_owned(workers: list[Worker], within_s: float = 60) -> None:
    """Each shard by exactly one."""
    began_s = time.monotonic()
    while True:
        held = [shard for worker in workers for shard in await worker.shards()]
        if sorted(held) == list(range(SHARDS)):
            return
        assert time.monotonic() - began_s < within_s, f"every shard has one owner: {sorted(held)}"
        await anyio.sleep(0.1)


async def rotate(gateway: Gateway, stays: Worker, goes: Worker) -> int:
    """Its shards are granted to the other one, and back."""
    gateway.workers = [stays]
    code, _ = await goes.stop(within_s=60)
    return code


async def test_a_failover_in_the_middle_of_a_grant(rig: Rig) -> None:
    first, second = await rig.redis(appendfsync="everysec"), await rig.redis(appendfsync="everysec")
    hooks = [Hook("all", rig.sink.url("all"))]
    async with redis_pair(first, second) as pair:
        settings = {
            "REDIS__URL": pair.address.url,
            "REGISTRY__SHARDS": str(SHARDS),
            "REGISTRY__LEASE_TTL_S": str(LEASE_TTL_S),
            "JOURNAL__DURABILITY": "replicated",
            "SHUTDOWN__BUDGET_S": "15",
        }
        workers = [rig.worker(declared(hooks, INSTANCES), **settings) for _ in range(2)]
        for worker in workers:
            await worker.start()
        gateway, books, codes = rig.gateway(*workers), Books(), []
        async with pushing(gateway, per_s=50, instances=INSTANCES), books.kept(pair):
            await all_owned(workers)
            for number in range(ROUNDS):
                stays, goes = workers if number % 2 else workers[::-1]
                async with anyio.create_task_group() as failing:

                    async def fail_over_at_a_grant() -> None:
                        for _ in range(random.randint(1, 3)):
                            await pair.address.seen(ACQUIRE.sha.encode())
                        await pair.fail_over()

                    failing.start_soon(fail_over_at_a_grant)
                    codes.append(await rotate(gateway, stays, goes))
                await goes.start()
                gateway.workers = workers
                await all_owned(workers)
        await everything_arrives(rig, gateway, hooks, 60)
        state(
            "failover in the middle of a grant",
            rounds=ROUNDS,
            accepted=len(gateway.accepted),
            lost=0,
            duplicates=len(rig.sink.repeated("all")),
            fences_fell=books.falls(),
            interleaved=books.interleaved(),
            exit_codes=sorted(set(codes)),
        )
        assert books.falls() == 0
        assert books.interleaved() == 0
        assert books.outrun == 0
        assert set(codes) <= {0, 75}
        for worker in workers:
            assert (await worker.stop())[0] in {0, 75}
