"""What a worker calls itself: one plain word, whatever its host is called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.slices import plain


@pytest.mark.parametrize("host", ["ip-10-0-0-1.ec2.internal", "worker_3", "a1b2c3d4e5f6", "h" * 63])
def test_a_host_of_an_ordinary_name_is_called_so(host: str) -> None:
    assert plain(host) == host


@pytest.mark.parametrize(("host", "name"), [("my host", "my-host"), ("a/b:c", "a-b-c"), ("café", "caf-"), ("", "host"), ("  ", "-")])
def test_what_may_not_stand_in_a_key_is_left_out(host: str, name: str) -> None:
    assert plain(host) == name


@given(st.text())
def test_any_host_gives_one_short_plain_word(host: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,63}", plain(host))
