"""The ingest door in a process of its own: `python -m benchmarks.door REDIS_URL`. Real routes, handler, segment writer and journal.

No reader: what is taken in stays in the journal, so that the figures are the door's alone. Says `ready PORT`, then answers each line on
standard input with what it has used and done so far.
"""

from __future__ import annotations

import json
import sys
import time

import anyio
import anyio.to_thread
import uvloop

from benchmarks.load import SHARDS, catalog_of, preparation_for
from benchmarks.subjects import ROOM
from worker.adapters.redis_store import open_redis_store
from worker.api.server import application, serving
from worker.domain.ids import Shard
from worker.gateways import GATEWAYS
from worker.ingest.door import Door
from worker.ingest.handler import Ingest
from worker.ingest.routes import ingest_routes
from worker.ingest.segments import SegmentWriter
from worker.lifecycle import calm_collector, monotonic_s
from worker.metrics import Metrics

MAX_BODY_BYTES = 4 << 20


async def main(redis_url: str) -> None:
    catalog = catalog_of([""])
    async with open_redis_store(redis_url, shards=SHARDS) as store:
        writer = SegmentWriter(store.journal, SHARDS, monotonic_s)
        door = Door(store.room, [Shard(n) for n in range(SHARDS)], ROOM)
        ingest = Ingest(preparation_for(catalog), GATEWAYS, writer, door, Metrics(), monotonic_s)
        app = application(ingest_routes(ingest, max_body_bytes=MAX_BODY_BYTES), max_body_bytes=MAX_BODY_BYTES)
        async with anyio.create_task_group() as running, serving(app, "127.0.0.1", 0) as port:
            running.start_soon(writer.run)
            await running.start(door.run)
            calm_collector()
            print("ready", port, flush=True)
            while await anyio.to_thread.run_sync(sys.stdin.readline):
                appends = writer.statistics()
                told = {"cpu_s": time.process_time(), "events": ingest.intake.events, "appends": appends["calls"]}
                print(json.dumps(told), flush=True)
            running.cancel_scope.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
