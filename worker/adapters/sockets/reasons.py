"""What ended a stream, or kept it from opening, in the port's words. Pure.

Texts of the gateway are searched for words and never passed on, and neither is its address, for both may hold a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from worker.adapters.http_failures import explain
from worker.event_integration.transport import Cause
from worker.instances.broker import BrokerCause, BrokerFailure
from worker.websocket.port import CloseReason, ConnectionClosed

_NEXT_STEPS: Mapping[CloseReason, str] = {
    CloseReason.REFUSED: "see that the gateway runs, and that url of its [[brokers]] says where",
    CloseReason.UNAUTHORIZED: "check api_key of its [[brokers]]",
    CloseReason.UNKNOWN_INSTANCE: "check gateway_instance, or make the instance at the gateway",
    CloseReason.TIMEOUT: "see whether the gateway is overloaded",
    CloseReason.REPLACED: "see who else reads this instance's stream",
    CloseReason.SERVER_LEFT: "it is asked again by itself",
    CloseReason.BROKEN: "it is asked again by itself",
    CloseReason.PROTOCOL: "check that url and gateway of its [[brokers]] belong together, and what stands between",
    CloseReason.LEFT: "nothing is to be done",
}
_OK, _SWITCHING = 200, 101
_BY_STATUS: Mapping[int, CloseReason] = {
    401: CloseReason.UNAUTHORIZED,
    403: CloseReason.UNAUTHORIZED,
    404: CloseReason.UNKNOWN_INSTANCE,
    408: CloseReason.REFUSED,
    425: CloseReason.REFUSED,
    429: CloseReason.REFUSED,
}
_BY_CODE: Mapping[int, CloseReason] = {
    1008: CloseReason.UNAUTHORIZED,
    1002: CloseReason.PROTOCOL,
    1003: CloseReason.PROTOCOL,
    1007: CloseReason.PROTOCOL,
    1009: CloseReason.PROTOCOL,
    1010: CloseReason.PROTOCOL,
    1011: CloseReason.BROKEN,
}
"""RFC 6455, 7.4.1. Whatever else is a goodbye: restart, deploy, or no reason given."""
_WORDS_OF_REPLACEMENT = ("replaced", "conflict")
_BY_CAUSE: Mapping[Cause, CloseReason] = {
    Cause.DNS: CloseReason.REFUSED,
    Cause.REFUSED: CloseReason.REFUSED,
    Cause.RESET: CloseReason.REFUSED,
    Cause.TLS: CloseReason.REFUSED,
    Cause.FORBIDDEN: CloseReason.REFUSED,
    Cause.TIMEOUT: CloseReason.TIMEOUT,
}
_BY_BROKER_CAUSE: Mapping[BrokerCause, CloseReason] = {
    BrokerCause.NOT_CONFIGURED: CloseReason.UNAUTHORIZED,
    BrokerCause.AUTH: CloseReason.UNAUTHORIZED,
    BrokerCause.TIMEOUT: CloseReason.TIMEOUT,
    BrokerCause.PROTOCOL: CloseReason.PROTOCOL,
    BrokerCause.UNKNOWN: CloseReason.PROTOCOL,
}
"""The rest is REFUSED: nobody was reached, or it said no for now."""


class Ending(NamedTuple):
    """Why there is no connection, and what happened, as the end of a sentence that begins with the broker's name."""

    reason: CloseReason
    what: str
    retry_after_s: float | None = None

    def closed(self, broker: str) -> ConnectionClosed:
        """A new exception each time: one that is raised twice would carry its own past."""
        message = f"{broker} {self.what}; {_NEXT_STEPS[self.reason]}"
        return ConnectionClosed(self.reason, message, retry_after_s=self.retry_after_s)


def of_exception(exc: Exception) -> Ending:
    """Of what the client raised before there was a stream."""
    cause, detail = explain(exc)
    return Ending(_BY_CAUSE.get(cause, CloseReason.PROTOCOL), f"could not be connected to: {detail}")


def of_status(status: int, retry_after_s: float | None) -> Ending:
    """Of an answer that opened no stream."""
    reason = _BY_STATUS.get(status, CloseReason.REFUSED if status >= 500 else CloseReason.PROTOCOL)  # noqa: PLR2004 - RFC 9110, 15.6
    what = "answered what is no stream of its kind" if status in {_OK, _SWITCHING} else f"answered {status}"
    return Ending(reason, what, retry_after_s)


def of_close_frame(code: int, text: str) -> Ending:
    """Of a websocket's close frame; `code` 0: it gave none."""
    said = text.lower()
    is_replaced = any(word in said for word in _WORDS_OF_REPLACEMENT)
    reason = CloseReason.REPLACED if is_replaced else _BY_CODE.get(code, CloseReason.SERVER_LEFT)
    return Ending(reason, f"closed the stream with {code}" if code else "closed the stream without a reason")


def of_broker_failure(failure: BrokerFailure) -> ConnectionClosed:
    """Of a call beside the stream; its message names cause and next step already."""
    reason = _BY_BROKER_CAUSE.get(failure.cause, CloseReason.REFUSED)
    return ConnectionClosed(reason, str(failure), retry_after_s=failure.retry_after_s)
