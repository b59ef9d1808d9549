"""The command line: `python -m worker [run|check|simulate|replay]`, installed as `whatsapp-worker`; `run` is the default.

The process's signals are taken before anything heavy is imported, so that a SIGTERM during the start is a drain like any other.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of `signal`, 10 ms earlier than the whole: a SIGTERM waits from here on
import sys

if __name__ == "__main__" and sys.argv[1:2] in ([], ["run"]):
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT))

from worker.lifecycle import arm, open_standard_streams


def main(arguments: list[str] | None = None) -> int:
    """Runs what was asked for and answers the exit code (contract 1)."""
    open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    signals = arm() if words[:1] in ([], ["run"]) else None
    if signals is not None and words in ([], ["run"]):
        from worker.commands.run import run

        return run(signals)
    if signals is not None and words[1:2] == ["--seat"]:  # a child of `run --processes`; the rest is its parent's word
        from worker.commands.run import run_in_seat

        return run_in_seat(signals, words[2])

    from worker.commands.line import line

    return line(words, signals)


if __name__ == "__main__":
    sys.exit(main())
