"""The worker, with a decoder that ends the process at records that hold a text: `poison_child.py <text>`."""

from __future__ import annotations

import os
import signal
import sys

from worker.__main__ import main
from worker.domain.record import Record, decode
from worker.event_integration import careful, pipeline


def lethal(data: bytes) -> Record:
    """As a parser that crashes would: no exception, no cleaning up."""
    if sys.argv[1].encode() in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data)


if __name__ == "__main__":
    pipeline.decode = careful.decode = lethal  # type: ignore[attr-defined] # all that is not as in earnest
    sys.exit(main(["run"]))
