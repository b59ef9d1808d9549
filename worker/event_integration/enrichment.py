"""The port of enrichment: what delivery asks of whoever knows contacts (`worker/contact_metadata_cache/`).

Asked only for webhooks that want it (`enrich_contact`) and whose body has room for it (`normalized`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from worker.domain.contact import Contact
from worker.domain.deadline import Deadline
from worker.domain.record import Record

ENRICH_WITHIN_S = 0.25
"""From when an event was read, not from when its attempt begins: what waits behind others in its lane does not wait for each of them."""
AGAIN_WITHIN_S = 0.05
"""Of what comes out of the retry queue: its budget is spent, so the store is waited for and no broker. A handover parks many at once."""


class Enrichment(Protocol):
    """Costs an event its own small budget and nobody else anything. What goes wrong inside is "nothing is known"."""

    def expect(self, record: Record) -> None:
        """The event will be delivered: what is not known is looked for from now on, beside everything. Never waits."""
        ...

    async def contact(self, record: Record, deadline: Deadline) -> Contact | None:
        """What is known of the event's contact, at the latest at `deadline` (on the loop's clock). Cancel-safe."""
        ...

    async def run(self) -> None:
        """Looks for what is expected, until cancelled."""
        ...

    def statistics(self) -> Mapping[str, object]:
        """For `/status`."""
        ...
