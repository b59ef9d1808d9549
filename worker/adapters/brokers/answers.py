"""What a broker answered, and what its refusals mean in our words. Pure.

A broker's own texts are searched for words and never passed on, for they may quote names, numbers and keys; its short code is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from worker.instances.broker import BrokerCause, BrokerFailure

MAX_RETRY_AFTER_S = 3600.0
_MAX_WORDS = 2_000
_CODE = re.compile(r"(?!.*\d{7})(?!.*//)[A-Za-z0-9][A-Za-z0-9 _.:/()'-]{0,79}")
"""A word or a short phrase; what looks like a telephone number or an address is none."""
_QUOTA_WORDS = re.compile(r"quota|plus version|(?:instance|session|user)s? limit|limit of (?:instance|session|user)s")
_QUOTA_STATUSES = frozenset({400, 403, 422, 429})
_STORAGE_WORDS = re.compile(r"prisma|database|\bdb\b|sqlite|postgres|mysql|mongo|sequelize|enospc|no space left|disk full")
_NEXT_STEPS: Mapping[BrokerCause, str] = {
    BrokerCause.NOT_CONFIGURED: "set it under [[brokers]]",
    BrokerCause.DNS: "check the host name in its url",
    BrokerCause.CONNECT: "check that it runs, and listens where its url says",
    BrokerCause.TLS: "check its certificate, and whether its url should be http",
    BrokerCause.TIMEOUT: "see whether it is overloaded, or raise its timeout_s",
    BrokerCause.SERVICE_UNAVAILABLE: "try again later, and see the broker's own log",
    BrokerCause.AUTH: "check its api_key",
    BrokerCause.QUOTA: "remove instances, or ask for a larger plan at the broker",
    BrokerCause.RATE_LIMITED: "ask it less often",
    BrokerCause.PROTOCOL: "check that its url and its gateway belong together",
    BrokerCause.STORAGE: "see the broker's own database and log",
    BrokerCause.UNKNOWN: "see the broker's own log",
}


class AnswerTooLong(BrokerFailure):
    """Raised for an answer that is longer than we read: asking for less may help."""


def failure(
    broker: str,
    cause: BrokerCause,
    what: str,
    kind: type[BrokerFailure] = BrokerFailure,
    **facts: Any,  # noqa: ANN401 - `BrokerFailure`'s own
) -> BrokerFailure:
    """`broker` as people know it, `what` it did, and what to do about that; `facts` are those of `BrokerFailure`."""
    return kind(cause, f"{broker} {what}; {_NEXT_STEPS[cause]}", **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer. `changes`: it was asked to change something; `has_changed`: its call has, before; `hidden`: its secrets."""

    broker: str
    changes: bool
    has_changed: bool = False
    status: int
    body: bytes = field(repr=False)
    response_time_ms: int
    request_id: str | None = None
    retry_after_s: float | None = None
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3

    def mapping(self) -> Mapping[str, Any]:
        """The object of a success. Raises `BrokerFailure`."""
        value = self.value()
        if not isinstance(value, dict):
            raise self.garbage("is no object")
        return value

    def mappings(self) -> list[Mapping[str, Any]]:
        """The objects of a success that is a list; what is none of them is left out. Raises `BrokerFailure`."""
        value = self.value()
        if not isinstance(value, list):
            raise self.garbage("is no list")
        return [item for item in value if isinstance(item, dict)]

    def value(self) -> Any:  # noqa: ANN401 - foreign JSON
        """Raises `BrokerFailure` for what is no success, or no JSON."""
        self.expect_success()
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise self.garbage("is no JSON") from None

    def expect_success(self) -> None:
        if not self.is_success:
            raise self.refusal()

    def expect_empty(self) -> None:
        """For a success that has nothing to say. Raises `BrokerFailure` where there is a body: somebody else wrote it."""
        self.expect_success()
        if self.body.strip():
            raise self.garbage("should be empty")

    def garbage(self, what: str) -> BrokerFailure:
        """A success that cannot be read: what was asked for has probably been done."""
        return self._failure(
            BrokerCause.PROTOCOL, f"answered {self.status} with a body that {what}", is_certain=not (self.changes or self.has_changed)
        )

    def refusal(self, cause: BrokerCause | None = None) -> BrokerFailure:
        """What this answer means where nothing better is known. A server that failed may have done the work before it did."""
        found = cause or _cause(self.status, self.words())
        is_certain = not (self.has_changed or (self.changes and (self.status >= 500 or self.status == 408)))  # noqa: PLR2004 - RFC 9110, 15.5.9 and 15.6
        return self._failure(found, f"answered {self.status}", is_certain=is_certain)

    def _failure(self, cause: BrokerCause, what: str, *, is_certain: bool) -> BrokerFailure:
        return failure(
            self.broker,
            cause,
            what,
            status=self.status,
            broker_code=self.broker_code(),
            request_id=self.request_id,
            retry_after_s=self.retry_after_s,
            response_time_ms=self.response_time_ms,
            is_certain=is_certain,
        )

    def words(self) -> str:
        """What its error says, in small letters, to search in; never to be shown."""
        return "\n".join(_texts(self._error()))[:_MAX_WORDS].lower()

    def broker_code(self) -> str | None:
        error = self._error()
        for found in (error.get("code"), error.get("error"), _inner(error, "exception").get("name"), _inner(error, "error").get("code")):
            if isinstance(found, str) and _CODE.fullmatch(found) and not any(secret in found for secret in self.hidden):
                return found
        return None

    def _error(self) -> Mapping[str, Any]:
        try:
            said = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return said if isinstance(said, dict) else {}


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds from now, at most an hour; from seconds or an HTTP date. None where it says nothing of use."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def code_of(header: str | None) -> str | None:
    """A header's value where it is short and plain, as an identifier is."""
    return header if header and re.fullmatch(r"[A-Za-z0-9_.:=+/-]{1,128}", header) else None


def _cause(status: int, words: str) -> BrokerCause:
    if status == 402 or (status in _QUOTA_STATUSES and _QUOTA_WORDS.search(words)):  # noqa: PLR2004 - the statuses' own numbers
        return BrokerCause.QUOTA
    if "rate-overlimit" in words:  # WhatsApp's own word, behind whatever status
        return BrokerCause.RATE_LIMITED
    if (known := _CAUSES.get(status)) is not None:
        return known
    if _STORAGE_WORDS.search(words):
        return BrokerCause.STORAGE
    if status >= 500:  # noqa: PLR2004
        return BrokerCause.SERVICE_UNAVAILABLE
    return BrokerCause.UNKNOWN if status >= 400 else BrokerCause.PROTOCOL  # noqa: PLR2004 - a redirect is never followed


_CAUSES = {
    401: BrokerCause.AUTH,
    403: BrokerCause.AUTH,
    404: BrokerCause.PROTOCOL,
    405: BrokerCause.PROTOCOL,
    429: BrokerCause.RATE_LIMITED,
}
"""404: whoever knows that an instance was asked for looks before."""


def _inner(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = source.get(name)
    return found if isinstance(found, dict) else {}


def _texts(error: Mapping[str, Any]) -> Iterator[str]:
    """Where the four keep what they say: beside the status, in `response.message`, in `exception`."""
    for place in (error, _inner(error, "response"), _inner(error, "exception"), _inner(error, "error")):
        for name in ("error", "message", "detail", "name", "code"):
            said = place.get(name)
            yield from (text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str))
