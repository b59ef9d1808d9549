"""Becomes another program that dies with the process that started it. Run as a script, by path, never imported.

`python -I -S tethered.py <parent's process id> [--blocked] <program> [argument …]`. A small program between fork and exec, because the
worker has threads: Python run in a forked child of a threaded process (`preexec_fn`) can wait for ever on a lock that nobody holds.
`--blocked`: the program takes its signals itself, from its first statement on; till then they stay blocked, one that comes early is kept.

The tie is Linux's PR_SET_PDEATHSIG: it survives exec, and it is to the *thread* that forked, so that must be the main one.
Elsewhere there is none, and a server that outlives a killed worker is stopped at the next start instead.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(parent: int, command: list[str]) -> None:
    if command[0] == "--blocked":
        command = command[1:]
    else:
        # The worker blocks its signals (worker/lifecycle.py) and a child inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only there

        # Nothing gentler: whatever was acknowledged has been fsynced, and a hung server must go too.
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"cannot tie {command[0]} to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent died before it could be watched")
    os.execv(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
