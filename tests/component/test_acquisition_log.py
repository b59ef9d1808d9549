"""A start says in one line which shards it got, however many there are."""

from __future__ import annotations

import pytest
import structlog

from tests.component.rig import pass_time, rig

pytestmark = pytest.mark.anyio


async def test_a_round_of_acquisition_is_one_line_with_what_waits_in_all() -> None:
    async with rig() as it:
        a = await it.start("a")
        await it.push(a, 3)
        await pass_time(1)
        await a.kill()
        with structlog.testing.capture_logs() as lines:
            b = await it.owning("b")
            await pass_time(5)
        [said] = [line for line in lines if line["event"] == "shards_acquired"]
        assert said["log_level"] == "info"
        assert said["shards"] == sorted(b.holds)
        assert {line["log_level"] for line in lines if line["event"] in {"tenure_started", "tenure_resumed"}} == {"debug"}
