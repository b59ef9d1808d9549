"""Signatures, judged by the specification's own library."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from worker.event_integration.signing import InvalidSecret, Signer, key_of

OLD = "whsec_" + b64encode(b"an old secret of 24 byte").decode()
NEW = "whsec_" + b64encode(b"a new secret, of 25 bytes").decode()
BODY = json.dumps({"text": "olá, 世界"}).encode()


def headers_of(signer: Signer, body: bytes) -> dict[str, str]:
    now_s = int(time.clock_gettime(time.CLOCK_REALTIME))  # the verifier refuses old timestamps by its own clock
    return {"webhook-id": "msg_1", "webhook-timestamp": str(now_s), "webhook-signature": signer.signature_header("msg_1", now_s, body)}


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_a_receiver_with_either_active_secret_verifies(secret: str) -> None:
    headers = headers_of(Signer([NEW, OLD]), BODY)
    assert Verifier(secret).verify(BODY, headers) == {"text": "olá, 世界"}
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(BODY + b" ", headers)


def test_the_first_secret_signs_first_and_each_signature_is_one_v1_value() -> None:
    both, new = (Signer(s).signature_header("msg_1", 1_700_000_000, BODY) for s in ([NEW, OLD], [NEW]))
    assert both.split(" ")[0] == new
    assert [value.partition(",")[0] for value in both.split(" ")] == ["v1", "v1"]


def test_without_secrets_there_is_nothing_to_say() -> None:
    assert Signer([]).signature_header("msg_1", 0, BODY) == ""


@example(key=b"k" * 65, body=b"", timestamp_s=0)
@given(key=st.binary(min_size=1, max_size=200), body=st.binary(max_size=300), timestamp_s=st.integers(0, 2**40))
def test_prepared_states_sign_as_hmac_does(key: bytes, body: bytes, timestamp_s: int) -> None:
    signer = Signer(["whsec_" + b64encode(key).decode()])
    expected = b64encode(hmac.digest(key, f"msg_x.{timestamp_s}.".encode() + body, "sha256")).decode()
    for _ in range(2):  # a signature leaves the prepared states as they were
        assert signer.signature_header("msg_x", timestamp_s, body) == f"v1,{expected}"


def test_padding_is_optional() -> None:
    assert key_of("whsec_YWI") == key_of("whsec_YWI=") == b"ab"


@pytest.mark.parametrize("secret", ["", "MfKQ9r8GKYqrTwjU", "whsec_", "whsec_====", "whsec_not*base64", "whsec_a", "whsec_ãããã"])
def test_an_unusable_secret_is_refused_without_being_said(secret: str) -> None:
    with pytest.raises(InvalidSecret) as refused:
        Signer([NEW, secret])
    key = secret.removeprefix("whsec_")
    assert len(key) < 4 or key not in str(refused.value)


def test_repr_holds_no_secret() -> None:
    assert repr(Signer([OLD, NEW])) == "<Signer of 2 secrets>"
