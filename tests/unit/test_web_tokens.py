"""JSON Web Tokens: only HS256, only by a known secret, only for their time and a little more."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any

import orjson
import pytest

from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.ids import EventKey, InstanceId, TenantId
from worker.gateways import evolution
from worker.gateways.port import Push
from worker.gateways.web_tokens import EARLY_S, LATE_S, bearer, is_signed_by_any
from worker.ingest.preparation import Preparation, Prepared, Stamps, Unverified

NOW_S = 1_763_797_538
CLAIMS = {"iat": NOW_S, "exp": NOW_S + 600, "app": "evolution", "action": "webhook"}
PUBLISHED = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
    "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)
"""The example of jwt.io: its secret is `your-256-bit-secret`; it has no `exp`."""


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def token(claims: Any = CLAIMS, secret: str = "s", header: Any = None) -> str:
    written = orjson.dumps({"alg": "HS256", "typ": "JWT"} if header is None else header)
    signed = f"{encoded(written)}.{encoded(claims if isinstance(claims, bytes) else orjson.dumps(claims))}"
    return f"{signed}.{encoded(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def is_good(written: str | None, secrets: tuple[str, ...] = ("s",), at_s: float | None = NOW_S) -> bool:
    return is_signed_by_any(written, secrets, at_s)


def test_a_token_by_any_of_the_secrets_is_good() -> None:
    assert is_good(token(), ("new", "s"))
    assert is_good(token(), ("s", "old"))
    assert not is_good(token(), ("new",))
    assert not is_good(token(secret=""), ())


@pytest.mark.parametrize("after_s", [-EARLY_S, 0, 600, 600 + LATE_S])
def test_a_token_is_good_in_its_time_and_for_late_retries(after_s: int) -> None:
    assert is_good(token(), at_s=NOW_S + after_s)


@pytest.mark.parametrize("after_s", [-EARLY_S - 1, 600 + LATE_S + 1])
def test_a_token_from_another_time_is_refused_where_the_time_is_known(after_s: int) -> None:
    assert not is_good(token(), at_s=NOW_S + after_s)
    assert is_good(token(), at_s=None)


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": NOW_S},
        {**CLAIMS, "exp": "never"},
        {**CLAIMS, "exp": True},
        {**CLAIMS, "exp": None},
        {**CLAIMS, "iat": "now"},
        {**CLAIMS, "nbf": NOW_S + 7200},
        [],
        b"no JSON",
        b'{"exp":1e400}',
    ],
)
def test_a_token_that_does_not_say_when_it_ends_is_refused(claims: Any) -> None:
    assert not is_good(token(claims))


@pytest.mark.parametrize(
    "header",
    [{"alg": "none"}, {"alg": "HS512"}, {"alg": "hs256"}, {"alg": "RS256"}, {}, [], {"alg": "HS256", "crit": ["exp"], "exp": 1}],
)
def test_another_algorithm_is_refused_whatever_the_signature(header: Any) -> None:
    assert not is_good(token(header=header))


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "..",
        "a.b.c",
        token() + "=",
        token() + ".x",
        token().rpartition(".")[0] + ".",
        token().rpartition(".")[0] + ".AAAA",
        token().replace(".", "\u2024"),
        token({**CLAIMS, "pad": "x" * 4096}),
        "é.é.é",
    ],
)
def test_what_is_no_token_is_refused(written: str | None) -> None:
    assert not is_good(written)


def test_the_published_example_is_checked_as_published() -> None:
    header, claims, signature = PUBLISHED.split(".")
    assert encoded(hmac.new(b"your-256-bit-secret", f"{header}.{claims}".encode(), hashlib.sha256).digest()) == signature
    assert not is_good(PUBLISHED, ("your-256-bit-secret",), None), "it never ends"


@pytest.mark.parametrize(
    ("header", "expected"),
    [("Bearer abc", "abc"), (" bearer  abc ", "abc"), ("Basic abc", None), ("abc", None), ("", None), (None, None), ("Bearer", "")],
)
def test_the_token_of_a_bearer_header(header: str | None, expected: str | None) -> None:
    assert bearer(header) == expected


def test_evolution_posts_its_token_as_a_bearer() -> None:
    def push(written: str, received_at: str | None) -> Push:
        return Push(headers={"authorization": f"Bearer {written}"}, body=b"{}", received_at=received_at)

    assert evolution.verify(push(token(), "2025-11-22T07:45:38.120Z"), ["s"])
    assert evolution.verify(push(token(), None), ["s"])
    assert not evolution.verify(push(token(), "2025-11-22T09:45:38.120Z"), ["s"])
    assert not evolution.verify(push(token(), "2025-11-22T07:45:38.120Z"), ["t"])
    assert not evolution.verify(Push(body=b"{}"), ["s"])


def test_the_door_tells_when_a_push_came_and_a_token_of_another_day_is_refused() -> None:
    instance = Instance(
        id=InstanceId("acme-sales"), tenant_id=TenantId("acme"), gateway="evolution", gateway_instance="sales", ingest_secrets=("s",)
    )
    catalog = Catalog([Tenant(id=TenantId("acme"))], [instance], [])
    push = Push(headers={"authorization": f"Bearer {token()}"}, body=b'{"event":"logout.instance"}')

    def prepared_at(received_at: str) -> object:
        stamps = Stamps(received_at=lambda: received_at, fresh_key=lambda: EventKey("ulid:1"))
        return Preparation(catalog=catalog, shards=1, stamps=stamps).prepare(evolution, instance, push)

    assert isinstance(prepared_at("2025-11-22T07:45:38.300Z"), Prepared)
    assert isinstance(prepared_at("2025-11-23T07:45:38.300Z"), Unverified)
