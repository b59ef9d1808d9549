"""The worker, with a lock-out that never comes: a test that tries thousands of wrong keys wants its 401 each time."""

from __future__ import annotations

import sys

from worker.__main__ import main
from worker.api import lock_out

if __name__ == "__main__":
    lock_out.WRONG_KEYS = sys.maxsize
    sys.exit(main(["run"]))
