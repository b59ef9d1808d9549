"""What all workers remember of contacts: per instance, by the store's clock, and nothing that needs to be there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.samples import SHORT_S, Store, eventually
from tests.real_redis import RealRedis
from worker.adapters import redis_keys
from worker.adapters.memory_contacts import MemoryContacts
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_contacts import RedisContacts
from worker.adapters.redis_store import RedisStore
from worker.contact_metadata_cache.port import FAILED_S, FRESH_S, KEPT_S, Answered, ContactStore, Kept, Said
from worker.domain.contact import ContactKey
from worker.domain.ids import InstanceId

pytestmark = pytest.mark.anyio

ANA = ContactKey(InstanceId("acme-sales"), "5511900000001@s.whatsapp.net")
BOB = ContactKey(InstanceId("acme-sales"), "5511900000002@s.whatsapp.net")
ANA_ELSEWHERE = ContactKey(InstanceId("acme-desk"), ANA.contact_id)
URL = "https://pps.example.com/v/t61.24694-24/ana.jpg?ccb=11-4&oh=01_Q5&oe=69"
ONE_KEY = f"{redis_keys.contact('picture', 0)}"


def told(kept: Kept) -> tuple[str | None, str | None, bool]:
    """Name, picture, and whether a broker gave no answer of late."""
    return (kept.said and kept.said.name, kept.answered and kept.answered.url, kept.failed_age_s is not None)


async def test_of_a_contact_never_seen_nothing_is_known(store: Store) -> None:
    assert await store.contacts.load(ANA) == Kept()


async def test_name_and_picture_are_kept_apart_and_told_together(store: Store) -> None:
    await store.contacts.keep_picture(ANA, URL)
    assert told(await store.contacts.load(ANA)) == (None, URL, False)
    await store.contacts.keep_name(ANA, "Ana Mária 🌻")
    assert told(await store.contacts.load(ANA)) == ("Ana Mária 🌻", URL, False)


async def test_that_there_is_no_picture_is_an_answer(store: Store) -> None:
    await store.contacts.keep_picture(ANA, URL)
    await store.contacts.keep_picture(ANA, None)
    kept = await store.contacts.load(ANA)
    assert kept.answered is not None
    assert kept.answered.url is None
    assert 0 <= kept.answered.age_s < FAILED_S


async def test_a_failure_leaves_what_was_answered(store: Store) -> None:
    await store.contacts.keep_picture(ANA, URL)
    await store.contacts.keep_failure(ANA)
    kept = await store.contacts.load(ANA)
    assert told(kept) == (None, URL, True)
    assert kept.failed_age_s is not None
    assert 0 <= kept.failed_age_s < FAILED_S


async def test_other_contacts_and_other_instances_know_nothing_of_it(store: Store) -> None:
    await store.contacts.keep_picture(ANA, URL)
    await store.contacts.keep_name(ANA, "Ana")
    assert await store.contacts.load(BOB) == Kept()
    assert await store.contacts.load(ANA_ELSEWHERE) == Kept()


async def test_a_later_word_replaces_an_earlier_one(store: Store) -> None:
    for name in ("Ana", "Ana M."):
        await store.contacts.keep_name(ANA, name)
    for url in (URL, URL + "2"):
        await store.contacts.keep_picture(ANA, url)
    assert told(await store.contacts.load(ANA)) == ("Ana M.", URL + "2", False)


async def test_each_part_ages_by_the_stores_clock(store: Store) -> None:
    await store.contacts.keep_picture(ANA, URL)

    async def has_aged() -> bool:
        kept = await store.contacts.load(ANA)
        return kept.answered is not None and kept.answered.age_s > SHORT_S

    assert await eventually(has_aged)
    await store.contacts.keep_name(ANA, "Ana")
    kept = await store.contacts.load(ANA)
    assert kept.answered is not None
    assert kept.said is not None
    assert kept.said.age_s < kept.answered.age_s


@pytest.fixture
async def data(redis: RedisStore, redis_server: RealRedis) -> AsyncIterator[RedisClient]:
    """A line of its own to the empty server."""
    client = RedisClient(redis_server.url, name="data", timeout_s=2, max_connections=1)
    yield client
    await client.close()


@pytest.mark.parametrize("kind", ["twin", "redis"])
async def test_a_full_table_forgets_one_for_another_and_never_mixes_them_up(kind: str, data: RedisClient) -> None:
    table: ContactStore = MemoryContacts(StoreFaults(), lambda: 0.0, places=1) if kind == "twin" else RedisContacts(data, places=1)
    await table.keep_picture(ANA, URL)
    await table.keep_picture(BOB, None)
    assert await table.load(ANA) == Kept()
    assert (await table.load(BOB)).answered is not None


async def test_the_twin_forgets_to_the_second() -> None:
    now_s = [0.0]
    contacts = MemoryContacts(StoreFaults(), lambda: now_s[0])
    await contacts.keep_name(ANA, "Ana")
    await contacts.keep_picture(ANA, URL)
    await contacts.keep_failure(ANA)
    now_s[0] = FAILED_S
    assert await contacts.load(ANA) == Kept(said=Said("Ana", FAILED_S), answered=Answered(URL, FAILED_S))
    now_s[0] = KEPT_S
    assert await contacts.load(ANA) == Kept()


async def test_on_redis_every_key_ends_by_itself_and_its_rest_is_its_age(data: RedisClient, hand: RedisClient) -> None:
    contacts = RedisContacts(data, places=1)
    await contacts.keep_name(ANA, "Ana")
    await contacts.keep_picture(ANA, URL)
    await contacts.keep_failure(ANA)
    lasting = {}
    for kind in ("name", "picture", "failed"):
        lasting[kind] = await hand.call("PTTL", redis_keys.contact(kind, 0)) / 1000
    assert lasting == pytest.approx({"name": KEPT_S, "picture": KEPT_S, "failed": FAILED_S}, abs=30)
    await hand.call("PEXPIRE", ONE_KEY, round((KEPT_S - FRESH_S - 10) * 1000))
    kept = await contacts.load(ANA)
    assert kept.answered is not None
    assert kept.answered.age_s == pytest.approx(FRESH_S + 10, abs=30)


async def test_no_key_and_no_repr_tells_a_telephone_number(redis: RedisStore, hand: RedisClient) -> None:
    await redis.contacts.keep_name(ANA, "Ana")
    await redis.contacts.keep_picture(ANA, URL)
    await redis.contacts.keep_failure(ANA)
    kept = await redis.contacts.load(ANA)
    shown = [repr(kept), repr(ANA), repr(kept.said), repr(kept.answered), *map(bytes.decode, await hand.call("KEYS", "*"))]
    assert not [text for text in shown if "5511900000001" in text or "Ana" in text or "pps." in text]
