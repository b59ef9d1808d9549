"""Who is counted, what `off` means, and what happens when nobody can count."""

from __future__ import annotations

import pytest
import structlog

from worker.api.endpoints import ApiError, Call, CallKind
from worker.api.limits import Limits, Rate, rates
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import TenantId

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")


class Counts:
    """Says `wait_s`, or fails; remembers who asked for whom."""

    def __init__(self, wait_s: float = 0.0, fault: Exception | None = None) -> None:
        self.wait_s = wait_s
        self.fault = fault
        self.asked: list[tuple[str, str, int, int]] = []

    async def count(self, whose: str, kind: str, *, calls: int, window_s: int) -> float:
        self.asked.append((whose, kind, calls, window_s))
        if self.fault is not None:
            raise self.fault
        return self.wait_s


def call(*, is_admin: bool = False, key: str | None = None) -> Call:
    return Call(request_id="r", actor="key:0", is_admin=is_admin, tenant=ACME, idempotency_key=key)


LIMITS = rates({"read": "10/15", "create": "10/60", "sync": "off", "refresh": "5/60"})


def test_a_rate_is_calls_and_seconds() -> None:
    assert {CallKind.READ: Rate(10, 15), CallKind.CREATE: Rate(10, 60), CallKind.REFRESH: Rate(5, 60)} == LIMITS


async def test_a_call_is_counted_for_its_tenant_and_kind() -> None:
    counts = Counts()
    await Limits(counts, LIMITS).count(call(), CallKind.READ)
    assert counts.asked == [("acme", "read", 10, 15)]


async def test_a_call_too_many_says_the_limit_and_how_long_to_wait() -> None:
    with pytest.raises(ApiError) as told:
        await Limits(Counts(wait_s=3.2), LIMITS).count(call(), CallKind.CREATE)
    assert (told.value.status, told.value.code, told.value.details) == (429, "RATE_LIMITED", {"limit": 10, "windowS": 60})
    assert told.value.retry_after_s == 3.2


async def test_what_is_off_and_what_the_operator_does_is_not_counted() -> None:
    counts = Counts(wait_s=60)
    await Limits(counts, LIMITS).count(call(), CallKind.SYNC)
    await Limits(counts, LIMITS).count(call(is_admin=True), CallKind.READ)
    assert counts.asked == []


async def test_a_call_that_repeats_a_known_one_is_not_counted() -> None:
    async def is_known(tenant_id: TenantId, key: str) -> bool:
        return (tenant_id, key) == (ACME, "known")

    counts = Counts()
    limits = Limits(counts, LIMITS, is_known)
    await limits.count(call(key="known"), CallKind.CREATE)
    assert counts.asked == []
    await limits.count(call(key="new"), CallKind.CREATE)
    await limits.count(call(), CallKind.CREATE)
    assert len(counts.asked) == 2


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), StoreFull("full")])
async def test_where_nobody_can_count_calls_are_let_through_and_that_is_said_once(fault: Exception) -> None:
    counts = Counts(fault=fault)
    limits = Limits(counts, LIMITS)
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            await limits.count(call(), CallKind.READ)
        counts.fault = None
        await limits.count(call(), CallKind.READ)
        counts.fault = fault
        await limits.count(call(), CallKind.READ)
    assert [line["event"] for line in lines] == ["calls_not_counted"] * 2
