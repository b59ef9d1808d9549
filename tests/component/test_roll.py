"""`/status` says who is there and who holds which shard, from what the registry knows anyway."""

from __future__ import annotations

from typing import Any

import pytest

from tests.component.rig import Rig, Worker, pass_time, rig, until

pytestmark = pytest.mark.anyio


def page(worker: Worker) -> dict[str, Any]:
    return worker.engine.statistics()


def owners(worker: Worker) -> dict[int, str | None]:
    return {row["shard"]: row["owner"] for row in page(worker)["shards"]}


def members(worker: Worker) -> dict[str, int]:
    return {row["task"]: row["shards"] for row in page(worker)["workers"]}


async def is_quiet(it: Rig, workers: list[Worker]) -> None:
    """Once every shard has one owner, and all say the same of shards and of each other."""

    def agree() -> bool:
        truth = {shard: worker.owner for worker in workers for shard in worker.holds}
        held = {worker.name: len(worker.holds) for worker in workers}
        return len(truth) == it.shards and all(owners(worker) == truth and members(worker) == held for worker in workers)

    await until(agree, within_s=60, what="all shards are held, and all workers say by whom and who is there")


async def test_every_worker_names_the_holder_of_every_shard_and_all_workers() -> None:
    async with rig() as it:
        a = await it.owning("a")
        b = await it.start("b")
        await is_quiet(it, [a, b])
        for seen_by in (a, b):
            rows = {row["task"]: row for row in page(seen_by)["workers"]}
            assert {task: row["me"] for task, row in rows.items()} == {"a": seen_by is a, "b": seen_by is b}
            assert {(row["family"], row["revision"], row["ready"], row["draining"]) for row in rows.values()} == {
                ("worker", 1, True, False)
            }
            assert {task: row["shards"] for task, row in rows.items()} == {"a": len(a.holds), "b": len(b.holds)}
            for row in page(seen_by)["shards"]:
                is_ours = row["shard"] in seen_by.holds
                known = [row[name] for name in ("token", "validForS", "since", "heldForS")]
                assert all(value is not None for value in known) if is_ours else known == [None] * 4


async def test_the_newest_revision_is_named_first() -> None:
    async with rig() as it:
        old = await it.owning("old", revision=7)
        await it.start("new", revision=8)
        await until(lambda: len(page(old)["workers"]) == 2, within_s=20, what="the new one is seen")
        assert [(row["task"], row["revision"]) for row in page(old)["workers"]] == [("new", 8), ("old", 7)]


async def test_of_itself_a_worker_says_what_is_true_now_also_without_a_store() -> None:
    async with rig() as it:
        a = await it.owning("a")
        await is_quiet(it, [a])
        await pass_time(5)  # what the store said of its own shards is known here by now
        a.faults.away = True
        await pass_time(60)
        [row] = page(a)["workers"]
        assert (row["me"], row["shards"], row["draining"]) == (True, 0, False)
        assert set(owners(a).values()) == {None}, "what it held it does not hold any more, and nobody says who does"
        a.faults.away = False
        await is_quiet(it, [a])
