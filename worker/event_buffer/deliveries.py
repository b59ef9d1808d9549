"""What waits: an event in memory, its deliveries, and the chats in which deliveries keep their order. Pure.

Where a webhook wants order (design 3 "Order") a chat has one delivery ahead and the others in line behind it:

```
 new ──▶ line ──▶ ahead: in its lane, under way, or on its way into the store ──▶ out of memory
   │       │                 │ it is parked, or becomes a claim
   │       └─ all of it ─────┴──▶ the store (`parked`)
   └─ while anything of the chat waits there ──▶ the store, behind it
```

The store decides who is the head there. `parked` is this worker's copy and errs upwards only: a chat that is thought to wait costs a
detour through the store, a waiting one that is thought free would be overtaken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile

from worker.client_registry.tenure import Tenure
from worker.domain.ids import ClaimId, DeliveryId, Position, WebhookId
from worker.domain.record import Record

TRUST_NOTHING = -1


class BufferedEvent:
    """An event in memory, shared by its deliveries; `users` counts those not let go yet."""

    __slots__ = ("position", "read_at_s", "record", "size", "tenure", "users")

    def __init__(self, tenure: Tenure, position: Position, record: Record, size: int, read_at_s: float) -> None:
        self.tenure = tenure
        self.position = position
        self.record = record
        self.size = size
        self.read_at_s = read_at_s
        self.users = 0


class Delivery:
    """An event for one webhook, waiting or under way. `claim` None: it still counts against the journal."""

    __slots__ = ("attempts", "chat", "claim", "delivery_id", "event", "parked_for_s", "slow_reported", "webhook_id")

    def __init__(self, event: BufferedEvent, webhook_id: WebhookId, delivery_id: DeliveryId, chat: Chat | None = None) -> None:
        """`chat` only where the webhook wants order."""
        self.event = event
        self.webhook_id = webhook_id
        self.delivery_id = delivery_id
        self.chat = chat
        self.attempts = 0
        self.claim: ClaimId | None = None
        self.parked_for_s = 0.0
        self.slow_reported = False


class Chat:
    """Made and found by `event_integration/chat_order.py`; moved along by the buffer and by settling. `repr` shows counts."""

    __slots__ = ("_forget", "ahead", "key", "line", "parked", "parks", "users", "writing")

    def __init__(self, key: str, forget: Callable[[], object]) -> None:
        """`key` is its name in the store. `forget` is called when nothing of it is left."""
        self.key = key
        self._forget = forget
        self.ahead: Delivery | None = None
        self.line: deque[Delivery] = deque()
        self.parked = 0
        """Deliveries that wait in the store or under a claim, as far as this worker knows, those on their way there included."""
        self.parks = 0
        """Parks begun so far: tells whether an answer of the store is older than what was parked since."""
        self.writing: deque[Delivery] = deque()
        """On their way into the store, in the journal's order."""
        self.users = 0
        """Deliveries in memory that belong to this chat."""

    def __repr__(self) -> str:
        return f"<Chat line={len(self.line)} parked={self.parked} writing={len(self.writing)}>"

    def leave(self, delivery: Delivery) -> None:
        """The delivery left memory; with the last one, where nothing waits in the store, the chat is forgotten."""
        self.users -= 1
        if self.ahead is delivery:
            self.ahead = None
        if not self.users and not self.parked:
            self._forget()

    def begin_writing(self, delivery: Delivery, *, waits: bool) -> None:
        """A park is on its way; `waits` False for a dead letter, which holds back nobody once it is written."""
        self.writing.append(delivery)
        self.parks += 1
        self.parked += waits

    def end_writing(self, delivery: Delivery, *, is_relieved: bool) -> None:
        """The park was answered; `is_relieved`: it was counted, and does not wait after all (it was settled before)."""
        self.writing.remove(delivery)
        if is_relieved:
            self.parked = max(0, self.parked - 1)

    def written_before(self, delivery: Delivery) -> Iterator[Delivery]:
        """Those that must be in the store before this one, or come with it."""
        return takewhile(lambda earlier: earlier is not delivery, self.writing)

    def became_claim(self) -> None:
        """The attempt under way is a claim now: it counts as waiting."""
        self.parks += 1
        self.parked += 1

    def asking(self) -> int:
        """To be kept beside a settlement and handed to `settled`."""
        return TRUST_NOTHING if self.writing else self.parks

    def settled(self, delivery: Delivery, left: int, asked: int) -> None:
        """A claimed delivery left the store, where `left` of the chat still wait: believed unless something was parked meanwhile.

        One whose own park has no answer yet (it was written, and the answer lost) is taken off the count by that answer.
        """
        if asked == self.parks and not self.writing:
            self.parked = left
        elif all(other.delivery_id != delivery.delivery_id for other in self.writing):
            self.parked = max(0, self.parked - 1)
