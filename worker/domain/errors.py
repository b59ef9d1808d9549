"""One class for each situation that a caller treats differently. Every message names the cause and the next step."""

from __future__ import annotations


class WorkerError(Exception):
    """Root of what the worker raises on purpose."""


class MalformedEvent(WorkerError):
    """Raised when a body is not the gateway's envelope at all; `field` names what is wrong. Nothing was stored."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class CorruptRecord(WorkerError):
    """Raised when bytes from the store are not a record that this version can read; the event becomes a dead letter."""


class StoreUnavailable(WorkerError):
    """Raised when the store did not answer in time or refused the connection; whether the write happened is unknown."""


class StoreFull(WorkerError):
    """Raised when the store refuses to grow (`maxmemory`); nothing was written, or only what a repeat makes whole."""


class StaleToken(WorkerError):
    """Raised when a guarded write carried a token that is no longer the shard's newest. The tenure is over."""

    def __init__(self, shard: int, token: int) -> None:
        super().__init__(f"shard {shard}: token {token} has been superseded; this tenure ends")
        self.shard = shard
        self.token = token


class ConfigurationError(WorkerError):
    """Raised when the worker cannot start as configured; one line per fault: setting, value, what is allowed."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class DependencyUnreachable(WorkerError):
    """Raised when a dependency stayed away for longer than one may wait for it."""


def place_of(fault: BaseException) -> str:
    """Type and line; never the message, which may quote the payload."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else ""
    return type(fault).__name__ + place
