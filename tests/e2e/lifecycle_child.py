"""A small process with the worker's lifecycle and nothing else. Run as a script: `lifecycle_child.py <behaviour>`."""

from __future__ import annotations

from worker.lifecycle import arm, monotonic_s

signals = arm()

import asyncio  # noqa: E402 - the point: signals are taken before anything heavy is loaded
import sys  # noqa: E402
import time  # noqa: E402

import anyio  # noqa: E402
import uvloop  # noqa: E402

from worker.adapters.data_dir import held_data_dir  # noqa: E402, F401 - heavy enough to be like the real thing


def say(line: str) -> None:
    print(line, flush=True)


async def drain() -> None:
    """Ends at the first signal; says how long ago it came."""
    signals.attach(asyncio.get_running_loop())
    say("ready")
    await signals.wait_first()
    assert signals.first_at_s is not None
    say(f"drained {signals.name} {monotonic_s() - signals.first_at_s < 5}")


async def spill() -> None:
    """Drains for ever; ends when somebody asks to spill."""
    signals.attach(asyncio.get_running_loop())
    say("ready")
    await signals.wait_first()
    say("draining")
    await signals.wait_spill()
    say(f"spilled {signals.seen}")


async def stuck_in_python() -> None:
    """Takes the signal and then never ends."""
    signals.limit(0.5)
    signals.attach(asyncio.get_running_loop())
    say("ready")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever, name="the task that hangs")


async def stuck_in_c() -> None:
    """The main thread sits in a C call that no Python handler can interrupt."""
    signals.limit(0.5)
    signals.attach(asyncio.get_running_loop())
    say("ready")
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        time.sleep(60)  # the loop is blocked: nothing of asyncio runs any more


if __name__ == "__main__":
    behaviour = {"drain": drain, "spill": spill, "stuck_in_python": stuck_in_python, "stuck_in_c": stuck_in_c}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[2:] == ["uvloop"] else None) as runner:
        runner.run(behaviour())
