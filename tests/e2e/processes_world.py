"""A worker of several processes, and what can be seen of each: by /proc, and on the port of its own."""

from __future__ import annotations

import re
import socket
import sys
from typing import Any

import orjson

from tests.e2e.rig import Rig, children_of, command_of, until


class Processes:
    """`run --processes N` of one rig's worker; `worker` is the parent."""

    def __init__(self, rig: Rig, toml: str, *, processes: int = 2, **settings: str) -> None:
        self.worker = rig.worker(toml, **settings)
        self.own_ports = free_ports(processes, beside=self.worker.port)
        self.worker.command = [
            *(sys.executable, "-m", "worker", "run"),
            *("--processes", str(processes), "--process-ports", str(self.own_ports[0])),
        ]
        self._session = rig.session

    def seats(self) -> dict[int, int]:
        """Index → process id, of those that run."""
        found = {}
        for pid in list(children_of(self.worker.pid)):
            if match := re.search(r'--seat \{"index":(\d+)', command_of(pid)):
                found[int(match[1])] = pid
        return found

    async def page(self, index: int, path: str) -> dict[str, Any]:
        """Of one process; empty where it does not answer."""
        try:
            async with self._session.get(f"http://127.0.0.1:{self.own_ports[index]}{path}") as answer:
                return dict(orjson.loads(await answer.read()))
        except OSError:
            return {}

    async def held(self) -> dict[int, list[int]]:
        """Index → the shards it owns."""
        rolez = {index: await self.page(index, "/rolez") for index in range(len(self.own_ports))}
        return {index: [row["shard"] for row in page.get("shards", [])] for index, page in rolez.items()}

    async def ready(self) -> None:
        """All of them, and every shard owned."""
        await self.worker.start()
        for index in range(len(self.own_ports)):
            while not (await self.page(index, "/readyz")).get("ready"):
                assert self.worker.is_alive, self.worker.lines()[-5:]


def free_ports(count: int, beside: int) -> list[int]:
    """In a row, without the one that somebody wants."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                for number in range(1, count):
                    socket.create_server(("127.0.0.1", port + number)).close()
            except OSError:
                continue
        found = [port + number for number in range(count)]
        if beside not in found:
            return found


async def gone(pids: list[int], within_s: float = 10) -> float:
    return await until(lambda: not any(command_of(pid) for pid in pids), within_s, "the processes are gone")
