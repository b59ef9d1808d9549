"""The connection's port: one gateway stream of one instance, whatever the protocol. Its adapters are in `adapters/sockets/`.

A connection only reads and sends receipts. When to connect, to wait, to give up or to leave is the session's business: no adapter retries,
pings on its own beyond what its protocol needs, or remembers anything from one connection to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from worker.domain.catalog import Instance
from worker.domain.errors import WorkerError


class Frame(NamedTuple):
    """One message of the stream, whole: what a push of the same gateway would hold as its body."""

    body: bytes
    event_id: str | None
    """What a receipt names; None where the gateway wants none."""


class CloseReason(StrEnum):
    """Why a connection is not there (a closed set: the label `reason` of `websocket.reconnects`)."""

    REFUSED = "refused"
    """Nobody listens, DNS, TLS, or the server said no with 5xx or 429."""
    UNAUTHORIZED = "unauthorized"
    """Our key is not good for this stream: the operator has to act; tried again seldom."""
    UNKNOWN_INSTANCE = "unknown_instance"
    TIMEOUT = "timeout"
    """Connecting, or a ping, was not answered in time."""
    REPLACED = "replaced"
    """Somebody else took our place: whoever reads this first asks whether it still owns the shard."""
    SERVER_LEFT = "server_left"
    """It said goodbye: restart, deploy."""
    BROKEN = "broken"
    """Reset, end of stream without a goodbye."""
    PROTOCOL = "protocol"
    """It sent what its protocol does not allow, or more than we take in one frame."""
    SILENT = "silent"
    """Connected, but not even a ping came: closed by us."""
    STALLED = "stalled"
    """What was read could not be journalled within 5 s: closed by us, without a receipt."""
    LEFT = "left"
    """We said goodbye."""
    LEASE_LOST = "lease_lost"
    """Closed by us without a goodbye: that the shard is ours could not be proved any more."""


class ConnectionClosed(WorkerError):
    """Raised by `connect`, `receive` and `acknowledge` when there is no connection (any more). The message names cause and next step."""

    def __init__(self, reason: CloseReason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Connection(Protocol):
    """One open stream. Used by one task, but for `acknowledge`, which may run beside `receive`."""

    async def receive(self) -> Frame | None:
        """The next message; None: a sign of life without one (ping, comment). Raises `ConnectionClosed`.

        Frames come in the order sent, each at most `MAX_FRAME_BYTES`. Cancel-safe: a frame that was not answered comes with the next call.
        After `leave` it gives what the gateway had sent before it heard of that, then raises `ConnectionClosed(LEFT)`.
        """
        ...

    async def acknowledge(self, event_ids: Sequence[str]) -> int:
        """Sends receipts for what is durable; idempotent at the gateway. Raises `ConnectionClosed`, also where they were refused.

        Answers for how many the gateway has them now: what it does not know any more needs none.
        """
        ...

    async def ping(self) -> None:
        """Asks for a sign of life, where the protocol lets a client ask; the answer comes through `receive`. Raises `ConnectionClosed`."""
        ...

    async def leave(self) -> None:
        """Says goodbye at a message boundary and stops the other side from sending. Idempotent; returns at once; reading goes on."""
        ...

    async def close(self) -> None:
        """Gives everything back now. Idempotent; bounded to 1 s; never raises."""
        ...


class Connector(Protocol):
    """One configured broker's streams. Made by `adapters.sockets.open_connector` for the gateways that have one."""

    @property
    def gateway(self) -> str: ...

    @property
    def transport(self) -> str:
        """What events say of how they came: `websocket` or `sse`."""
        ...

    @property
    def wants_receipts(self) -> bool: ...

    @property
    def allows_two_readers(self) -> bool:
        """Whether a successor may read before the old reader has gone; both then see every event."""
        ...

    async def connect(self, instance: Instance, *, after: str | None, timeout_s: float) -> Connection:
        """Opens the instance's stream; `after`: the `event_id` of the last frame that is durable, where the gateway resumes by it.

        Whatever that says, it is told again what no receipt came for. None, or an id not known any more: also some that had theirs.
        Raises `ConnectionClosed` (`REFUSED`, `UNAUTHORIZED`, `UNKNOWN_INSTANCE`, `TIMEOUT`, `PROTOCOL`). Cancelling leaves nothing open.
        """
        ...

    async def close(self) -> None:
        """Closes every connection; idempotent; bounded to 1 s."""
        ...


MAX_FRAME_BYTES = 4 << 20
