"""What one release of the worker announces, another can read: while one replaces the other they live side by side."""

from __future__ import annotations

from dataclasses import asdict

import orjson
import pytest

from worker.adapters.redis_leases import member_of
from worker.client_registry.port import Member
from worker.domain.ids import OwnerId

NEWER = Member(owner=OwnerId("a"), task="t", family="worker", revision=8, ready=True, draining=False, shards=3, zone="sa-east-1a")


def test_a_field_of_a_newer_release_is_left_out_and_the_rest_counts() -> None:
    assert member_of(orjson.dumps(asdict(NEWER) | {"of_next_year": {"x": 1}})) == NEWER


def test_an_older_release_says_no_zone() -> None:
    told = {name: value for name, value in asdict(NEWER).items() if name != "zone"}
    assert member_of(orjson.dumps(told)) == Member(**told)


@pytest.mark.parametrize("announced", [b"", b"{", b"{}", b"[]", b"7", b"null", b'"owner"', b'{"owner": "a"}'])
def test_what_is_no_announcement_is_nobodys(announced: bytes) -> None:
    assert member_of(announced) is None
