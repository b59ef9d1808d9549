"""How many attempts the healthy have under way and how many the confined, against one limit. Pure; `bulkheads.py` says who is which."""

from __future__ import annotations


class Share:
    """Slots of which the confined may take half and the healthy always keep the other; counts may be moved between the two."""

    __slots__ = ("confined", "for_confined", "healthy", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.for_confined = total // 2
        self.healthy = 0
        self.confined = 0

    def room(self, *, confined: bool) -> int:
        if confined:
            return min(self.for_confined - self.confined, self.total - self.healthy - self.confined)
        return self.total - self.healthy - min(self.confined, self.for_confined)

    def has_healthy_room(self) -> bool:
        taken = min(self.for_confined, self.confined)
        return self.total - self.healthy - taken > 0

    def add(self, count: int, *, confined: bool) -> None:
        if confined:
            self.confined += count
        else:
            self.healthy += count

    def move(self, count: int, *, to_confined: bool) -> None:
        self.add(count, confined=to_confined)
        self.add(-count, confined=not to_confined)
