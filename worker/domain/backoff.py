"""The one backoff formula: the wait grows, is capped, then jittered. Pure; the caller brings the randomness."""

from __future__ import annotations

JITTER = 0.2


def doubled_s(first_s: float, step: int, cap_s: float) -> float:
    """`first_s` doubled `step` times, at most `cap_s`; no overflow however large `step`."""
    return min(cap_s, first_s * 2.0 ** min(step, 60))


def jittered_s(wait_s: float, unit_random: float) -> float:
    """`wait_s` × uniform(0.8, 1.2); `unit_random` is uniform in [0, 1)."""
    return wait_s * (1 - JITTER + 2 * JITTER * unit_random)
