"""What the transport reads in a URL is what is warned of."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.hostile_destinations import ADDRESSES, HOSTS, hostile_url
from worker.adapters.http_failures import ForbiddenDestination
from worker.adapters.http_urls import MAX_URLS, Urls, objection
from worker.domain.destinations import Destinations

STRICT = Destinations()


def test_each_hostile_host_is_warned_of_in_advance() -> None:
    assert [host for host in HOSTS if objection(hostile_url(host, 80), STRICT) is None] == []


def test_the_table_of_hostile_hosts_and_addresses_has_no_entry_twice() -> None:
    assert len(set(HOSTS)) == len(HOSTS) >= 60
    assert len(set(ADDRESSES)) == len(ADDRESSES)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://crm.example.com/", "file:///etc/passwd", "gopher://crm.example.com/", "ws://crm.example.com/", "//crm.example.com/"),
        *("http://", "http:crm.example.com", "", "not a url", "http://[::1", "http://[::1].example.com/", "http://crm.example.com:99999/"),
        *("http://crm.example.com\\@127.0.0.1/", "http://127.0.0.1\\.example.com/", "http://127.0.0.1:80:80/", "http://crm.example.com:0/"),
        *("http://127.0.0.1\u200b/", "http://127\u00ad.0.0.1/", "http://lo\u200bcalhost/"),
    ],
)
def test_what_cannot_be_posted_to_is_said_without_saying_it(url: str) -> None:
    assert objection(url, STRICT) == "its url is not one that can be posted to"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://crm.example.com/hook",
            "http://user:password@crm.example.com:8080/",
            "https://crm.example.com./",
            "https://bücher.example/",
        ),
        *("https://93.184.215.14/", "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", "https://crm.example.com/?to=http://127.0.0.1/"),
    ],
)
def test_an_ordinary_url_is_objected_to_by_nobody(url: str) -> None:
    assert objection(url, STRICT) is None


@given(st.text("127.0.1:/@#?[]%\\ xfF①。．\u200b\u00adß-_é&é\0", max_size=24), st.sampled_from(["http://", "https://", "HTTP:", "//", ""]))  # noqa: RUF001
@example("a[::1]@", "http://")
@settings(max_examples=500)
def test_whatever_text_stands_for_a_url_it_is_judged_and_never_shown(text: str, scheme: str) -> None:
    said = objection(scheme + text, STRICT)
    assert said is None or len(text) < 10 or text not in said


def test_ports_are_those_of_the_url_or_its_scheme() -> None:
    rule = Destinations(allowed_ports=[443])
    assert objection("https://crm.example.com/", rule) is None
    assert objection("http://crm.example.com:443/", rule) is None
    assert objection("http://crm.example.com/", rule) == "port 80 is not among delivery.allowed_ports"


def test_what_is_objected_to_is_never_read_as_a_url() -> None:
    urls = Urls(STRICT)
    for _ in range(2):
        with pytest.raises(ForbiddenDestination, match="private"):
            urls.parsed("http://127.0.0.1/")


def test_urls_are_read_once_and_not_remembered_without_bound() -> None:
    urls = Urls(STRICT)
    first = urls.parsed("https://crm.example.com/0")
    assert urls.parsed("https://crm.example.com/0") is first
    for number in range(MAX_URLS):
        urls.parsed(f"https://crm.example.com/{number}")
    assert repr(urls) == f"<Urls {MAX_URLS} known>"
    urls.parsed("https://crm.example.com/one-more")
    assert repr(urls) == "<Urls 1 known>"
