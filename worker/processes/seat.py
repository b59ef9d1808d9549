"""Where a worker sits: alone, or as one of several children of a parent. A value, handed down on the child's command line."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, field

import orjson

ALIVE_EVERY_S = 5.0
"""How often a child says that its loop turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a parent tells its child at birth. The default is a worker that has none.

    `listening`: descriptors that listen already; `store_url`: of the parent's embedded server, None: as the settings say; `mark`: in the
    owner's name, the same for all children of one parent; `console`: what the child logs is read on a terminal.
    """

    index: int = 0
    of: int = 1
    listening: tuple[int, ...] = ()
    store_url: str | None = field(default=None, repr=False)
    mark: str = ""
    console: bool = False

    @property
    def has_parent(self) -> bool:
        return bool(self.listening)

    def word(self) -> str:
        """For the command line of the child."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_word(cls, word: str) -> Seat:
        told = orjson.loads(word)
        return cls(**{**told, "listening": tuple(told["listening"])})

    def sockets(self) -> list[socket.socket]:
        """To accept on; ours to close from here on. Call once."""
        return [socket.socket(fileno=descriptor) for descriptor in self.listening]
