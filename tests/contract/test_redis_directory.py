"""What only the Redis adapter of the directory can get wrong: restarts, damage, half-run scripts, a log that was trimmed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import anyio
import orjson
import pytest

from tests.contract.samples import SHARDS, empty
from tests.contract.test_directory_contract import ACME, BETA, INSTANCE, KEY, NEW, TENANT, WEBHOOK
from tests.real_redis import RealRedis, real_redis
from worker.adapters import redis_directory, redis_keys
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_directory import SCRIPTS, RedisDirectory
from worker.adapters.redis_store import open_redis_store
from worker.directory.following import Follower
from worker.directory.port import Kind, Revision, RowConflict, Stored
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Instance, Webhook
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import InstanceId, WebhookId

pytestmark = pytest.mark.anyio

WEBHOOKS = redis_keys.directory_rows(Kind.WEBHOOK)


@pytest.fixture
async def client(redis_server: RealRedis) -> AsyncIterator[RedisClient]:
    empty(redis_server)
    client = RedisClient(redis_server.url, name="test", timeout_s=2.0, max_connections=4, scripts=SCRIPTS)
    yield client
    await client.close()


@pytest.fixture
def own_server() -> Iterator[RealRedis]:
    """One to restart and to fill."""
    with real_redis(appendfsync="always") as server:
        yield server


@pytest.fixture
def directory(client: RedisClient) -> RedisDirectory:
    return RedisDirectory(client, client)


async def test_a_server_and_workers_that_start_again_know_every_row(own_server: RealRedis) -> None:
    async with open_redis_store(own_server.url, shards=SHARDS) as store:
        revisions = [await store.directory.put(row, expected=NEW) for row in (TENANT, INSTANCE, WEBHOOK)]
        await store.directory.remove(Kind.INSTANCE, INSTANCE.id, ACME)
    await anyio.to_thread.run_sync(own_server.restart)
    async with open_redis_store(own_server.url, shards=SHARDS) as store:
        everything = await store.directory.everything()
        assert {stored.row.id: stored.revision for stored in everything.rows} == {ACME: revisions[0], WEBHOOK.id: revisions[2]}
        assert [stored.row for stored in everything.rows if isinstance(stored.row, Webhook)] == [WEBHOOK]
        assert await store.directory.find_tenant_of_key(KEY) == Stored(TENANT, revisions[0])
        edited = replace(WEBHOOK, description="after the restart")
        assert await store.directory.put(edited, expected=revisions[2]) > everything.upto


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"revision": 7, "row": {"v": 1, "id": "other"}}', b"7" * 5000])
async def test_a_damaged_row_costs_only_itself(client: RedisClient, directory: RedisDirectory, text: bytes) -> None:
    revision = await directory.put(WEBHOOK, expected=NEW)
    await client.call("HSET", WEBHOOKS, "broken", text)
    assert (await directory.everything()).rows == [Stored(WEBHOOK, revision)]
    assert await directory.find(Kind.WEBHOOK, "broken") is None
    assert directory.damaged == 2
    with pytest.raises(RowConflict, match="id"):  # whoever may have it: nobody gets its place unasked
        await directory.put(replace(WEBHOOK, id=WebhookId("broken")), expected=NEW)
    assert not await directory.remove(Kind.WEBHOOK, "broken", ACME)
    assert await directory.remove(Kind.WEBHOOK, "broken", None)
    await directory.put(replace(WEBHOOK, id=WebhookId("broken")), expected=NEW)


async def test_a_row_of_a_newer_version_is_read_as_far_as_this_one_can(client: RedisClient, directory: RedisDirectory) -> None:
    revision = await directory.put(WEBHOOK, expected=NEW)
    stored = orjson.loads(await client.call("HGET", WEBHOOKS, WEBHOOK.id))
    stored["row"] |= {"v": 2, "colour": {"rgb": [1, 2, 3]}}
    await client.call("HSET", WEBHOOKS, WEBHOOK.id, orjson.dumps(stored))
    assert await directory.find(Kind.WEBHOOK, WEBHOOK.id) == Stored(WEBHOOK, revision)
    assert directory.damaged == 0


async def test_changes_of_kinds_that_only_a_newer_version_knows_are_passed_over(client: RedisClient, directory: RedisDirectory) -> None:
    first = await directory.put(WEBHOOK, expected=NEW)
    await client.call("XADD", redis_keys.DIRECTORY_CHANGES, f"{first + 1}-0", "kind", "colour", "id", "red")
    changes = await directory.changes(Revision(first), wait_s=0.05)
    assert changes is not None
    assert (list(changes.changes), changes.upto) == ([], first + 1)


async def test_who_was_away_for_longer_than_the_log_reaches_reads_everything(client: RedisClient, directory: RedisDirectory) -> None:
    first = await directory.put(TENANT, expected=NEW)
    await directory.put(WEBHOOK, expected=NEW)
    await client.call("XTRIM", redis_keys.DIRECTORY_CHANGES, "MAXLEN", 1)
    assert await directory.changes(first, wait_s=0.05) is None
    assert [change.id for change in (await directory.changes(NEW, wait_s=0.05)).changes] == [WEBHOOK.id]  # type: ignore[union-attr]


async def test_the_log_of_changes_has_a_bound(client: RedisClient, directory: RedisDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_directory, "CHANGES_KEPT", 100)
    revision = NEW
    for number in range(400):
        revision = await directory.put(replace(WEBHOOK, description=str(number)), expected=revision)
    assert await client.call("XLEN", redis_keys.DIRECTORY_CHANGES) < 300
    assert await directory.changes(NEW, wait_s=0.05) is None, "it cannot say what was the first"


async def test_revisions_grow_over_a_store_that_forgot_its_last_writes(client: RedisClient, directory: RedisDirectory) -> None:
    before = await directory.put(WEBHOOK, expected=NEW)
    lost = await directory.put(TENANT, expected=NEW)
    await client.call("XDEL", redis_keys.DIRECTORY_CHANGES, f"{lost}-0")
    await client.call("HDEL", redis_keys.directory_rows(Kind.TENANT), TENANT.id)
    assert await directory.changes(lost, wait_s=0.05) is None
    assert await directory.put(replace(WEBHOOK, description="later"), expected=before) > lost


async def test_claims_that_a_half_run_script_left_behind_are_nobodys(client: RedisClient, directory: RedisDirectory) -> None:
    claims = redis_keys.directory_claims(Kind.INSTANCE)
    await client.call("HSET", claims, "main acme-sales-x7", "never-written")
    revision = await directory.put(INSTANCE, expected=NEW)
    await client.call("HSET", claims, "main the-name-it-had", INSTANCE.id)
    heir = replace(INSTANCE, id=InstanceId("heir"), tenant_id=BETA, gateway_instance="the-name-it-had")
    await directory.put(heir, expected=NEW)
    with pytest.raises(RowConflict, match="name"):
        await directory.put(replace(INSTANCE, gateway_instance="the-name-it-had"), expected=revision)


async def test_there_is_room_for_so_many_rows_of_a_kind_and_changing_one_needs_none(client: RedisClient) -> None:
    directory = RedisDirectory(client, client, max_rows=2)
    revision = await directory.put(WEBHOOK, expected=NEW)
    await directory.put(replace(WEBHOOK, id=WebhookId("second")), expected=NEW)
    with pytest.raises(RowConflict, match="room"):
        await directory.put(replace(WEBHOOK, id=WebhookId("third")), expected=NEW)
    await directory.put(replace(WEBHOOK, description="changed"), expected=revision)
    await directory.put(TENANT, expected=NEW)
    await directory.remove(Kind.WEBHOOK, "second", ACME)
    await directory.put(replace(WEBHOOK, id=WebhookId("third")), expected=NEW)


async def test_at_maxmemory_nothing_is_added_and_everything_can_be_removed(own_server: RealRedis) -> None:
    client = RedisClient(own_server.url, name="test", timeout_s=2.0, max_connections=4, scripts=SCRIPTS)
    directory = RedisDirectory(client, client)
    await directory.put(WEBHOOK, expected=NEW)
    await client.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreFull):
        await directory.put(INSTANCE, expected=NEW)
    assert not await client.call("EXISTS", redis_keys.directory_claims(Kind.INSTANCE), redis_keys.directory_rows(Kind.INSTANCE))
    assert await directory.remove(Kind.WEBHOOK, WEBHOOK.id, ACME)
    await client.close()


async def test_another_worker_hears_of_a_change_within_a_second_also_after_a_restart_of_the_server(
    own_server: RealRedis,
) -> None:
    async with (
        open_redis_store(own_server.url, shards=SHARDS) as here,
        open_redis_store(own_server.url, shards=SHARDS) as there,
        anyio.create_task_group() as tasks,
    ):
        registrar = Registrar(here.directory, Replica(Catalog([], [], [])), anyio.current_time)
        far = Replica(Catalog([], [], []))
        follower = Follower(there.directory, far, anyio.current_time)
        await tasks.start(follower.run)
        heard = anyio.Event()
        far.catalog.on_change.append(lambda _row: heard.set())
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(1.0):
            await registrar.put(WEBHOOK, expected=NEW)
            await heard.wait()
        assert far.catalog.webhooks == {WEBHOOK.id: WEBHOOK}
        await anyio.to_thread.run_sync(own_server.restart)
        heard = anyio.Event()
        with pytest.raises(StoreUnavailable):
            await registrar.put(INSTANCE, expected=NEW)  # its connection is gone; whoever asks repeats it
        await registrar.put(INSTANCE, expected=NEW)
        with anyio.fail_after(5.0):
            await heard.wait()
        assert far.catalog.instances == {INSTANCE.id: INSTANCE}
        assert isinstance(far.catalog.instances[INSTANCE.id], Instance)
        tasks.cancel_scope.cancel()
