"""The demo's receivers over real HTTP: their tempers, their counts, and a pusher that never raises."""

from __future__ import annotations

import pytest

from worker.adapters.http_push import pushing
from worker.api.demo_sink import DemoSink, demo_sink_routes
from worker.api.server import application, serving

pytestmark = pytest.mark.anyio


async def test_the_failing_receiver_refuses_two_of_three_but_never_a_fifth_attempt() -> None:
    sink = DemoSink()
    async with serving(application(demo_sink_routes(sink), max_body_bytes=1 << 20), "127.0.0.1", 0) as listening, pushing() as push:
        url = f"http://127.0.0.1:{listening.port}/demo/sink/failing"
        assert [await push.post(url, b"{}") for _ in range(6)] == [500, 500, 200, 500, 500, 200]
        assert [await push.post(url, b"{}", {"x-delivery-attempt": "5"}) for _ in range(3)] == [200, 200, 200]
        assert await push.post(f"http://127.0.0.1:{listening.port}/demo/sink/fast", b"x" * 100_000) == 200
    assert sink.statistics() == {
        "fast": {"received": 1, "answered": 1},
        "slow": {"received": 0, "answered": 0},
        "failing": {"received": 9, "answered": 5},
    }


async def test_a_push_to_nobody_is_no_answer_rather_than_an_error() -> None:
    async with pushing() as push:
        assert await push.post("http://127.0.0.1:9/ingest/generic/demo-generic", b"{}") is None
