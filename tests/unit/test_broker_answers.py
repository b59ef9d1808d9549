"""What an answer of a broker means: pure, so for any answer at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.brokers.answers import MAX_RETRY_AFTER_S, Answer, code_of, retry_after_s
from worker.adapters.brokers.reading import contact, phone_of, png_of
from worker.instances.broker import BrokerCause, BrokerFailure

NOW = datetime(2026, 11, 22, 7, 45, 38, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "response", "exception", "name", "detail"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def answer(status: int, body: bytes = b"{}", *, changes: bool = False, hidden: tuple[str, ...] = ()) -> Answer:
    return Answer(broker="broker main (waha)", changes=changes, status=status, body=body, response_time_ms=1, hidden=hidden)


@given(status=st.integers(100, 599), body=st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_an_object_or_a_failure_with_a_cause(status: int, body: bytes) -> None:
    found, failure = outcome(answer(status, body, changes=True))
    if failure is None:
        assert isinstance(found, dict)
        assert 200 <= status < 300
    else:
        assert (failure.status, found) == (status, None)
        assert failure.cause in BrokerCause
        assert failure.is_certain is not (200 <= status < 300 or status == 408 or status >= 500)


def outcome(whole: Answer) -> tuple[Mapping[str, Any] | None, BrokerFailure | None]:
    try:
        return whole.mapping(), None
    except BrokerFailure as failure:
        return None, failure


@given(secret=st.text("abcXYZ019-_", min_size=4, max_size=30), before=st.text("ab ", max_size=5), status=st.integers(300, 599))
def test_no_code_holds_a_secret(secret: str, before: str, status: int) -> None:
    for name in ("error", "code"):
        failure = answer(status, orjson.dumps({name: before + secret}), hidden=(secret,)).refusal()
        assert secret not in (failure.broker_code or "")
        assert secret not in str(failure)


@pytest.mark.parametrize(
    ("status", "said", "cause"),
    [
        (402, {}, BrokerCause.QUOTA),
        (403, {"error": "quota exceeded"}, BrokerCause.QUOTA),
        (422, {"message": "the instance limit of your plan is reached"}, BrokerCause.QUOTA),
        (429, {"message": "monthly quota used up"}, BrokerCause.QUOTA),
        (429, {"error": "rate limit exceeded"}, BrokerCause.RATE_LIMITED),
        (500, {"error": "Failed to get avatar: info query returned status 429: rate-overlimit"}, BrokerCause.RATE_LIMITED),
        (500, {"exception": {"name": "MongoServerError", "message": "not primary"}}, BrokerCause.STORAGE),
        (500, {"exception": {"message": "SQLITE_BUSY: database is locked"}}, BrokerCause.STORAGE),
        (400, {"response": {"message": ["Invalid `prisma.instance.create()` invocation"]}}, BrokerCause.STORAGE),
        (503, {"error": "ENOSPC: no space left on device"}, BrokerCause.STORAGE),
        (500, {"error": "feedback"}, BrokerCause.SERVICE_UNAVAILABLE),
        (401, {"error": "database of keys says no"}, BrokerCause.AUTH),
    ],
)
def test_its_words_decide_where_its_status_does_not(status: int, said: dict[str, object], cause: BrokerCause) -> None:
    assert answer(status, orjson.dumps(said)).refusal().cause is cause


@pytest.mark.parametrize("said", ["instance_exists", "Unprocessable Entity", "P2002", "User with the same token already exists", "E-1/2:3"])
def test_a_short_code_is_passed_on(said: str) -> None:
    assert answer(400, orjson.dumps({"error": said})).refusal().broker_code == said


@pytest.mark.parametrize(
    "said", ["", " ", "x" * 81, "call 5511900000001", "see https://x.example", "line\nbreak", "<b>", 'a "quote"', "ação"]
)
def test_what_is_no_code_is_not(said: str) -> None:
    assert answer(400, orjson.dumps({"error": said})).refusal().broker_code is None


def test_the_more_precise_of_two_codes_is_passed_on() -> None:
    assert answer(400, b'{"error": "Bad Request", "code": "E_NAME"}').refusal().broker_code == "E_NAME"
    assert answer(400, b'{"error": "Bad Request", "code": 400}').refusal().broker_code == "Bad Request"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=300), usegmt=True), MAX_RETRY_AFTER_S),
        ("Sun, 22 Nov 2026 07:45:48 -0000", 10.0),
        ("Sun, 99 Nov 2026 07:45:48 GMT", None),
    ],
)
def test_when_to_come_again_is_read_from_seconds_and_from_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(header=st.text(max_size=40))
def test_any_header_says_when_to_come_again_within_an_hour_or_nothing(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("header", "code"), [("req-1:2.3", "req-1:2.3"), (None, None), ("", None), ("a b", None), ("x" * 129, None), ("<x>", None)]
)
def test_an_id_of_a_request_is_short_and_plain(header: str | None, code: str | None) -> None:
    assert code_of(header) == code


@pytest.mark.parametrize(
    ("jid", "phone"),
    [
        ("5511900000001@c.us", "5511900000001"),
        ("5511900000001@s.whatsapp.net", "5511900000001"),
        ("5511900000001:12@s.whatsapp.net", "5511900000001"),
        ("5511900000001.0:52@s.whatsapp.net", "5511900000001"),
        ("+5511900000001", "5511900000001"),
        ("100000000000001@lid", None),
        ("120363000000000001@g.us", None),
        ("1234567890123456@c.us", None),
        ("\u0665\u0665\u0661\u0661@c.us", None),
        ("status@broadcast", None),
        ("", None),
        (None, None),
        (5511900000001, None),
    ],
)
def test_a_telephone_number_is_digits(jid: object, phone: str | None) -> None:
    assert phone_of(jid) == phone


@given(jid=st.text(max_size=30))
def test_any_text_has_a_number_of_digits_or_none(jid: str) -> None:
    phone = phone_of(jid)
    assert phone is None or (phone.isascii() and phone.isdigit() and 0 < len(phone) <= 15)


def test_a_contact_is_written_as_its_gateway_writes_telephone_numbers() -> None:
    assert contact("5511900000001@s.whatsapp.net", "c.us") == "5511900000001@c.us"
    assert contact("100000000000001@lid", "c.us") == "100000000000001@lid"
    assert contact("120363000000000001@g.us", "c.us") == "120363000000000001@g.us"


@pytest.mark.parametrize(
    "text",
    [None, 5, "", "data:image/png;base64,", "data:image/png;base64,!!!!", "data:image/jpeg;base64,aGk=", "data:image/png;base64,aGk="],
)
def test_what_is_no_picture_is_none(text: object) -> None:
    assert png_of(text) is None
