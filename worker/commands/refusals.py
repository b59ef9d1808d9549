"""What an operator can mend becomes a line on stderr and an exit code; everything else stays an exception."""

from __future__ import annotations

import sys
from collections.abc import Callable

from worker.domain.errors import ConfigurationError, DependencyUnreachable, StoreUnavailable
from worker.lifecycle import ExitCode
from worker.settings import Settings, load

Tell = Callable[[list[str], ExitCode], None]


def on_stderr(lines: list[str], _code: ExitCode) -> None:
    print(*lines, sep="\n", file=sys.stderr)


def guarded(command: Callable[[Settings], int], tell: Tell = on_stderr) -> int:
    """Loads the settings and runs the command with them; one line per fault, 78 for a wrong setting, 69 for what cannot be reached."""
    try:
        return command(load())
    except ConfigurationError as error:
        tell(error.faults, ExitCode.MISCONFIGURED)
        return ExitCode.MISCONFIGURED
    except (DependencyUnreachable, StoreUnavailable) as error:
        tell([str(error)], ExitCode.UNREACHABLE)
        return ExitCode.UNREACHABLE
