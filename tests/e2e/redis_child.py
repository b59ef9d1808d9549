"""A process that holds an embedded Redis until it is told to end. Run as a script: `redis_child.py <data dir>`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import anyio

from worker.adapters.embedded_redis import embedded_redis


async def main() -> None:
    async with embedded_redis(Path(sys.argv[1])) as server:
        print(server.pid, server.socket, flush=True)
        with anyio.open_signal_receiver(signal.SIGTERM) as asked:
            async for _ in asked:
                return


anyio.run(main)
