"""Guessing keys gets slower and slower: after ten wrong ones within a minute an address waits, a second at first, at most a minute.

A key that was right here before is let in all the same: customers share proxies with guessers. Memory: two bounded tables, the
oldest entries give way. Does not protect against a guesser with thousands of addresses; the length of the keys does.

```
          10 wrong in 60 s              the wait ends; another wrong key
 free ───────────────────────▶ locked ◀──────────────────────────────── watched
   ▲                              └──────────────── waits 1, 2, 4 … 60 s ──▶ │
   └────────────────────────────── a minute without a wrong key ────────────┘
```
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

WRONG_KEYS = 10
WITHIN_S = 60.0
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
MAX_PEERS = 4_096
MAX_RIGHT_KEYS = 10_000
_IPV6_CUSTOMER_BITS = 64


@dataclass(slots=True)
class _Peer:
    """`wrong`: within the minute that began at `since_s`. `wait_s` 0: was not locked out yet."""

    since_s: float
    wrong: int = 0
    wait_s: float = 0.0
    locked_until_s: float = 0.0


class LockOut:
    """Ask `wait_s` before a key is looked at, then say what it was. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self._right: OrderedDict[str, None] = OrderedDict()

    def wait_s(self, peer: str, key_sha256: str) -> float:
        """How long this key may not even be looked at; 0: it may."""
        known = self._peers.get(_customer(peer))
        if known is None or key_sha256 in self._right:
            return 0.0
        return max(0.0, known.locked_until_s - self._clock())

    def was_right(self, key_sha256: str) -> None:
        self._right[key_sha256] = None
        self._right.move_to_end(key_sha256)
        if len(self._right) > MAX_RIGHT_KEYS:
            self._right.popitem(last=False)

    def was_wrong(self, peer: str, key_sha256: str) -> float:
        """Counts it; answers how long the address must wait from now on, 0 where it need not yet."""
        self._right.pop(key_sha256, None)
        now_s = self._clock()
        known = self._watched(_customer(peer), now_s)
        known.wrong += 1
        if known.wrong < WRONG_KEYS and not known.wait_s:
            return 0.0
        known.since_s = now_s
        known.wait_s = min(LONGEST_WAIT_S, known.wait_s * 2 or FIRST_WAIT_S)
        known.locked_until_s = now_s + known.wait_s
        return known.wait_s

    def statistics(self) -> dict[str, int]:
        now_s = self._clock()
        return {"peers": len(self._peers), "locked_out": sum(peer.locked_until_s > now_s for peer in self._peers.values())}

    def _watched(self, customer: str, now_s: float) -> _Peer:
        known = self._peers.get(customer)
        if known is None or now_s - max(known.since_s, known.locked_until_s) >= WITHIN_S:
            known = self._peers[customer] = _Peer(since_s=now_s)
        self._peers.move_to_end(customer)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        return known


def _customer(peer: str) -> str:
    """An IPv6 customer has a whole /64 to guess from."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, _IPV6_CUSTOMER_BITS), strict=False))
    return str(address)
