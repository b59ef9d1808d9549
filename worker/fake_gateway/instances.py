"""What a fake gateway remembers: its instances, in memory, and what became of each. Speaks no gateway's language."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from worker.adapters.clock import utc_now


def now_ms() -> int:
    return int(utc_now().timestamp() * 1000)


class State(StrEnum):
    STOPPED = "stopped"
    SCAN = "scan"
    """Running, with a code to be scanned."""
    OPEN = "open"
    LOST = "lost"
    """Paired, but its connection to WhatsApp is down for now."""
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class FakeInstance:
    """One instance. `push_url`, `push_secret`, `push_events`: where it pushes what, as it was told at its creation."""

    number: int
    name: str
    token: str = field(default="", repr=False)
    push_url: str | None = field(default=None, repr=False)
    push_secret: str | None = field(default=None, repr=False)
    push_events: tuple[str, ...] = ()
    state: State = State.SCAN
    phone: str | None = field(default=None, repr=False)
    codes: int = 1
    """How many codes it has shown."""
    changed_ms: int = field(default_factory=now_ms)

    @property
    def is_running(self) -> bool:
        return self.state is not State.STOPPED

    @property
    def code(self) -> str | None:
        """What WhatsApp would let people scan; the shape of the real thing, the keys invented."""
        return f"2@{self.name}/{self.codes},SAMPLE-KEY,SAMPLE-IDENTITY,SAMPLE-SECRET" if self.state is State.SCAN else None

    def enter(self, state: State) -> None:
        self.state = state
        self.changed_ms = now_ms()
        if state is State.SCAN:
            self.codes += 1

    def pair(self, phone: str) -> None:
        """Somebody scans the code."""
        self.phone = phone
        self.enter(State.OPEN)

    def unpair(self, state: State = State.SCAN) -> None:
        """Logged out; `state` is where the gateway leaves it."""
        self.phone = None
        self.enter(state)


class Instances(dict[str, FakeInstance]):
    """By name; numbered in the order of creation, across deletions."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    def make(self, name: str) -> FakeInstance:
        """A second one of the same name, where a gateway allows that, stands under `name#number`."""
        self._made += 1
        made = FakeInstance(number=self._made, name=name)
        self[name if name not in self else f"{name}#{self._made}"] = made
        return made

    def remove(self, instance: FakeInstance) -> None:
        del self[next(key for key, found in self.items() if found is instance)]

    def numbered(self, number: str) -> FakeInstance | None:
        return next((instance for instance in self.values() if str(instance.number) == number), None)
